-- How many calls of all its functions a namespace may have in a time in the cluster, as JSON; NULL means no bound.
ALTER TABLE namespaces ADD COLUMN rate TEXT;

-- The gateways that may hold parts of limited rates.
CREATE TABLE limit_holders (
    gateway TEXT PRIMARY KEY NOT NULL
);
