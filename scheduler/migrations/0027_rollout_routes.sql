-- The routes that an app gets once its rollout has given the new versions all calls: JSON, as in `routes`. The row goes when the
-- rollout ends.
CREATE TABLE rollout_routes (
    rollout TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    app TEXT NOT NULL,
    routes TEXT NOT NULL
);
