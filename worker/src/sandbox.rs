//! Runs guests: the only part of the worker, besides `compile`, that knows wasmtime. It knows neither gRPC nor tenants.
//!
//! A process makes one [`Runtime`] (engine, instance pool, egress). [`Runtime::load`] maps the compiled code of a version and
//! gives a [`Program`]; [`Program::prepare`] makes a [`Sandbox`] (one fresh store and instance, one place in the pool); and
//! [`Sandbox::run`] uses it up for one [`Call`] (or [`Sandbox::run_one_of`] several, where its version asked for that):
//!
//! ```text
//! request body ──RequestFrame──▶ RequestBody ─▶ guest ─▶ ResponseSink ──ResponseEvent──▶ session
//!                                                 └────▶ LogSink ──LogRecord──▶ logs
//! ```
//!
//! `run` always ends, with a [`Completion`]: the outcome and what was used. It needs a tokio runtime with time and I/O. Whoever
//! holds the receivers sets the pace: a full response channel makes the guest wait, a dropped one cancels it. Lines of log
//! wait for nobody. `ResponseEvent::End` may come before the completion; a failure after it does not spoil the response.

mod again;
mod body;
mod call;
mod cgi;
mod clock;
mod console;
mod delivery;
mod eager;
mod effort;
pub mod egress;
pub(crate) mod engine;
mod lanes;
mod limits;
mod meter;
mod native;
mod outcome;
mod run;
mod runtime;
pub(crate) mod state;
pub(crate) mod ticker;

pub use again::Left;
pub use call::{
    BodyBrokenOff, Call, LogRecord, LogSink, LogStream, Origin, RequestBody, RequestFrame, ResponseEvent, ResponseSink,
};
pub(crate) use effort::{Backlog, Effort};
pub use engine::{CpuBaseline, UnknownCpuBaseline};
pub use limits::{EgressConfig, GuestKind, Limits, Policy, SandboxConfig, UnknownGuestKind};
pub use outcome::{Completion, Failure, Outcome, SandboxError, Usage};
pub use run::Sandbox;
pub use runtime::{Program, Runtime};
