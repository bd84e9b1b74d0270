-- What invocations used in an hour, which began at so many seconds since 1970. Functions and versions may be gone since; key_id is
-- empty for calls without a key. Times are in microseconds, memory is peak bytes times run seconds.
CREATE TABLE usage_hours (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    hour BIGINT NOT NULL,
    function TEXT NOT NULL,
    function_uid TEXT NOT NULL,
    version BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    invocations BIGINT NOT NULL,
    cpu_us BIGINT NOT NULL,
    memory_byte_seconds BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    PRIMARY KEY (namespace, hour, function_uid, version, key_id)
);
CREATE INDEX usage_hours_by_hour ON usage_hours (hour);

-- The last report of usage that was counted of each start of a gateway: a report counts once.
CREATE TABLE usage_applied (
    gateway TEXT NOT NULL,
    boot TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    PRIMARY KEY (gateway, boot)
);

-- How much a namespace may use in a day or month, as JSON.
CREATE TABLE budgets (
    namespace TEXT PRIMARY KEY NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    budget TEXT NOT NULL
);
