//! Aliases, as administration shows them.

use dunlin_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, TrafficTarget, id_in};

/// A name of a function's under which its calls divide over versions.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Alias {
    /// `namespaces/{namespace}/functions/{function}/aliases/{alias}`.
    pub(crate) name: String,
    /// The alias's bare name; `live` is the function's own traffic.
    pub(crate) alias: String,
    /// How its calls divide over versions.
    pub(crate) traffic: Vec<TrafficTarget>,
    /// How callers are told apart that have no key or token.
    pub(crate) sticky: Sticky,
    /// When it was made.
    pub(crate) create_time: Option<Time>,
    /// When it was last changed.
    pub(crate) update_time: Option<Time>,
}

impl From<v1::Alias> for Alias {
    fn from(wire: v1::Alias) -> Self {
        Self {
            alias: id_in(&wire.name, "aliases").to_owned(),
            name: wire.name,
            traffic: wire.traffic.into_iter().map(TrafficTarget::from).collect(),
            sticky: wire.sticky.unwrap_or_default().into(),
            create_time: wire.create_time.map(Time::from),
            update_time: wire.update_time.map(Time::from),
        }
    }
}

/// How callers are told apart: by the header, else by the cookie; without both, each request is somebody else.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sticky {
    /// The name of a header; empty means none.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9!#$%&'*+.^_`|~-]*$", max_length = 64, required = false, example = "x-user")]
    pub(crate) header: String,
    /// Whether the gateway gives a cookie to whoever has none.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) cookie: bool,
}

impl From<v1::Sticky> for Sticky {
    fn from(wire: v1::Sticky) -> Self {
        Self { header: wire.header, cookie: wire.cookie }
    }
}

impl From<Sticky> for v1::Sticky {
    fn from(sticky: Sticky) -> Self {
        Self { header: sticky.header, cookie: sticky.cookie }
    }
}

/// A function's aliases: `live`, then the others in the order of their names.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AliasList {
    /// All of them.
    pub(crate) aliases: Vec<Alias>,
}

impl From<v1::ListAliasesResponse> for AliasList {
    fn from(wire: v1::ListAliasesResponse) -> Self {
        Self { aliases: wire.aliases.into_iter().map(Alias::from).collect() }
    }
}

/// An alias after a change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChangedAlias {
    /// The alias.
    pub(crate) alias: Option<Alias>,
    /// The gateways that have not said that they serve the change; they will, once they are reached.
    pub(crate) lagging_gateways: Vec<String>,
}

impl From<v1::SetAliasResponse> for ChangedAlias {
    fn from(wire: v1::SetAliasResponse) -> Self {
        Self { alias: wire.alias.map(Alias::from), lagging_gateways: wire.lagging_gateways }
    }
}

impl From<v1::PromoteAliasResponse> for ChangedAlias {
    fn from(wire: v1::PromoteAliasResponse) -> Self {
        Self { alias: wire.alias.map(Alias::from), lagging_gateways: wire.lagging_gateways }
    }
}

/// An alias that is gone.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeletedAlias {
    /// The gateways that have not said that they know.
    pub(crate) lagging_gateways: Vec<String>,
}
