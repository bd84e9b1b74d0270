-- How it was proved that a namespace may have its domain: `dns`, `vouched` or `parent`. Those from before were given by operators' rules.
ALTER TABLE domains ADD COLUMN proof TEXT NOT NULL DEFAULT 'vouched';

-- Domains that namespaces ask for and have not proved yet: several may ask for one.
CREATE TABLE domain_claims (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    creator TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    tls TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    error TEXT NOT NULL,
    hint TEXT NOT NULL,
    attempt_time BIGINT NOT NULL,
    expire_time BIGINT NOT NULL,
    PRIMARY KEY (namespace, name)
);
CREATE INDEX domain_claims_due ON domain_claims (attempt_time);
