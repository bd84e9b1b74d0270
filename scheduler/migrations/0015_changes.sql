-- What each of the last versions of the configuration changed, so that a change need not read everything: a key or a route
-- by its namespace and name, or `core` for all that is neither. A version without a row may have changed anything.
CREATE TABLE config_changes (
    version BIGINT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL
);
