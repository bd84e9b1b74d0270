//! Turns an artifact into native code, once, at deploy: checks what it is, refuses what cannot run with a reason, and compiles
//! the rest for the cluster's CPU baseline. It runs as a child process with limits of CPU, memory and time that its parent
//! sets, because compiling hostile code may use any amount of each; nothing here is called on a request.

mod adapt;
mod check;
mod cli;
mod detect;
mod lines;
mod names;
mod offered;
mod strip;

use wasmtime::component::Component;

pub use cli::{CompileArgs, main};

use crate::sandbox::engine::{self, Class, Offer};
use crate::sandbox::{CpuBaseline, GuestKind, state};

/// How to compile.
#[derive(Debug, Clone, Copy)]
pub struct CompileOptions {
    /// The CPU to compile for.
    pub cpu: CpuBaseline,
    /// Whether the workers offer WASI 0.3. Must be what their configuration says.
    pub wasi03: bool,
    /// Compiles on this thread only.
    pub single_thread: bool,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { cpu: CpuBaseline::default(), wasi03: true, single_thread: true }
    }
}

/// Compiled code and what it is.
#[derive(Debug)]
pub struct Compiled {
    /// How it is called.
    pub kind: GuestKind,
    /// The compiled file, for [`Runtime::load`](crate::sandbox::Runtime::load) once it is signed and stored. Source lines, where
    /// the artifact has any, stand behind the code.
    pub bytes: Vec<u8>,
    /// Everything that the component imports, with versions.
    pub imports: Vec<String>,
    /// [`fingerprint`] of the options.
    pub fingerprint: String,
}

/// Why an artifact cannot be compiled. The message says what is wrong, the hint what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// Which of the closed list of reasons.
    pub code: CompileErrorCode,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it; empty where nothing can be said.
    pub hint: String,
}

impl CompileError {
    fn new(code: CompileErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }
}

/// The closed list of reasons, as `snake_case` words on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CompileErrorCode {
    /// Text, an archive, a program, or anything else that is not WebAssembly.
    NotWebassembly,
    /// Code that was compiled already, which nobody may upload.
    Precompiled,
    /// Broken or truncated WebAssembly, or a proposal that is not offered.
    Invalid,
    /// A module or component that cannot be called.
    NotCallable,
    /// WASI 0.3 on a cluster where it is off.
    Wasi03Off,
    /// Imports that the platform does not offer.
    UnknownImport,
    /// Larger in some way than any function may be.
    TooLarge,
    /// This machine or build cannot compile for the target.
    Unsupported,
    /// The compiler itself failed.
    Internal,
}

/// Names the code that [`compile`] makes with these options; the same as [`Runtime::fingerprint`](crate::sandbox::Runtime::fingerprint)
/// of a worker that can load it.
pub fn fingerprint(options: &CompileOptions) -> Result<String, CompileError> {
    engine::fingerprint(offer(options)).map_err(|error| unsupported(&error))
}

/// Checks and compiles an artifact.
pub fn compile(wasm: &[u8], options: &CompileOptions) -> Result<Compiled, CompileError> {
    detect::require_wasm(wasm)?;
    check::check(wasm)?;
    let adapted = adapt::to_component(wasm)?;
    let found = detect::inspect(&adapted)?;
    let kind = found.kind(options.wasi03)?;
    offered::check_imports(&found.imports, options.wasi03)?;
    let stripped = strip::without_custom_sections(&adapted)?;
    let mut bytes = compile_for_class(&stripped, kind, options)?;
    bytes.extend(lines::table(&adapted, &stripped));
    Ok(Compiled { kind, bytes, imports: found.imports, fingerprint: fingerprint(options)? })
}

fn offer(options: &CompileOptions) -> Offer {
    Offer { wasi03: options.wasi03, cpu: options.cpu }
}

/// Compiles for the cheapest class of engines that takes the component: what is called by WASI 0.2 may still be built of
/// parts of 0.3.
fn compile_for_class(wasm: &[u8], kind: GuestKind, options: &CompileOptions) -> Result<Vec<u8>, CompileError> {
    let mut refusal = None;
    for class in offer(options).classes().filter(|class| class.wasi03 || kind != GuestKind::Http03) {
        match compile_component(class, wasm, options.single_thread) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| internal(&wasmtime::Error::msg("no class of engines is offered"))))
}

/// Compiles, links against what guests may import, and serialises.
fn compile_component(class: Class, wasm: &[u8], single_thread: bool) -> Result<Vec<u8>, CompileError> {
    let engine = engine::compiler(class, single_thread).map_err(|error| unsupported(&error))?;
    let component = Component::from_binary(&engine, wasm).map_err(|error| invalid(&error))?;
    let linker = state::linker(&engine, class.wasi03).map_err(|error| internal(&error))?;
    // The table of offered imports knows names; only the linker knows functions and their types.
    linker.instantiate_pre(&component).map_err(|error| {
        let message = format!("the component's imports do not match what the platform offers: {}", chain(&error));
        CompileError::new(
            CompileErrorCode::UnknownImport,
            message,
            "build against the released WASI 0.2 or 0.3 interfaces",
        )
    })?;
    component.serialize().map_err(|error| internal(&error))
}

fn invalid(error: &wasmtime::Error) -> CompileError {
    let message = format!("the compiler refuses this component: {}", chain(error));
    let hint = "threads, garbage collection, exceptions, 64-bit memories and other new proposals are not offered; build without them";
    CompileError::new(CompileErrorCode::Invalid, message, hint)
}

fn internal(error: &wasmtime::Error) -> CompileError {
    CompileError::new(
        CompileErrorCode::Internal,
        format!("the compiler failed: {}", chain(error)),
        "report this artifact",
    )
}

fn unsupported(error: &wasmtime::Error) -> CompileError {
    let message = format!("this program cannot compile for the target: {}", chain(error));
    CompileError::new(
        CompileErrorCode::Unsupported,
        message,
        "compile on x86-64 Linux, with a CPU baseline that this machine has",
    )
}

/// An error and its causes in one line.
fn chain(error: &wasmtime::Error) -> String {
    format!("{error:#}").replace('\n', " ")
}

#[cfg(test)]
mod tests;
