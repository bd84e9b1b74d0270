//! Drives the real `dunlin` binary: against a simulated administration API for what each command says and sends, and by
//! itself for what it does on this machine. What the whole system does is tested in `tests/e2e`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests, helpers included")]

mod access;
mod aliases;
mod apps;
mod audit;
mod deploy;
mod fake;
mod functions;
mod harness;
mod local;
mod releases;
mod routes;
mod up;
mod usage;
mod watch;
mod webhook;
