//! The administration listener from outside: a whole gateway on real sockets, with a scheduler, a worker and another
//! gateway that are simulated in this process and speak the real protocols (`world`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and one prints where to look"
)]

mod audit;
mod browser;
mod commands;
mod conditional;
mod forms;
mod grpc;
mod idempotency;
mod json;
mod logs;
mod look;
mod matrix;
mod page_matrix;
mod pages;
mod records;
mod sign_in;
mod upload;
mod world;
