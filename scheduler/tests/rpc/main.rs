//! A bound scheduler, driven over real gRPC by clients, simulated workers and simulated gateways, with a small script as its
//! compiler. One binary; a module a story.

mod access;
mod artifacts;
mod database;
mod deploy;
mod harness;
mod resources;
mod sync;
