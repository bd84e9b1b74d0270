-- What a version's deploy said of its function beside the code: it counts once the version has all calls, and is NULL from then on, as
-- where nothing was said.
ALTER TABLE versions ADD COLUMN public BIGINT;
ALTER TABLE versions ADD COLUMN direct BIGINT;
