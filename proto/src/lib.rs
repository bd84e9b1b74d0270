//! The contract between Dunlin's processes, and between Dunlin and its users: schemas, ids, errors, metadata.
//!
//! Both sides of every wire use it, so it stays slim: no HTTP server, no database, no engine. Generated types live in
//! [`v1`] (public) and [`internal`] (between processes) and end at the rpc modules of the other crates; everything else
//! works with the validated types of [`ids`], [`names`], [`model`] and [`route`].

pub mod audit;
pub mod error;
pub mod fields;
pub mod idempotency;
pub mod ids;
pub mod limit;
pub mod local;
pub mod log;
pub mod metadata;
pub mod model;
pub mod names;
pub mod outbound;
pub mod outcome;
mod role;
pub mod route;
pub mod seal;
mod secrets;
pub mod standby;
pub mod trust;
pub mod vault;

pub use error::{ApiError, ErrorCode};

/// The public API, `dunlin.v1`.
#[allow(missing_docs, missing_debug_implementations, reason = "generated code; the schemas carry the documentation")]
#[allow(clippy::all, clippy::allow_attributes_without_reason, unreachable_pub, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("dunlin.v1");

    /// The descriptors of the public API, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.binpb"));
}

/// The API between Dunlin's own processes.
pub mod internal {
    /// Its first and only version.
    #[allow(
        missing_docs,
        missing_debug_implementations,
        reason = "generated code; the schemas carry the documentation"
    )]
    #[allow(clippy::all, clippy::allow_attributes_without_reason, unreachable_pub, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("dunlin.internal.v1");
    }
}

/// The version of the internal protocols (sync streams and sessions) that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The optional feature of sessions that a gateway may ask for a sign of life.
pub const FEATURE_PING: &str = "ping";

/// The largest artifact that may be uploaded, in bytes.
pub const MAX_ARTIFACT_BYTES: u64 = 64 << 20;

/// The largest chunk of an upload or of fetched code, in bytes.
pub const MAX_CHUNK_BYTES: usize = 256 << 10;

/// The largest piece of a body on a session, in bytes.
pub const MAX_BODY_CHUNK_BYTES: usize = 64 << 10;

/// The credit with which each direction of an invocation's body begins, in bytes.
pub const INITIAL_CREDIT_BYTES: u64 = 256 << 10;
