//! Compiles the schemas in pure Rust, so that building needs no `protoc`, and keeps the descriptors for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const SCHEMAS: [&str; 21] = [
    "dunlin/v1/access.proto",
    "dunlin/v1/alias.proto",
    "dunlin/v1/audit.proto",
    "dunlin/v1/cluster.proto",
    "dunlin/v1/function.proto",
    "dunlin/v1/invocation.proto",
    "dunlin/v1/log.proto",
    "dunlin/v1/namespace.proto",
    "dunlin/v1/plan.proto",
    "dunlin/v1/quota.proto",
    "dunlin/v1/release.proto",
    "dunlin/v1/route.proto",
    "dunlin/v1/usage.proto",
    "dunlin/v1/webhook.proto",
    "dunlin/internal/v1/artifact.proto",
    "dunlin/internal/v1/audit.proto",
    "dunlin/internal/v1/idempotency.proto",
    "dunlin/internal/v1/membership.proto",
    "dunlin/internal/v1/records.proto",
    "dunlin/internal/v1/session.proto",
    "dunlin/internal/v1/sync.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=dunlin");
    let descriptors = protox::compile(SCHEMAS, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection shows the public API only: the internal one is nobody's to explore.
    let mut public = descriptors.clone();
    public.file.retain(|file| !file.package().starts_with("dunlin.internal"));
    fs::write(out.join("public.binpb"), public.encode_to_vec())?;
    // They hold private keys: `secrets.rs` shows the rest of them.
    let secret = [".dunlin.internal.v1.DomainCertificate", ".dunlin.internal.v1.KeptAnswer"];
    tonic_prost_build::configure().bytes(".").skip_debug(secret).compile_fds(descriptors)?;
    Ok(())
}
