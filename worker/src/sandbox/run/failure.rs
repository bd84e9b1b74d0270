//! What the engine's errors mean for the developer of a function.

use std::any::Any;
use std::path::Path;

use wasmtime::{FrameInfo, Trap, WasmBacktrace};
use wasmtime_wasi::{I32Exit, ResourceTableError};

use super::super::engine;
use super::super::meter::Meter;
use super::super::outcome::Failure;
use crate::line_table::LineTable;

/// Most bytes of a trap's message, frames included. Function names come from the guest.
const MAX_MESSAGE: usize = 3072;

/// Names the failure behind an error of the engine in a guest whose compiled code is in the file `code`.
pub(in super::super) fn classify(error: &wasmtime::Error, meter: &Meter, code: &Path) -> Failure {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return if *status == 0 { Failure::NoResponse } else { Failure::ExitStatus(*status) };
    }
    let known = meter.halt_reason().or_else(|| host_limit(error)).or_else(|| match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => {
            Some(Failure::StackOverflow { limit_bytes: engine::WASM_STACK_BYTES as u64, frames: String::new() })
        }
        // A guest that was refused memory gives up by some trap; one whose first memory is refused fails without one.
        Some(_) | None => meter.denial(),
    });
    match known {
        Some(failure) => failure.at(|| truncate(frames(error, code))),
        None => Failure::Trap { message: describe(error, code) },
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
fn describe(error: &wasmtime::Error, code: &Path) -> String {
    truncate(error.root_cause().to_string() + &frames(error, code))
}

/// The guest's frames, innermost first, each on a line of its own. The engine hands over the innermost only, however deep the
/// stack is.
fn frames(error: &wasmtime::Error, code: &Path) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    // Read here, a few pages that the system has at hand or soon will: who never traps pays nothing for it.
    let (lines, absent) = LineTable::open(code).transpose().map_or_else(|why| (None, Some(why)), |lines| (lines, None));
    let frames = backtrace.frames().iter().map(|frame| named(frame, lines.as_ref()));
    let mut text = String::new();
    for frame in frames.chain(absent.map(|why| format!("({})", why.reason()))) {
        text.push_str("\n  at ");
        text.push_str(&frame);
    }
    text
}

/// A frame's function, and its line where that is known.
fn named(frame: &FrameInfo, lines: Option<&LineTable>) -> String {
    let index = || format!("function {}", frame.func_index());
    // Without the hash that Rust's compiler puts behind a name.
    let name = frame.func_name().map_or_else(index, |name| format!("{:#}", rustc_demangle::demangle(name)));
    match lines.and_then(|lines| line_of(frame, lines)) {
        Some(line) => format!("{name} ({line})"),
        None => name,
    }
}

/// `file:line` of a frame.
fn line_of(frame: &FrameInfo, lines: &LineTable) -> Option<String> {
    // The engine counts from the start of the component, also in a module of it.
    let (in_component, in_function) = (frame.module_offset()?, frame.func_offset()?);
    let start = in_component.checked_sub(in_function)?;
    lines.find(frame.func_index(), u32::try_from(start).ok()?, u32::try_from(in_function).ok()?)
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
