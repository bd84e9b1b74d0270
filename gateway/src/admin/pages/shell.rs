//! The frame around every page of somebody who is signed in: namespaces, tabs, who it is.

use dunlin_proto::{ids::Namespace, v1};

use crate::{
    admin::{app::App, model::id_in},
    auth::{Principal, Role},
};

/// What the frame shows.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) subject: String,
    pub(super) operator: bool,
    pub(super) gateway: String,
    pub(super) software_version: &'static str,
    /// The namespace of the page, where it has one.
    pub(super) namespace: Option<String>,
    /// Those to choose from.
    pub(super) namespaces: Vec<String>,
    /// Whether the audit log is theirs to see.
    audits: bool,
    /// Which tab the page belongs to.
    section: Section,
}

/// The parts of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// What there is in a namespace, or in the cluster.
    Overview,
    /// What was called.
    Invocations,
    /// What was written.
    Log,
    /// Which requests become what.
    Routes,
    /// What callers got.
    Releases,
    /// What was used.
    Usage,
    /// Who may call.
    Keys,
    /// Who changed what.
    Audit,
}

/// A tab of the frame.
#[derive(Debug)]
pub(super) struct Tab {
    pub(super) title: &'static str,
    pub(super) href: String,
    pub(super) current: bool,
}

impl Shell {
    /// The frame of a page. A scheduler that is away leaves the choice of namespaces short, not the page empty.
    pub(super) async fn new(app: &App, who: &Principal, namespace: Option<&Namespace>, section: Section) -> Self {
        let mut namespaces = namespaces(app, who).await;
        let audits = namespace.is_some_and(|namespace| may(who, namespace, Role::Admin));
        let namespace = namespace.map(ToString::to_string);
        namespaces.extend(namespace.iter().filter(|name| !namespaces.contains(name)).cloned().collect::<Vec<_>>());
        Self {
            subject: super::view::visible(&who.subject),
            operator: who.is_operator(),
            gateway: app.context().config.name.to_string(),
            software_version: env!("CARGO_PKG_VERSION"),
            namespace,
            namespaces,
            audits,
            section,
        }
    }

    /// The tabs of the namespace.
    pub(super) fn tabs(&self) -> Vec<Tab> {
        let base = self.namespace.as_ref().map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        let tab = |(section, title, path): (Section, &'static str, &str)| Tab {
            title,
            href: format!("{base}{path}"),
            current: section == self.section,
        };
        let tabs = [
            (Section::Overview, "Overview", ""),
            (Section::Invocations, "Invocations", "/invocations"),
            (Section::Log, "Log", "/logs"),
            (Section::Routes, "Routes", "/routes"),
            (Section::Releases, "Releases", "/releases"),
            (Section::Usage, "Usage", "/usage"),
            (Section::Keys, "Keys", "/keys"),
            (Section::Audit, "Audit", "/audit"),
        ];
        tabs.into_iter().filter(|(section, ..)| self.audits || *section != Section::Audit).map(tab).collect()
    }
}

/// The names of the namespaces that somebody sees.
pub(super) async fn namespaces(app: &App, who: &Principal) -> Vec<String> {
    let request = v1::ListNamespacesRequest { page_size: 1_000, ..Default::default() };
    match app.namespace_list(who, request).await {
        Ok(list) => list.namespaces.iter().map(|found| id_in(&found.name, "namespaces").to_owned()).collect(),
        Err(_) => who.grants.iter().filter_map(|grant| Some(grant.namespace.as_ref()?.to_string())).collect(),
    }
}

/// Whether somebody has a role in a namespace, for what a page offers; what it does is checked where it is done.
pub(super) fn may(who: &Principal, namespace: &Namespace, role: Role) -> bool {
    who.role_in(namespace).is_some_and(|has| has >= role)
}
