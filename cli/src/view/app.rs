//! What a deploy made of the functions of an app, as shown.

use dunlin_proto::{names::FunctionRef, v1};
use serde::Serialize;

use crate::output::Column;

/// A function after a deploy of its app.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeployedFunctionView {
    pub(crate) namespace: String,
    pub(crate) function: String,
    /// The version that was made, or the one that has the calls and is the same.
    pub(crate) version: u32,
    /// Whether it was made.
    pub(crate) is_new: bool,
    /// The version that had all calls before; absent where none had.
    pub(crate) before: Option<u32>,
    /// Where developers reach the new version, traffic or not.
    pub(crate) preview_urls: Vec<String>,
}

impl DeployedFunctionView {
    /// Of a function as it was and the version that was made.
    pub(crate) fn new(name: &FunctionRef, before: Option<&v1::Function>, made: Option<&v1::Version>) -> Self {
        let before = before.and_then(|before| match before.traffic.as_slice() {
            [only] => Some(only.version),
            _ => None,
        });
        Self {
            namespace: name.namespace.to_string(),
            function: name.function.to_string(),
            version: made.map(|made| made.number).or(before).unwrap_or_default(),
            is_new: made.is_some(),
            before,
            preview_urls: made.map(|made| made.preview_urls.clone()).unwrap_or_default(),
        }
    }
}

/// The columns of a deployed app.
pub(crate) const DEPLOYED: &[Column<DeployedFunctionView>] = &[
    Column::new("FUNCTION", |row| row.function.clone()),
    Column::new("VERSION", |row| row.version.to_string()),
    Column::new("WHAT", |row| if row.is_new { "new".to_owned() } else { "unchanged".to_owned() }),
    Column::wide("BEFORE", |row| row.before.map_or_else(|| "-".to_owned(), |before| before.to_string())),
];
