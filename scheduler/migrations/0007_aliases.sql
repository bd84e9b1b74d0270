-- Names of a function's under which its calls divide over versions. `live` has no row: it is the function's own traffic.
-- `shares` is [[version, percent], ...], `sticky` says how callers are told apart, and `division` is the function's revision
-- when its calls began to be divided: callers keep their places while it stays.
CREATE TABLE aliases (
    function_uid TEXT NOT NULL REFERENCES functions (uid) ON DELETE CASCADE,
    name TEXT NOT NULL,
    namespace TEXT NOT NULL REFERENCES namespaces (name),
    shares TEXT NOT NULL,
    sticky TEXT NOT NULL,
    division BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    PRIMARY KEY (function_uid, name)
);
ALTER TABLE functions ADD COLUMN sticky TEXT NOT NULL DEFAULT '{}';
ALTER TABLE functions ADD COLUMN division BIGINT NOT NULL DEFAULT 0;

-- How many percent of the traffic a version gets that waits for it (`activation`); NULL means all.
ALTER TABLE versions ADD COLUMN canary BIGINT;
