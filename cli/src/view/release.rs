//! Releases, as shown.

use dunlin_proto::v1;
use serde::Serialize;

use super::{Time, age, alias::AliasView, or_dash, part, route::RouteView};
use crate::{
    output::{Column, printable},
    units::ago,
};

/// A release without what it holds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReleaseView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) number: u32,
    pub(crate) create_time: Option<Time>,
    pub(crate) creator: String,
    pub(crate) cause: String,
}

impl From<&v1::Release> for ReleaseView {
    fn from(release: &v1::Release) -> Self {
        Self {
            resource: release.name.clone(),
            namespace: part(&release.name, "namespaces"),
            number: release.number,
            create_time: Time::from_wire(release.create_time),
            creator: release.creator.clone(),
            cause: release.cause.clone(),
        }
    }
}

impl ReleaseView {
    /// What it is, in a line.
    pub(crate) fn title(&self) -> String {
        let by = if self.creator.is_empty() { String::new() } else { format!(" by {}", self.creator) };
        let text = format!(
            "release {} of {}, {}{by}: {}",
            self.number,
            self.namespace,
            ago(&age(self.create_time)),
            self.cause
        );
        printable(&text).into_owned()
    }
}

/// The columns of a list of releases.
pub(crate) const RELEASES: &[Column<ReleaseView>] = &[
    Column::new("RELEASE", |release| release.number.to_string()),
    Column::new("WHAT", |release| release.cause.clone()),
    Column::new("WHO", |release| or_dash(&release.creator)),
    Column::new("AGE", |release| age(release.create_time)),
];

/// A release with what it holds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WholeReleaseView {
    #[serde(flatten)]
    pub(crate) release: ReleaseView,
    pub(crate) functions: Vec<ReleasedFunctionView>,
    pub(crate) routes: Vec<RouteView>,
}

/// What of a function callers noticed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReleasedFunctionView {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) public: bool,
    pub(crate) direct: bool,
    pub(crate) disabled: bool,
    /// Its own traffic first.
    pub(crate) aliases: Vec<AliasView>,
}

impl From<v1::Release> for WholeReleaseView {
    fn from(release: v1::Release) -> Self {
        Self {
            release: ReleaseView::from(&release),
            functions: release.functions.into_iter().map(Into::into).collect(),
            routes: release.routes.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::ReleasedFunction> for ReleasedFunctionView {
    fn from(function: v1::ReleasedFunction) -> Self {
        Self {
            name: part(&function.name, "functions"),
            uid: function.uid,
            public: function.public,
            direct: function.direct,
            disabled: function.disabled,
            aliases: function.aliases.into_iter().map(Into::into).collect(),
        }
    }
}

impl WholeReleaseView {
    /// A row for each alias of each function.
    pub(crate) fn calls(&self) -> Vec<CallsView> {
        let rows = |function: &ReleasedFunctionView| {
            let policy = function.policy();
            let row = |alias: &AliasView| CallsView {
                name: alias.title(),
                calls: alias.traffic_text(),
                policy: policy.clone(),
            };
            function.aliases.iter().map(row).collect::<Vec<_>>()
        };
        self.functions.iter().flat_map(rows).collect()
    }
}

impl ReleasedFunctionView {
    fn policy(&self) -> String {
        let words =
            [(self.public, "public"), (!self.public, "private"), (self.direct, "direct"), (self.disabled, "disabled")];
        let words: Vec<_> = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
        words.join(", ")
    }
}

/// How the calls of an alias divided.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CallsView {
    name: String,
    calls: String,
    policy: String,
}

/// The columns of what could be called.
pub(crate) const CALLS: &[Column<CallsView>] = &[
    Column::new("FUNCTION", |row| row.name.clone()),
    Column::new("CALLS", |row| row.calls.clone()),
    Column::new("POLICY", |row| row.policy.clone()),
];

/// One field in which two releases differ.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DifferenceView {
    pub(crate) subject: String,
    pub(crate) field: String,
    pub(crate) before: String,
    pub(crate) after: String,
}

impl From<v1::Difference> for DifferenceView {
    fn from(difference: v1::Difference) -> Self {
        let v1::Difference { subject, field, before, after } = difference;
        Self { subject, field, before, after }
    }
}

/// The columns of a list of differences.
pub(crate) const DIFFERENCES: &[Column<DifferenceView>] = &[
    Column::new("WHAT", |difference| difference.subject.clone()),
    Column::new("FIELD", |difference| difference.field.clone()),
    Column::new("BEFORE", |difference| or_dash(&difference.before)),
    Column::new("AFTER", |difference| or_dash(&difference.after)),
];

/// What a deploy would change.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PreviewView {
    pub(crate) version: u32,
    pub(crate) differences: Vec<DifferenceView>,
    pub(crate) needs_allow_new_capabilities: bool,
}

impl From<v1::DeployPreview> for PreviewView {
    fn from(preview: v1::DeployPreview) -> Self {
        Self {
            version: preview.version,
            differences: preview.differences.into_iter().map(Into::into).collect(),
            needs_allow_new_capabilities: preview.needs_allow_new_capabilities,
        }
    }
}
