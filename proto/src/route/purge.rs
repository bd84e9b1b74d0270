//! Which stored answers are forgotten. How they are stored is the gateways' business.

use crate::{
    error::ApiError,
    ids::{Namespace, RouteId},
    names::NamespaceRef,
    v1::{PurgeCacheRequest, purge_cache_request::What},
};

/// The longest path that a gateway reads.
const MOST_PATH: usize = 16 << 10;

/// A purge of a namespace's stored answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Whose.
    pub namespace: Namespace,
    /// Which ones.
    pub what: Purged,
}

/// Which answers a purge is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purged {
    /// All.
    All,
    /// Those of a path.
    Path(String),
    /// Those of paths that begin like this.
    Prefix(String),
    /// Those of a route.
    Route(RouteId),
}

impl Purge {
    /// Whether it is about the answers of a path, of which these are the routes.
    #[must_use]
    pub fn is_about<'r>(&self, namespace: &str, path: &str, mut routes: impl Iterator<Item = &'r RouteId>) -> bool {
        let what = match &self.what {
            Purged::All => true,
            Purged::Path(wanted) => path == wanted,
            Purged::Prefix(wanted) => path.starts_with(wanted.as_str()),
            Purged::Route(wanted) => routes.any(|route| route == wanted),
        };
        what && namespace == self.namespace.as_str()
    }
}

impl TryFrom<PurgeCacheRequest> for Purge {
    type Error = ApiError;

    fn try_from(wire: PurgeCacheRequest) -> Result<Self, ApiError> {
        let parent = wire.parent.parse::<NamespaceRef>().map_err(|error| ApiError::invalid("parent", error))?;
        let nothing = || {
            ApiError::invalid("what", "nothing is said of what is to be forgotten")
                .hint("one of path, prefix, route, or all = true")
        };
        let what = match wire.what.ok_or_else(nothing)? {
            What::All(true) => Purged::All,
            What::All(false) => return Err(nothing()),
            What::Path(path) => Purged::Path(checked("path", path)?),
            What::Prefix(path) => Purged::Prefix(checked("prefix", path)?),
            What::Route(route) => Purged::Route(route.parse().map_err(|error| ApiError::invalid("route", error))?),
        };
        Ok(Self { namespace: parent.namespace, what })
    }
}

/// A path as it can stand in a request.
fn checked(field: &str, path: String) -> Result<String, ApiError> {
    let fine = path.starts_with('/') && path.len() <= MOST_PATH && path.bytes().all(|byte| byte.is_ascii_graphic());
    if !fine || path.contains(['?', '#']) {
        let message = format!("{field} must be a path as callers write it, such as /users/7, without a query");
        return Err(ApiError::invalid(field, message).hint("a path is purged with all its queries"));
    }
    Ok(path)
}

impl From<&Purge> for PurgeCacheRequest {
    fn from(purge: &Purge) -> Self {
        let what = match &purge.what {
            Purged::All => What::All(true),
            Purged::Path(path) => What::Path(path.clone()),
            Purged::Prefix(path) => What::Prefix(path.clone()),
            Purged::Route(route) => What::Route(route.to_string()),
        };
        Self { parent: NamespaceRef { namespace: purge.namespace.clone() }.to_string(), what: Some(what) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(what: Option<What>) -> Result<Purge, ApiError> {
        PurgeCacheRequest { parent: "namespaces/shop".into(), what }.try_into()
    }

    #[test]
    fn a_purge_survives_the_wire_and_a_bad_one_is_refused() {
        for what in
            [What::All(true), What::Path("/a%20b".into()), What::Prefix("/a/".into()), What::Route("users".into())]
        {
            let purge = read(Some(what)).unwrap();
            assert_eq!(Purge::try_from(PurgeCacheRequest::from(&purge)).unwrap(), purge);
        }
        for (what, field) in [
            (None, "what"),
            (Some(What::All(false)), "what"),
            (Some(What::Path("a".into())), "path"),
            (Some(What::Path(String::new())), "path"),
            (Some(What::Path("/a?b".into())), "path"),
            (Some(What::Path("/a b".into())), "path"),
            (Some(What::Prefix("/\n".into())), "prefix"),
            (Some(What::Route("A/b".into())), "route"),
        ] {
            let error = read(what.clone()).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{what:?}");
        }
    }

    #[test]
    fn a_purge_is_about_its_own_namespace_alone() {
        let routes: [RouteId; 1] = ["users".parse().unwrap()];
        let about =
            |what, namespace: &str, path: &str| read(Some(what)).unwrap().is_about(namespace, path, routes.iter());
        for (what, expected) in [
            (What::All(true), true),
            (What::Path("/a/b".into()), true),
            (What::Path("/a/".into()), false),
            (What::Prefix("/a/".into()), true),
            (What::Prefix("/b".into()), false),
            (What::Route("users".into()), true),
            (What::Route("others".into()), false),
        ] {
            assert_eq!(about(what.clone(), "shop", "/a/b"), expected, "{what:?}");
            assert!(!about(what, "bank", "/a/b"));
        }
    }
}
