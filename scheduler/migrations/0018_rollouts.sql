-- The last rollout of each function: from which version to which its calls move by which steps ([percent, ...]), which step it
-- is at (from 0), and what came of it. A version that was taken out of traffic because it trapped has a row as well.
CREATE TABLE rollouts (
    function_uid TEXT PRIMARY KEY NOT NULL REFERENCES functions (uid) ON DELETE CASCADE,
    namespace TEXT NOT NULL REFERENCES namespaces (name),
    old_version BIGINT NOT NULL,
    new_version BIGINT NOT NULL,
    steps TEXT NOT NULL,
    step BIGINT NOT NULL,
    step_millis BIGINT NOT NULL,
    step_calls BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    creator TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);
