//! The routes that come with a rollout: versions move step by step, routes change in the transaction in which the new versions get all
//! calls. Where they don't fit in any more by then, the calls move all the same, and the rollout's reason says what was in the way.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_proto::{
    ids::{AppId, FunctionName, Namespace, RouteId},
    names::{AppName, RouteName},
    route::RouteSpec,
};
use sqlx::{Any, Transaction};

use crate::{
    audit::Change,
    error::Error,
    model::{RolloutRecord, RolloutState, RouteRecord, Time},
    store::{
        Owner, Store,
        namespaces::namespace_lock_in_tx,
        owned::{Wanted, routes_check_in_tx, routes_write_in_tx},
        row,
    },
};

/// The routes that an app is to have.
pub(crate) type Pending = (AppId, Vec<RouteRecord>);

/// Whether a rollout has just given the new versions all calls.
fn is_promoted(rollout: &RolloutRecord) -> bool {
    let over = matches!(rollout.state, RolloutState::Promoted | RolloutState::Stopped);
    over && rollout.step >= rollout.steps.len()
}

fn wanted<'a>(
    namespace: &'a Namespace,
    owner: &'a Owner,
    routes: &'a [RouteRecord],
    none: &'a BTreeSet<FunctionName>,
) -> Wanted<'a> {
    Wanted { namespace, owner, routes, prune: true, to_come: none }
}

/// Notes the routes of a rollout that begins, if they could be there now. The namespace is locked.
pub(super) async fn pending_note_in_tx(
    tx: &mut Transaction<'static, Any>,
    rollout: &RolloutRecord,
    (app, routes): &Pending,
) -> Result<(), Error> {
    let (owner, none) = (Owner::App(app.clone()), BTreeSet::new());
    routes_check_in_tx(tx, wanted(&rollout.namespace, &owner, routes, &none)).await?;
    // What rollouts left whose functions are gone.
    let sql = "DELETE FROM rollout_routes WHERE namespace = $1 AND rollout NOT IN (SELECT rollout FROM rollouts)";
    sqlx::query(sql).bind(rollout.namespace.as_str()).execute(&mut **tx).await?;
    let specs: BTreeMap<_, _> = routes.iter().map(|route| (&route.name.route, &route.spec)).collect();
    let sql = "INSERT INTO rollout_routes (rollout, namespace, app, routes) VALUES ($1, $2, $3, $4)";
    let query = sqlx::query(sql).bind(rollout.id.to_string()).bind(rollout.namespace.as_str());
    query.bind(app.as_str().to_owned()).bind(row::to_json(&specs)?).execute(&mut **tx).await?;
    Ok(())
}

async fn pending_find_in_tx(
    tx: &mut Transaction<'static, Any>,
    rollout: &RolloutRecord,
) -> Result<Option<Pending>, Error> {
    let query = sqlx::query("SELECT app, routes FROM rollout_routes WHERE namespace = $1 AND rollout = $2");
    let query = query.bind(rollout.namespace.as_str()).bind(rollout.id.to_string());
    let Some(found) = query.fetch_optional(&mut **tx).await? else { return Ok(None) };
    let (specs, now): (BTreeMap<RouteId, RouteSpec>, _) = (row::json(&found, "routes")?, Time::now());
    let record = |(route, spec)| RouteRecord {
        name: RouteName { namespace: rollout.namespace.clone(), route },
        spec,
        creator: rollout.creator.clone(),
        create_time: now,
        update_time: now,
    };
    Ok(Some((row::parsed(&found, "app")?, specs.into_iter().map(record).collect())))
}

/// Forgets the routes of a rollout that has ended.
pub(super) async fn pending_forget_in_tx(
    tx: &mut Transaction<'static, Any>,
    rollout: &RolloutRecord,
) -> Result<(), Error> {
    if rollout.app.is_none() || rollout.state == RolloutState::Running {
        return Ok(());
    }
    let query = sqlx::query("DELETE FROM rollout_routes WHERE namespace = $1 AND rollout = $2");
    query.bind(rollout.namespace.as_str()).bind(rollout.id.to_string()).execute(&mut **tx).await?;
    Ok(())
}

/// Locks the namespace of a rollout that comes with routes, before anything else is looked at: whoever changes routes does that first.
pub(super) async fn pending_lock_in_tx(
    tx: &mut Transaction<'static, Any>,
    rollout: &RolloutRecord,
) -> Result<(), Error> {
    if rollout.app.is_some() {
        namespace_lock_in_tx(tx, &rollout.namespace).await?;
    }
    Ok(())
}

impl Store {
    /// Makes the routes of a rollout those of its app once the new versions have all calls; gives what the audit log says of it.
    pub(super) async fn pending_apply_in_tx(
        &self,
        tx: &mut Transaction<'static, Any>,
        rollout: &mut RolloutRecord,
    ) -> Result<Option<Change>, Error> {
        if rollout.app.is_none() || !is_promoted(rollout) {
            return Ok(None);
        }
        let Some((app, routes)) = pending_find_in_tx(tx, rollout).await? else { return Ok(None) };
        let (owner, none) = (Owner::App(app.clone()), BTreeSet::new());
        match routes_check_in_tx(tx, wanted(&rollout.namespace, &owner, &routes, &none)).await {
            Ok(settled) => {
                routes_write_in_tx(tx, &settled).await?;
                let name = AppName { namespace: rollout.namespace.clone(), app };
                Ok(Some(Change::new("app.activate", &rollout.namespace, &name).after(&settled.facts())))
            }
            Err(Error::Api(error)) => {
                rollout.reason = format!("{}; {owner} keeps its routes: {}", rollout.reason, error.message);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
