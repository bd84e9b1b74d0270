-- What each key under a plan may use: calls in a time, calls in a day or month; both as JSON, NULL means no bound.
CREATE TABLE plans (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    rate TEXT,
    quota TEXT,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- The plan that a key is under, in its namespace.
ALTER TABLE api_keys ADD COLUMN plan TEXT;

-- Of a key's quota, what has been used or lent to gateways in a period, which begins at so many seconds since 1970.
CREATE TABLE quotas (
    key_id TEXT NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    period_start BIGINT NOT NULL,
    gone BIGINT NOT NULL,
    PRIMARY KEY (key_id, period_start)
);
