-- Whether the cluster gets a certificate for a domain: `acme` or `none`.
ALTER TABLE domains ADD COLUMN tls TEXT NOT NULL DEFAULT 'acme';

-- The certificate of a domain and what became of the last attempt to get one. Private keys are encrypted with a key that is not
-- in the database.
CREATE TABLE certificates (
    domain TEXT PRIMARY KEY NOT NULL REFERENCES domains (name) ON DELETE CASCADE,
    chain TEXT,
    sealed_key TEXT,
    issuer TEXT,
    start_time BIGINT,
    expire_time BIGINT,
    failures BIGINT NOT NULL,
    error TEXT NOT NULL,
    hint TEXT NOT NULL,
    attempt_time BIGINT NOT NULL
);

-- The cluster's account with each authority, by the URL of its directory, encrypted.
CREATE TABLE acme_accounts (
    directory TEXT PRIMARY KEY NOT NULL,
    sealed_credentials TEXT NOT NULL
);
