//! A bound gateway between real sockets: callers here, and behind it a simulated scheduler and simulated workers that
//! speak the real protocol (`harness/`). Administration has tests of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod harness;

mod auth;
mod caching;
mod configuration;
mod connections;
mod limits;
mod lost;
mod metering;
mod routes;
mod routing;
mod smuggling;
mod standby;
mod streaming;
mod tls;
mod workers;
