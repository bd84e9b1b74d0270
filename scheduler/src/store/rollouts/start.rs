//! How rollouts begin. What is said of them is checked in `rpc/rollouts.rs`; here, that the functions are as a rollout needs them.

use std::time::Duration;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{Namespace, RolloutId, VersionNumber},
    names::FunctionRef,
};
use sqlx::{Any, Transaction};

use super::{
    Moved,
    pending::{Pending, pending_note_in_tx},
};
use crate::{
    error::Error,
    model::{FunctionRecord, RolloutPart, RolloutRecord, RolloutState, Time, newest},
    store::{
        ATTEMPTS, Store,
        functions::{self, function_fetch_in_tx, version_exists_in_tx, version_is_there_in_tx},
        namespaces::{namespace_fetch_in_tx, namespace_lock_in_tx},
        retried,
    },
};

/// The most functions of one rollout: they change in one transaction.
pub(crate) const MOST_FUNCTIONS: usize = 100;

/// A function that is to move, and to which version; absent, its newest one.
pub(crate) type Target = (FunctionRef, Option<VersionNumber>);

/// A rollout that somebody begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewRollout {
    /// Where its functions are.
    pub(crate) namespace: Namespace,
    /// What is to move; empty means every function of the namespace with a version that is newer than the one with its calls.
    pub(crate) targets: Vec<Target>,
    pub(crate) steps: Vec<u32>,
    pub(crate) step_time: Duration,
    pub(crate) step_calls: u64,
    pub(crate) creator: String,
    /// The routes that an app gets once the new versions have all calls; nothing where no routes change.
    pub(crate) routes: Option<Pending>,
}

impl NewRollout {
    fn record(&self, parts: Vec<RolloutPart>) -> RolloutRecord {
        let now = Time::now();
        RolloutRecord {
            id: RolloutId::new(),
            namespace: self.namespace.clone(),
            parts,
            steps: self.steps.clone(),
            step: 0,
            step_time: self.step_time,
            step_calls: self.step_calls,
            state: RolloutState::Running,
            reason: String::new(),
            creator: self.creator.clone(),
            app: self.routes.as_ref().map(|(app, _)| app.clone()),
            create_time: now,
            update_time: now,
        }
    }

    /// What to say where somebody else always was faster.
    fn contended(&self) -> Error {
        let message = format!("functions of {} have been changed meanwhile", self.namespace);
        ApiError::new(ErrorCode::FailedPrecondition, message).hint("try again").into()
    }
}

fn precondition(message: String) -> ApiError {
    ApiError::new(ErrorCode::FailedPrecondition, message)
}

/// The version that has all calls, and the other one that is to get them.
fn between(function: &FunctionRecord, new: Option<VersionNumber>) -> Result<(VersionNumber, VersionNumber), ApiError> {
    let name = function.reference();
    let old = function.full().ok_or_else(|| match newest(&function.traffic) {
        Some(_) => precondition(format!("the calls of {name} are divided already"))
            .hint("end that first: dunlin rollout stop, dunlin promote, or dunlin rollback"),
        None => precondition(format!("no version of {name} has calls")).hint("deploy one"),
    })?;
    let latest = || VersionNumber::try_from(function.latest_version).ok();
    let target = new.or_else(latest).filter(|target| *target != old);
    let target = target.ok_or_else(|| {
        precondition(format!("version {old} of {name} has all calls already"))
            .hint("deploy the new version without calls first: dunlin deploy --no-traffic")
    })?;
    Ok((old, target))
}

/// Newer versions take the first places of callers. Only where all functions move to newer ones, a caller is on the same side of
/// all of them.
fn check_direction(parts: &[Moved]) -> Result<(), ApiError> {
    let backward = parts.iter().find(|(part, _)| parts.len() > 1 && part.new < part.old);
    backward.map_or(Ok(()), |(RolloutPart { function, old, new, .. }, _)| {
        let message = format!("version {new} of {function} is older than version {old}, which has the calls");
        Err(precondition(message)
            .hint("several functions move to newer versions together; go back with dunlin rollback"))
    })
}

/// Every function with a version that is newer than the one with all its calls. One whose calls are divided is an error.
async fn newer_in_tx(tx: &mut Transaction<'static, Any>, namespace: &Namespace) -> Result<Vec<Target>, Error> {
    namespace_fetch_in_tx(tx, namespace).await?;
    let rows = sqlx::query("SELECT * FROM functions WHERE namespace = $1 ORDER BY name").bind(namespace.as_str());
    let mut found = Vec::new();
    for row in &rows.fetch_all(&mut **tx).await? {
        let function = functions::read(row)?;
        let Some(live) = newest(&function.traffic) else { continue };
        let Some(latest) = VersionNumber::try_from(function.latest_version).ok().filter(|latest| *latest > live) else {
            continue;
        };
        if version_is_there_in_tx(tx, &function, latest).await? {
            found.push((function.reference(), Some(latest)));
        }
    }
    if found.is_empty() {
        let message = format!("no function of {namespace} has a version that is newer than the one with its calls");
        return Err(precondition(message).hint("deploy some without calls first: dunlin deploy --no-traffic").into());
    }
    if found.len() > MOST_FUNCTIONS {
        let message =
            format!("{} functions of {namespace} have newer versions, more than a rollout moves", found.len());
        return Err(precondition(message).hint(format!("name {MOST_FUNCTIONS} of them at most")).into());
    }
    Ok(found)
}

async fn parts_in_tx(tx: &mut Transaction<'static, Any>, new: &NewRollout) -> Result<Vec<Moved>, Error> {
    let all = if new.targets.is_empty() { newer_in_tx(tx, &new.namespace).await? } else { Vec::new() };
    let mut parts = Vec::new();
    for (name, version) in new.targets.iter().chain(&all) {
        let function = function_fetch_in_tx(tx, name).await?;
        let (old, target) = between(&function, *version)?;
        version_exists_in_tx(tx, &function, target).await?;
        parts.push((RolloutPart { function: name.clone(), uid: function.uid, old, new: target }, function));
    }
    // Rows are always written in the same order, so that transactions wait for each other in one direction.
    parts.sort_by(|(one, _), (other, _)| one.function.function.cmp(&other.function.function));
    check_direction(&parts)?;
    Ok(parts)
}

impl Store {
    /// Begins a rollout: the new versions get the first step's share.
    pub(crate) async fn rollout_start(&self, new: &NewRollout) -> Result<RolloutRecord, Error> {
        for _ in 0..ATTEMPTS {
            let begun: Result<_, Error> = retried!(self.rollout_start_once(new));
            if let Some(begun) = begun? {
                return Ok(begun);
            }
        }
        Err(new.contended())
    }

    async fn rollout_start_once(&self, new: &NewRollout) -> Result<Option<RolloutRecord>, Error> {
        let mut tx = self.begin().await?;
        if new.routes.is_some() {
            namespace_lock_in_tx(&mut tx, &new.namespace).await?;
        }
        let mut moved = parts_in_tx(&mut tx, new).await?;
        let rollout = new.record(moved.iter().map(|(part, _)| part.clone()).collect());
        if let Some(routes) = &new.routes {
            pending_note_in_tx(&mut tx, &rollout, routes).await?;
        }
        for (part, function) in &mut moved {
            function.set_traffic(rollout.shares(part));
            function.seed = Some(rollout.id);
        }
        self.rollout_write(tx, rollout, &mut moved).await
    }
}
