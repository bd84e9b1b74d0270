//! A namespace's apps, as parts of pages: what each has, and whose a function is.

use std::time::SystemTime;

use dunlin_proto::v1;

use super::{format::When, view::visible};
use crate::admin::model::{App, AppList, ReleaseHead};

/// Routes of an app that are named.
const NAMED: usize = 12;

/// An app.
#[derive(Debug)]
pub(super) struct AppRow {
    pub(super) name: String,
    pub(super) functions: Vec<String>,
    pub(super) routes: String,
    pub(super) release: Option<ReleaseNote>,
}

/// The release with which an app last changed.
#[derive(Debug)]
pub(super) struct ReleaseNote {
    pub(super) number: u32,
    pub(super) href: String,
    pub(super) cause: String,
    pub(super) made: Option<When>,
}

impl AppRow {
    /// All of them.
    pub(super) fn all(found: v1::ListAppsResponse, now: SystemTime) -> Vec<Self> {
        AppList::from(found).apps.into_iter().map(|app| Self::new(app, now)).collect()
    }

    fn new(app: App, now: SystemTime) -> Self {
        let note = |release: &ReleaseHead| ReleaseNote {
            number: release.number,
            href: format!("/{}", release.name),
            cause: visible(&release.cause),
            made: release.create_time.map(|time| When::new(time, now)),
        };
        Self {
            routes: some(&app.routes),
            release: app.release.as_ref().map(note),
            functions: app.functions,
            name: app.app,
        }
    }
}

/// The first of many, and how many more there are.
fn some(routes: &[String]) -> String {
    let named = routes.get(..NAMED).unwrap_or(routes).join(", ");
    match routes.len().saturating_sub(NAMED) {
        0 => named,
        others => format!("{named} and {others} more"),
    }
}

/// The apps whose routes name a function.
pub(super) fn of_function(found: v1::ListAppsResponse, function: &str) -> Vec<String> {
    let apps = AppList::from(found).apps.into_iter();
    apps.filter(|app| app.functions.iter().any(|name| name == function)).map(|app| app.app).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_functions_and_many_routes() {
        let app = |name: &str, functions: &[&str], routes: usize| v1::App {
            name: format!("namespaces/shop/apps/{name}"),
            functions: functions.iter().map(ToString::to_string).collect(),
            routes: (0..routes).map(|n| format!("r{n}")).collect(),
            ..Default::default()
        };
        let found = v1::ListAppsResponse { apps: vec![app("till", &["pay"], 2), app("site", &["pay", "show"], 14)] };
        assert_eq!(of_function(found.clone(), "pay"), ["till", "site"]);
        assert_eq!(of_function(found.clone(), "show"), ["site"]);
        let rows = AppRow::all(found, SystemTime::now());
        assert_eq!((rows[0].routes.as_str(), rows[0].release.is_none()), ("r0, r1", true));
        assert!(rows[1].routes.ends_with("r10, r11 and 2 more"), "{}", rows[1].routes);
    }
}
