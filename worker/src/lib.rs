//! Placeholder.

pub mod compile;
pub mod sandbox;
