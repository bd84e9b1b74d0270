-- How long records of invocations and lines of logs of a namespace are kept, and how many bytes of lines on each worker; NULL means
-- as gateways and workers are set.
ALTER TABLE namespaces ADD COLUMN log_retention_seconds BIGINT;
ALTER TABLE namespaces ADD COLUMN log_bytes BIGINT;
