//! Hostile guests against the real sandbox: each test is named after the threat that it stands for and says what must hold
//! (error code, time, memory, the process alive, neighbours served). `guests/` has the guests; none is committed compiled.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests may fail loudly, and some tests print what they measured"
)]

mod again;
#[path = "../guests/build.rs"]
mod build;
mod commands;
mod examples;
mod http;
mod http3;
mod neighbours;
mod outbound;
mod residue;
mod support;
