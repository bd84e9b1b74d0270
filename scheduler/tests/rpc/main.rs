//! A bound scheduler, driven over real gRPC by clients, simulated workers and simulated gateways, with a small script as its
//! compiler. One binary; a module a story.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what a test does not expect ends it")]

mod access;
mod aliases;
mod apps;
mod artifacts;
mod audit;
mod database;
mod deploy;
mod harness;
mod limits;
mod plans;
mod releases;
mod resources;
mod reuse;
mod routes;
mod sync;
mod trust;
mod usage;
mod webhooks;
