-- Join tokens that have been used, by their ids, with the key that used them; forgotten once they have expired.
CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY NOT NULL,
    key_sha256 TEXT NOT NULL,
    identity TEXT NOT NULL,
    use_time BIGINT NOT NULL,
    expire_time BIGINT NOT NULL
);

-- The key that joined last under a role and name (a SPIFFE ID).
CREATE TABLE members (
    identity TEXT PRIMARY KEY NOT NULL,
    key_sha256 TEXT NOT NULL,
    join_time BIGINT NOT NULL
);
