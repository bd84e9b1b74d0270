//! OpenAPI documents as routes and routes as OpenAPI documents, and requests checked against what both say of them.
//!
//! Pure: no files, no network, no clock. What a route is, `dunlin-proto` knows; who may change one, the gateway; which ones there
//! can be at once, the scheduler.

mod at;
mod dialect;
mod document;
mod export;
mod import;
mod names;
mod request;
mod schema;
mod settings;
mod template;

pub use document::{Malformed, read, to_yaml};
pub use export::document;
pub use import::{Mapping, Options, api, routes};
pub use request::{Checker, Given, Media};
pub use schema::Flaw;
