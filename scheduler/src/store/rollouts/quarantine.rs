//! Takes a version out of traffic that got all calls, and with it those that a rollout released together with it.

use std::time::Duration;

use dunlin_proto::{
    ids::{RolloutId, VersionNumber},
    names::FunctionRef,
};
use sqlx::{Any, Transaction};

use super::{Moved, functions_of_in_tx, rollout_of_in_tx};
use crate::{
    error::Error,
    model::{FunctionRecord, RolloutPart, RolloutRecord, RolloutState, Time},
    store::{
        ATTEMPTS, Store,
        functions::{function_fetch_in_tx, stale, version_is_there_in_tx},
        retried,
    },
};

/// What goes back with a version: what a rollout has released together with it, as far as it still has all calls and something can
/// stand in for it.
async fn companions_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
    bad: VersionNumber,
) -> Result<Vec<Moved>, Error> {
    let released = |rollout: &RolloutRecord| rollout.parts.iter().any(|it| it.uid == function.uid && it.new == bad);
    let Some(rollout) = rollout_of_in_tx(tx, function).await?.filter(released) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (part, other) in functions_of_in_tx(tx, &rollout).await? {
        let is_other = part.uid != function.uid && other.full() == Some(part.new);
        if is_other && version_is_there_in_tx(tx, &other, part.old).await? {
            found.push((part, other));
        }
    }
    Ok(found)
}

fn record(function: &FunctionRef, parts: Vec<RolloutPart>, reason: &str) -> RolloutRecord {
    let now = Time::now();
    let reason = if parts.len() > 1 { format!("{}: {reason}", function.function) } else { reason.to_owned() };
    RolloutRecord {
        id: RolloutId::new(),
        namespace: function.namespace.clone(),
        parts,
        steps: Vec::new(),
        step: 0,
        step_time: Duration::ZERO,
        step_calls: 0,
        state: RolloutState::Quarantined,
        reason,
        creator: String::new(),
        app: None,
        create_time: now,
        update_time: now,
    }
}

impl Store {
    /// Takes the version that has all calls out of traffic, in favour of the last one before it that had them; and with it what a
    /// rollout released together with it. Nothing where another one has them by now, or where there is none before it.
    pub(crate) async fn rollout_quarantine(
        &self,
        name: &FunctionRef,
        bad: VersionNumber,
        reason: &str,
    ) -> Result<Option<RolloutRecord>, Error> {
        for _ in 0..ATTEMPTS {
            let done: Result<_, Error> = retried!(self.rollout_quarantine_once(name, bad, reason));
            if let Some(done) = done? {
                return Ok(done);
            }
        }
        Err(stale(name))
    }

    async fn rollout_quarantine_once(
        &self,
        name: &FunctionRef,
        bad: VersionNumber,
        reason: &str,
    ) -> Result<Option<Option<RolloutRecord>>, Error> {
        let mut tx = self.begin().await?;
        let function = function_fetch_in_tx(&mut tx, name).await?;
        let Some(good) = function.previous().filter(|_| function.full() == Some(bad)) else { return Ok(Some(None)) };
        // It may have been collected.
        if !version_is_there_in_tx(&mut tx, &function, good).await? {
            return Ok(Some(None));
        }
        let mut moved = companions_in_tx(&mut tx, &function, bad).await?;
        moved.push((RolloutPart { function: name.clone(), uid: function.uid, old: good, new: bad }, function));
        moved.sort_by(|(one, _), (other, _)| one.function.function.cmp(&other.function.function));
        for (part, function) in &mut moved {
            function.roll_back(part.old);
        }
        let rollout = record(name, moved.iter().map(|(part, _)| part.clone()).collect(), reason);
        Ok(self.rollout_write(tx, rollout, &mut moved).await?.map(Some))
    }
}
