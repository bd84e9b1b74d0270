-- Functions whose rows name the same rollout move together: to the next step, back, and to the end. Before, each had its own.
ALTER TABLE rollouts ADD COLUMN rollout TEXT NOT NULL DEFAULT '';
UPDATE rollouts SET rollout = function_uid;
CREATE INDEX rollouts_by_rollout ON rollouts (rollout);

-- The rollout that began to divide a function's calls; empty means that something else did. Callers have the same places in all
-- divisions of one rollout.
ALTER TABLE functions ADD COLUMN seed TEXT NOT NULL DEFAULT '';

-- When it was first noticed that no version is made of an artifact any more; NULL while one is, and from each upload and each
-- deploy on until it is noticed again.
ALTER TABLE artifacts ADD COLUMN unused_since BIGINT;
CREATE INDEX versions_by_artifact ON versions (artifact, namespace);
