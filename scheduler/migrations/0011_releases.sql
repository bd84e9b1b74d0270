-- What callers of a namespace got, numbered: each change of it makes the next release. `cause` says what was done, in words, and
-- `actor` who did it, empty where nobody asked for it.
CREATE TABLE releases (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    cause TEXT NOT NULL,
    actor TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (namespace, number)
);

-- What releases hold. A part is a function (its traffic, aliases and policy) or a route, as JSON in the form that `format` counts. It
-- is in every release from `since` on to the one before `until`; NULL means that the newest one has it. So a release costs what it
-- changes, however much there is.
CREATE TABLE release_parts (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    format BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (namespace, kind, name, since)
);
