//! Functions, as shown.

use dunlin_proto::v1;
use serde::Serialize;

use super::{Time, age, or_dash, part};
use crate::output::Column;

/// A function.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FunctionView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) description: String,
    pub(crate) public: bool,
    pub(crate) direct: bool,
    pub(crate) disabled: bool,
    pub(crate) latest_version: u32,
    pub(crate) traffic: Vec<TrafficView>,
    pub(crate) urls: Vec<String>,
    pub(crate) create_time: Option<Time>,
    pub(crate) update_time: Option<Time>,
}

/// A share of a function's calls.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TrafficView {
    pub(crate) version: u32,
    pub(crate) percent: u32,
}

impl From<v1::Function> for FunctionView {
    fn from(function: v1::Function) -> Self {
        let traffic = function.traffic.iter();
        Self {
            namespace: part(&function.name, "namespaces"),
            name: part(&function.name, "functions"),
            resource: function.name,
            uid: function.uid,
            description: function.description,
            public: function.public,
            direct: function.direct,
            disabled: function.disabled,
            latest_version: function.latest_version,
            traffic: traffic.map(|share| TrafficView { version: share.version, percent: share.percent }).collect(),
            urls: function.urls,
            create_time: Time::from_wire(function.create_time),
            update_time: Time::from_wire(function.update_time),
        }
    }
}

impl FunctionView {
    /// How its calls divide: `v3`, or `v3 90%, v4 10%`.
    pub(crate) fn traffic_text(&self) -> String {
        traffic_text(&self.traffic)
    }

    /// The percentage of calls that a version gets.
    pub(crate) fn percent_of(&self, version: u32) -> u32 {
        self.traffic.iter().filter(|share| share.version == version).map(|share| share.percent).sum()
    }

    /// Who may call it.
    pub(crate) fn access_text(&self) -> &'static str {
        match (self.disabled, self.public) {
            (true, _) => "disabled",
            (false, true) => "public",
            (false, false) => "private",
        }
    }

    /// Where callers reach it, or nowhere yet.
    pub(crate) fn url(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }
}

/// How calls divide: `v3`, or `v3 90%, v4 10%`.
pub(super) fn traffic_text(shares: &[TrafficView]) -> String {
    match shares {
        [] => "-".to_owned(),
        [only] if only.percent == 100 => format!("v{}", only.version),
        shares => {
            let shares = shares.iter().map(|share| format!("v{} {}%", share.version, share.percent));
            shares.collect::<Vec<_>>().join(", ")
        }
    }
}

/// The columns of a list of functions.
pub(crate) const COLUMNS: &[Column<FunctionView>] = &[
    Column::new("NAME", |function| function.name.clone()),
    Column::new("TRAFFIC", FunctionView::traffic_text),
    Column::new("ACCESS", |function| function.access_text().to_owned()),
    Column::new("UPDATED", |function| age(function.update_time)),
    Column::new("URL", |function| or_dash(function.url())),
    Column::wide("LATEST", |function| format!("v{}", function.latest_version)),
    Column::wide("CREATED", |function| age(function.create_time)),
    Column::wide("DESCRIPTION", |function| or_dash(&function.description)),
];
