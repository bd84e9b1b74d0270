//! What the engine's errors mean for the developer of a function.

use std::any::Any;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::{I32Exit, ResourceTableError};

use super::super::engine;
use super::super::meter::Meter;
use super::super::outcome::Failure;

/// Most bytes of a trap's message, frames included. Function names come from the guest.
const MAX_MESSAGE: usize = 2048;

/// Names the failure behind an error of the engine.
pub(in super::super) fn classify(error: &wasmtime::Error, meter: &Meter) -> Failure {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return if *status == 0 { Failure::NoResponse } else { Failure::ExitStatus(*status) };
    }
    if let Some(failure) = meter.halt_reason().or_else(|| host_limit(error)) {
        return failure;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Failure::StackOverflow { limit_bytes: engine::WASM_STACK_BYTES as u64 },
        // A guest that was refused memory gives up by some trap; one whose first memory is refused fails without one.
        Some(_) | None => meter.denial().unwrap_or_else(|| Failure::Trap { message: describe(error) }),
    }
}

/// Limits of the host interface, which the engine reports as plain errors.
fn host_limit(error: &wasmtime::Error) -> Option<Failure> {
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return Some(Failure::HandlesExceeded("too many open resources".to_owned()));
    }
    let text = error.root_cause().to_string();
    let known = ["fuel allocated for hostcalls has been exhausted", "resource table has no free keys", "handle limit"];
    known.iter().any(|words| text.contains(words)).then_some(Failure::HandlesExceeded(text))
}

/// The engine's words and the guest's frames, in at most [`MAX_MESSAGE`] bytes.
fn describe(error: &wasmtime::Error) -> String {
    let mut message = error.root_cause().to_string();
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for frame in backtrace.frames() {
            let index = || format!("function {}", frame.func_index());
            // Without the hash that Rust's compiler puts behind a name.
            let name = frame.func_name().map_or_else(index, |name| format!("{:#}", rustc_demangle::demangle(name)));
            message.push_str("\n  at ");
            message.push_str(&name);
        }
    }
    truncate(message)
}

fn truncate(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push_str("...");
    }
    message
}

/// The failure of an invocation whose host code panicked.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::Panicked { message: truncate(words.unwrap_or_else(|| "panic without a message".to_owned())) }
}
