//! Apps in the database. An app is what its routes name; what its manifest says of functions and routes becomes true in one transaction,
//! which is one release, or nothing changes.

mod shown;

use std::collections::{BTreeMap, BTreeSet};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{FunctionName, RolloutId, VersionNumber},
    names::{AppName, FunctionRef},
};
use serde_json::{Value, json};
use sqlx::{Any, Transaction};

use super::{
    ATTEMPTS, Store,
    changes::config_bump_all,
    functions::{function_fetch_in_tx, function_write_in_tx, version_exists_in_tx},
    namespaces::namespace_lock_in_tx,
    owned::{Owner, Wanted, routes_settle_in_tx},
    releases::{Touched, contents_now_in_tx, release_newest_in_tx},
    retried,
};
use crate::{
    audit::Change,
    error::Error,
    model::{FunctionRecord, RouteRecord, Share, with_canary},
    releases::{Difference, ReleaseRecord, between},
};

pub(crate) use shown::AppRecord;

/// What an app shall be.
#[derive(Debug, Clone)]
pub(crate) struct Activation {
    /// Which one.
    pub(crate) app: AppName,
    /// Its functions, and the versions that get their calls; without one, they stay as they are.
    pub(crate) functions: BTreeMap<FunctionName, Option<VersionNumber>>,
    /// All its routes; absent, they stay as they are.
    pub(crate) routes: Option<Vec<RouteRecord>>,
    /// How many percent of the calls the versions get; absent, all.
    pub(crate) canary: Option<u32>,
    /// Whether nothing is changed.
    pub(crate) validate_only: bool,
}

/// What it is then.
#[derive(Debug)]
pub(crate) struct Activated {
    /// The release that callers get; nothing where nothing was to change.
    pub(crate) release: Option<ReleaseRecord>,
    /// What has changed, or would.
    pub(crate) differences: Vec<Difference>,
}

impl Store {
    /// Gives versions their calls and makes an app's routes what they shall be.
    pub(crate) async fn app_activate(&self, activation: &Activation) -> Result<Activated, Error> {
        for _ in 0..ATTEMPTS {
            let activated: Result<_, Error> = retried!(self.app_activate_once(activation));
            if let Some(activated) = activated? {
                return Ok(activated);
            }
        }
        Err(ApiError::new(ErrorCode::Unavailable, "functions of the app are being changed by too many").into())
    }

    /// Nothing where somebody else changed a function meanwhile.
    async fn app_activate_once(&self, activation: &Activation) -> Result<Option<Activated>, Error> {
        let (mut tx, namespace) = (self.begin().await?, &activation.app.namespace);
        namespace_lock_in_tx(&mut tx, namespace).await?;
        let before = contents_now_in_tx(&mut tx, namespace, Touched::All).await?;
        let Some(to_come) = functions_activate_in_tx(&mut tx, activation).await? else { return Ok(None) };
        let routes = routes_activate_in_tx(&mut tx, activation, &to_come).await?;
        let differences = between(&before, &contents_now_in_tx(&mut tx, namespace, Touched::All).await?);
        if activation.validate_only {
            tx.rollback().await?;
            return Ok(Some(Activated { release: None, differences }));
        }
        if !differences.is_empty() {
            config_bump_all(&mut tx).await?;
            let cause = format!("deploy app {}", activation.app.app);
            self.release_record_in_tx(&mut tx, namespace, Touched::All, cause).await?;
            self.audit_in_tx(&mut tx, change(activation, &routes)).await?;
        }
        let release = release_newest_in_tx(&mut tx, namespace).await?;
        tx.commit().await?;
        Ok(Some(Activated { release, differences }))
    }
}

/// What the audit log says.
fn change(activation: &Activation, routes: &Value) -> Change {
    let versions: BTreeMap<_, _> = activation
        .functions
        .iter()
        .filter_map(|(function, version)| Some((function.to_string(), version.as_ref()?.get())))
        .collect();
    let facts = json!({ "versions": versions, "canary_percent": activation.canary, "routes": routes });
    Change::new("app.activate", &activation.app.namespace, &activation.app).after(&facts)
}

/// Gives versions their calls; says which functions are yet to be made. Nothing where one was changed meanwhile.
async fn functions_activate_in_tx(
    tx: &mut Transaction<'static, Any>,
    activation: &Activation,
) -> Result<Option<BTreeSet<FunctionName>>, Error> {
    // With one seed, a caller is on the same side of all of them, as in a rollout.
    let (seed, mut to_come) = (RolloutId::new(), BTreeSet::new());
    for (name, version) in &activation.functions {
        let function = FunctionRef { namespace: activation.app.namespace.clone(), function: name.clone() };
        match function_fetch_in_tx(tx, &function).await {
            Ok(function) => {
                let Some(version) = version else { continue };
                if !function_activate_in_tx(tx, function, *version, activation.canary.map(|it| (it, seed))).await? {
                    return Ok(None);
                }
            }
            Err(Error::Api(error))
                if error.code == ErrorCode::NotFound && version.is_none() && activation.validate_only =>
            {
                to_come.insert(name.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(to_come))
}

/// Says whether the function was still as it had been read.
async fn function_activate_in_tx(
    tx: &mut Transaction<'static, Any>,
    mut function: FunctionRecord,
    version: VersionNumber,
    canary: Option<(u32, RolloutId)>,
) -> Result<bool, Error> {
    version_exists_in_tx(tx, &function, version).await?;
    if function.full() == Some(version) {
        return Ok(true);
    }
    let shares = match canary {
        Some((percent, _)) => with_canary(&function.reference(), &function.traffic, version, percent)?,
        None => vec![Share(version, 100)],
    };
    function.set_traffic(shares);
    if function.full().is_none() {
        function.seed = canary.map(|(_, seed)| seed);
    }
    function_write_in_tx(tx, &mut function).await
}

/// Makes the app's routes what they shall be; says what of it is for the audit log.
async fn routes_activate_in_tx(
    tx: &mut Transaction<'static, Any>,
    activation: &Activation,
    to_come: &BTreeSet<FunctionName>,
) -> Result<Value, Error> {
    let Some(routes) = &activation.routes else { return Ok(Value::Null) };
    let owner = Owner::App(activation.app.app.clone());
    let wanted = Wanted { namespace: &activation.app.namespace, owner: &owner, routes, prune: true, to_come };
    Ok(routes_settle_in_tx(tx, wanted).await?.facts())
}
