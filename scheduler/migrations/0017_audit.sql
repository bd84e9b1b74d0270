-- The audit log: one row a change, each with a hash over the row before. One row of `audit_ends` is its end, which every change
-- holds until its transaction ends, so that entries come one after the other; the other is the last one that was deleted.
CREATE TABLE audit_entries (
    sequence BIGINT PRIMARY KEY NOT NULL,
    time BIGINT NOT NULL,
    subject TEXT NOT NULL,
    issuer TEXT NOT NULL,
    role TEXT NOT NULL,
    token_id TEXT NOT NULL,
    address TEXT NOT NULL,
    gateway TEXT NOT NULL,
    action TEXT NOT NULL,
    namespace TEXT NOT NULL,
    resource TEXT NOT NULL,
    outcome TEXT NOT NULL,
    state_before TEXT NOT NULL,
    state_after TEXT NOT NULL,
    request_id TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX audit_entries_by_namespace ON audit_entries (namespace, sequence);
CREATE INDEX audit_entries_by_time ON audit_entries (time);

CREATE TABLE audit_ends (
    kind TEXT PRIMARY KEY NOT NULL,
    sequence BIGINT NOT NULL,
    hash TEXT NOT NULL,
    time BIGINT NOT NULL,
    signature TEXT NOT NULL
);
INSERT INTO audit_ends (kind, sequence, hash, time, signature) VALUES
    ('head', 0, '0000000000000000000000000000000000000000000000000000000000000000', 0, ''),
    ('checkpoint', 0, '0000000000000000000000000000000000000000000000000000000000000000', 0, '');
