-- What counted of a function with a version that had all its calls, from when it lost them until it has them again. NULL while it has them,
-- before it had them, and once somebody has said something else of the function itself.
ALTER TABLE versions ADD COLUMN kept_public BIGINT;
ALTER TABLE versions ADD COLUMN kept_direct BIGINT;
