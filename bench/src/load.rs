//! The ways to load a server. A closed loop finds its ceiling; an open loop finds what callers see below and above it, since
//! their arrivals do not wait for answers; a list of URLs, each called once, finds what a first call costs.

mod closed;
mod once;
mod open;
mod series;

pub use self::{
    closed::closed,
    once::{Once, once},
    open::{Open, Step, open},
};
