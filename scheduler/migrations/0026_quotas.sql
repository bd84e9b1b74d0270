-- Functions and namespaces have quotas, too, and keys a bound of calls at once.
ALTER TABLE namespaces ADD COLUMN quota TEXT;
ALTER TABLE plans ADD COLUMN max_concurrency BIGINT;

-- Of a quota, what has been used or lent to gateways in a period, which begins at so many seconds since 1970. `owner` says whose it is:
-- `key/` with an id, `function/` with a uid or `namespace/` with a name.
CREATE TABLE period_quotas (
    owner TEXT NOT NULL,
    period_start BIGINT NOT NULL,
    gone BIGINT NOT NULL,
    PRIMARY KEY (owner, period_start)
);
INSERT INTO period_quotas (owner, period_start, gone) SELECT 'key/' || key_id, period_start, gone FROM quotas;
DROP TABLE quotas;
