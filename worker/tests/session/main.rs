//! A worker as gateways and the scheduler see it: a real process's library over real gRPC, with a simulated scheduler
//! (`cluster.rs`), a test gateway (`gateway.rs`) and guests in WAT (`guests.rs`).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails loudly")]

#[path = "../guests/build.rs"]
mod build;
mod calls;
mod cluster;
mod faults;
mod gateway;
mod guests;
mod holding;
mod logs;
mod reuse;
mod standby;
mod stopping;
