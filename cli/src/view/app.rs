//! Apps, and what a deploy made of the functions of one, as shown.

use dunlin_proto::{names::FunctionRef, v1};
use serde::Serialize;

use super::{age, or_dash, part, release::ReleaseView};
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

/// An app.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AppView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// What its routes call, or ask who may call.
    pub(crate) functions: Vec<String>,
    pub(crate) routes: Vec<String>,
    /// The newest that changed one of them; absent where that is no longer kept.
    pub(crate) release: Option<ReleaseView>,
}

impl From<v1::App> for AppView {
    fn from(app: v1::App) -> Self {
        Self {
            namespace: part(&app.name, "namespaces"),
            name: part(&app.name, "apps"),
            functions: app.functions,
            routes: app.routes,
            release: app.release.as_ref().map(ReleaseView::from),
            resource: app.name,
        }
    }
}

impl AppView {
    /// All of it, a line each.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let release = self.release.as_ref().map_or_else(|| "no longer kept".to_owned(), ReleaseView::title);
        vec![
            ("App", self.name.clone()),
            ("Namespace", self.namespace.clone()),
            ("Functions", or_dash(&self.functions.join(", "))),
            ("Routes", or_dash(&self.routes.join(", "))),
            ("Last changed", release),
        ]
    }

    fn release_text(&self, of: impl Fn(&ReleaseView) -> String) -> String {
        self.release.as_ref().map_or_else(|| "-".to_owned(), of)
    }
}

/// The columns of a list of apps.
pub(crate) const APPS: &[Column<AppView>] = &[
    Column::new("NAME", |app| app.name.clone()),
    Column::new("FUNCTIONS", |app| or_dash(&app.functions.join(","))),
    Column::new("ROUTES", |app| app.routes.len().to_string()),
    Column::new("RELEASE", |app| app.release_text(|release| release.number.to_string())),
    Column::new("WHAT", |app| app.release_text(|release| release.cause.clone())),
    Column::new("AGE", |app| app.release_text(|release| age(release.create_time))),
];
