//! Aliases, as shown.

use dunlin_proto::{ids::AliasId, v1};
use serde::Serialize;

use super::{Time, age, function::TrafficView, or_dash, part};
use crate::output::Column;

/// An alias.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AliasView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) function: String,
    pub(crate) name: String,
    pub(crate) traffic: Vec<TrafficView>,
    pub(crate) sticky_header: String,
    pub(crate) sticky_cookie: bool,
    pub(crate) create_time: Option<Time>,
    pub(crate) update_time: Option<Time>,
    /// Gateways that do not serve a change yet; only after one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lagging_gateways: Option<Vec<String>>,
}

impl From<v1::Alias> for AliasView {
    fn from(alias: v1::Alias) -> Self {
        let sticky = alias.sticky.unwrap_or_default();
        let share = |share: &v1::TrafficTarget| TrafficView { version: share.version, percent: share.percent };
        Self {
            namespace: part(&alias.name, "namespaces"),
            function: part(&alias.name, "functions"),
            name: part(&alias.name, "aliases"),
            resource: alias.name,
            traffic: alias.traffic.iter().map(share).collect(),
            sticky_header: sticky.header,
            sticky_cookie: sticky.cookie,
            create_time: Time::from_wire(alias.create_time),
            update_time: Time::from_wire(alias.update_time),
            lagging_gateways: None,
        }
    }
}

impl AliasView {
    /// Beside the alias, who does not serve it yet.
    pub(crate) fn with_lagging(self, gateways: Vec<String>) -> Self {
        Self { lagging_gateways: Some(gateways), ..self }
    }

    /// `shop/pay:beta`; the function alone for its own traffic.
    pub(crate) fn title(&self) -> String {
        let Self { namespace, function, name, .. } = self;
        if name == AliasId::LIVE { format!("{namespace}/{function}") } else { format!("{namespace}/{function}:{name}") }
    }

    /// How its calls divide: `v3`, or `v3 90%, v4 10%`.
    pub(crate) fn traffic_text(&self) -> String {
        super::function::traffic_text(&self.traffic)
    }

    /// By what callers are told apart that have no key or token.
    fn sticky_text(&self) -> String {
        let header = (!self.sticky_header.is_empty()).then(|| format!("header:{}", self.sticky_header));
        let cookie = self.sticky_cookie.then(|| "cookie".to_owned());
        or_dash(&header.into_iter().chain(cookie).collect::<Vec<_>>().join(", "))
    }
}

/// The columns of a list of aliases.
pub(crate) const ALIASES: &[Column<AliasView>] = &[
    Column::new("ALIAS", |alias| alias.name.clone()),
    Column::new("CALLS", AliasView::traffic_text),
    Column::new("STICKY", AliasView::sticky_text),
    Column::new("CHANGED", |alias| age(alias.update_time)),
];
