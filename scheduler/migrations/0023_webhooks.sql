-- Where events of a namespace are posted. Secrets are encrypted with a key that is not in the database; the one before the last
-- change signs too, until previous_until.
CREATE TABLE webhooks (
    namespace TEXT PRIMARY KEY NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    url TEXT NOT NULL,
    sealed_secret TEXT NOT NULL,
    sealed_previous TEXT,
    previous_until BIGINT NOT NULL,
    creator TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    gone_time BIGINT,
    dropped BIGINT NOT NULL
);

-- Events that are to be posted, were posted or were given up: `pending`, `delivered`, `given_up`. What happens once has a key of its
-- own. They belong to the namespace, so that no change fails because its webhook is being deleted.
CREATE TABLE webhook_deliveries (
    id TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    once_key TEXT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    event_time BIGINT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    tries BIGINT NOT NULL,
    next_time BIGINT NOT NULL,
    last_time BIGINT,
    status BIGINT NOT NULL,
    error TEXT NOT NULL,
    UNIQUE (namespace, once_key)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (state, next_time);
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (namespace, event_time);
