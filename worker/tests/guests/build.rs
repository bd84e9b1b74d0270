//! Builds the guests that are crates of their own, for every test program that runs them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Builds a Rust guest with the compiler that has WebAssembly targets.
pub(crate) fn build_rust(folder: &Path, artifact: &str) -> Vec<u8> {
    let tools = std::env::var("DUNLIN_TOOLS")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools"), PathBuf::from);
    let rustc = tools.join("wasm-rust/bin/rustc");
    assert!(rustc.exists(), "no WebAssembly compiler at {}: run .ci/setup, or set DUNLIN_TOOLS", rustc.display());
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--target", "wasm32-wasip2"])
        .current_dir(folder)
        .env("RUSTC", rustc)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(built.success(), "building {} failed", folder.display());
    std::fs::read(folder.join("target/wasm32-wasip2/release").join(artifact)).unwrap()
}
