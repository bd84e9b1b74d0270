-- What came of trying to use a version's sandboxes again: NULL before it was tried, empty where it works, else why it does not.
ALTER TABLE versions ADD COLUMN reuse_refusal TEXT;
