//! The routes of an API in one transaction: all of them as they are wanted, or none.

use std::collections::BTreeSet;

use dunlin_proto::{
    ids::{Namespace, RouteId},
    names::NamespaceRef,
};
use serde_json::json;

use super::{
    Store,
    changes::config_bump_all,
    namespaces::namespace_lock_in_tx,
    owned::{Owner, Settled, Wanted, routes_settle_in_tx},
    releases::Touched,
    retried,
};
use crate::{audit::Change, error::Error, model::RouteRecord};

/// What is to be imported.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    /// Where.
    pub(crate) namespace: Namespace,
    /// What the routes together are called.
    pub(crate) api: RouteId,
    /// All of them.
    pub(crate) routes: Vec<RouteRecord>,
    /// Whether others of the API are deleted.
    pub(crate) prune: bool,
    /// Whether nothing is changed.
    pub(crate) validate_only: bool,
    /// Who wants it.
    pub(crate) creator: String,
}

/// What was imported.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The routes as they are now.
    pub(crate) routes: Vec<RouteRecord>,
    /// Those that are deleted.
    pub(crate) deleted: Vec<RouteId>,
}

impl Store {
    /// Makes, replaces and deletes the routes of an API.
    pub(crate) async fn routes_import(&self, import: &Import) -> Result<Imported, Error> {
        retried!(self.routes_import_once(import))
    }

    async fn routes_import_once(&self, import: &Import) -> Result<Imported, Error> {
        let mut tx = self.begin().await?;
        namespace_lock_in_tx(&mut tx, &import.namespace).await?;
        let owner = Owner::Api(import.api.clone());
        let Import { namespace, routes, prune, .. } = import;
        let wanted = Wanted { namespace, owner: &owner, routes, prune: *prune, to_come: &BTreeSet::new() };
        let settled = routes_settle_in_tx(&mut tx, wanted).await?;
        if import.validate_only {
            tx.rollback().await?;
        } else {
            if settled.changed() {
                config_bump_all(&mut tx).await?;
                let cause = format!("import API {}", import.api);
                self.release_record_in_tx(&mut tx, namespace, Touched::All, cause).await?;
                self.audit_in_tx(&mut tx, change(import, &settled)).await?;
            }
            tx.commit().await?;
        }
        let deleted = settled.deleted.into_iter().map(|name| name.route).collect();
        Ok(Imported { routes: settled.routes.into_iter().map(|(route, _)| route).collect(), deleted })
    }
}

fn change(import: &Import, settled: &Settled) -> Change {
    let resource = NamespaceRef { namespace: import.namespace.clone() };
    let mut facts = settled.facts();
    if let Some(fields) = facts.as_object_mut() {
        fields.insert("api".to_owned(), json!(import.api.to_string()));
    }
    Change::new("route.import", &import.namespace, &resource).after(&facts)
}
