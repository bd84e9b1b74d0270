//! The only two places of this crate that need `unsafe`: mapping compiled code, and telling the compiler which CPU to
//! compile for. Nothing else belongs here; both callers have checked what the safety comments rely on.
#![expect(unsafe_code, reason = "the engine marks loading native code and choosing CPU features unsafe")]

use std::path::Path;

use wasmtime::component::Component;
use wasmtime::{Config, Engine};

/// Maps a compiled component into memory.
pub(super) fn map_compiled(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // JUSTIFICATION: compiling on the request path would cost seconds and expose the data plane to hostile input of the
    // compiler, so workers map what the scheduler's compiler wrote; the engine has no safe way to do so.
    // SAFETY: the file must be what `Component::serialize` wrote and must not change while it is mapped. The caller
    // passes only files of the worker's private cache (mode 0700, written once, never modified), whose signature was
    // verified against the cluster's compiler key. The engine refuses other versions, targets and settings by itself.
    unsafe { Component::deserialize_file(engine, path) }
}

/// Lets the compiler use CPU features, by the names of Cranelift's x86-64 settings.
pub(super) fn allow_cpu_features(config: &mut Config, flags: &[&str]) {
    for flag in flags {
        // JUSTIFICATION: without flags the engine either compiles for the machine it happens to run on, which other
        // workers may not match, or for plain x86-64, which is slow; there is no safe way to name a baseline.
        // SAFETY: the flags only add instructions, they change no calling convention. Code that was compiled with them
        // records them, and the engine refuses to load it on a CPU that lacks one.
        unsafe { config.cranelift_flag_enable(flag) };
    }
}
