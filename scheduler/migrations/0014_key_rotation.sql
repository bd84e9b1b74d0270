-- The secret that a key had before its newest, and until when it stays valid; NULL where there is none.
ALTER TABLE api_keys ADD COLUMN old_secret_sha256 TEXT;
ALTER TABLE api_keys ADD COLUMN old_secret_expire_time BIGINT;
