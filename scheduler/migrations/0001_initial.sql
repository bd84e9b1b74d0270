-- All durable state, in types that SQLite and PostgreSQL share: TEXT and BIGINT. Times are microseconds since 1970,
-- digests are hexadecimal, lists and maps are JSON, truth is 0 or 1.

-- `config` counts every change that gateways must learn, `epoch` every start of the scheduler.
CREATE TABLE counters (
    name TEXT PRIMARY KEY NOT NULL,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('config', 1);
INSERT INTO counters (name, value) VALUES ('epoch', 0);

CREATE TABLE namespaces (
    name TEXT PRIMARY KEY NOT NULL,
    description TEXT NOT NULL,
    create_time BIGINT NOT NULL
);

-- `traffic` is [[version, percent], ...]; `history` lists the versions that had all of it, the current one last.
CREATE TABLE functions (
    uid TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL REFERENCES namespaces (name),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    public BIGINT NOT NULL,
    traffic TEXT NOT NULL,
    history TEXT NOT NULL,
    latest_version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    UNIQUE (namespace, name)
);

-- Immutable but for `activation`: 0 means that traffic stays where it is or has moved already, 1 that it moves to this
-- version once a worker has it.
CREATE TABLE versions (
    function_uid TEXT NOT NULL REFERENCES functions (uid) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    namespace TEXT NOT NULL REFERENCES namespaces (name),
    artifact TEXT NOT NULL,
    artifact_size BIGINT NOT NULL,
    kind TEXT NOT NULL,
    spec TEXT NOT NULL,
    imports TEXT NOT NULL,
    creator TEXT NOT NULL,
    note TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    compiled_size BIGINT NOT NULL,
    activation BIGINT NOT NULL,
    PRIMARY KEY (function_uid, number)
);

-- Which namespace has uploaded what. The bytes are stored once, but nobody else sees that they are there.
CREATE TABLE artifacts (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (namespace, digest)
);

-- Code compiled from an artifact for an engine, with the seal that makes it trusted. The bytes are in the object store.
CREATE TABLE codes (
    code_key TEXT PRIMARY KEY NOT NULL,
    artifact TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    size BIGINT NOT NULL,
    signature TEXT NOT NULL,
    kind TEXT NOT NULL,
    imports TEXT NOT NULL,
    create_time BIGINT NOT NULL
);

-- Callers' keys; only the hash of the secret.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    secret_sha256 TEXT NOT NULL,
    display_name TEXT NOT NULL,
    functions TEXT NOT NULL,
    creator TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    expire_time BIGINT,
    revoke_time BIGINT
);
CREATE INDEX api_keys_by_namespace ON api_keys (namespace, create_time, id);

-- What requests with an id have done, so that a repeated one does nothing more. The scope is a namespace, or empty for
-- the cluster.
CREATE TABLE requests (
    scope TEXT NOT NULL,
    method TEXT NOT NULL,
    id TEXT NOT NULL,
    payload TEXT NOT NULL,
    result TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (scope, method, id)
);
CREATE INDEX requests_by_time ON requests (create_time);

-- `member` is 1 from a worker's hello until it leaves: after a restart, its report is waited for.
CREATE TABLE workers (
    name TEXT PRIMARY KEY NOT NULL,
    member BIGINT NOT NULL,
    drained BIGINT NOT NULL
);
