//! Purges of stored answers as JSON.

use dunlin_proto::{
    ApiError,
    v1::{self, purge_cache_request::What},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which stored answers are forgotten: exactly one of these is given.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PurgeCache {
    /// Those of this path as callers write it, whatever host and query; without the namespace on shared hosts.
    #[schema(pattern = "^/", max_length = 16384, example = "/users/7")]
    path: Option<String>,
    /// Those of paths that begin with this.
    #[schema(pattern = "^/", max_length = 16384, example = "/users/")]
    prefix: Option<String>,
    /// Those of the addresses of this route.
    #[schema(pattern = "^[a-z](-?[a-z0-9])*$", max_length = 63, example = "users")]
    route: Option<String>,
    /// All of the namespace.
    all: Option<bool>,
}

impl PurgeCache {
    /// The message that asks for it.
    pub(crate) fn into_message(self, parent: String) -> Result<v1::PurgeCacheRequest, ApiError> {
        let given = [
            self.path.map(What::Path),
            self.prefix.map(What::Prefix),
            self.route.map(What::Route),
            self.all.map(What::All),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(what), None) => Ok(v1::PurgeCacheRequest { parent, what: Some(what) }),
            _ => Err(ApiError::invalid("body", "exactly one of path, prefix, route and all says what is forgotten")),
        }
    }
}

/// The answers are forgotten.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PurgedCache {
    /// The gateways that have not said so yet; they do it once they are reached.
    pub(crate) lagging_gateways: Vec<String>,
}

impl From<v1::PurgeCacheResponse> for PurgedCache {
    fn from(wire: v1::PurgeCacheResponse) -> Self {
        Self { lagging_gateways: wire.lagging_gateways }
    }
}
