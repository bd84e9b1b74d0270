-- How many invocations of all its functions a namespace may have at once in the cluster; NULL means no bound.
ALTER TABLE namespaces ADD COLUMN max_concurrency BIGINT;
