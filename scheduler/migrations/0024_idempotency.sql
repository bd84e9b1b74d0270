-- What requests with an idempotency key have done, for a day, so that a repeated one gets the same answer and does nothing more.
-- Whose key it is (scope), the key itself (id) and what it was used for (request) are digests: nothing that a client sent is kept.
-- A row belongs to an attempt until `busy_until`; `changed` is set in the transaction of the change. The answer is encrypted with
-- a key that is not in the database, since it may hold a secret that is shown once.
CREATE TABLE idempotency_keys (
    scope TEXT NOT NULL,
    id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    request TEXT NOT NULL,
    attempt TEXT NOT NULL,
    busy_until BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    sealed_answer TEXT,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (scope, id)
);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (create_time);
CREATE INDEX idempotency_keys_by_namespace ON idempotency_keys (namespace);
