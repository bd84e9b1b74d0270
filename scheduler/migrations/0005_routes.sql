-- Whether a function's automatic addresses are served although routes name it, and whether nobody may call it for now.
ALTER TABLE functions ADD COLUMN direct BIGINT NOT NULL DEFAULT 0;
ALTER TABLE functions ADD COLUMN disabled BIGINT NOT NULL DEFAULT 0;

-- Which requests become what; `spec` is JSON.
CREATE TABLE routes (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    creator TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- Which namespace owns a domain with every name below it.
CREATE TABLE domains (
    name TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    creator TEXT NOT NULL,
    create_time BIGINT NOT NULL
);
