//! Rollouts in the database: the last one of each function. A rollout moves together with the function's traffic, or not at all.

use std::time::Duration;

use dunlin_proto::{ApiError, ErrorCode, ids::VersionNumber, names::FunctionRef};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    ATTEMPTS, Store, config_bump,
    functions::{function_fetch_in_tx, function_write_in_tx, stale, version_exists_in_tx, version_is_there_in_tx},
    releases::Touched,
    retried, row,
};
use crate::{
    audit::Change,
    error::Error,
    model::{FunctionRecord, RolloutRecord, RolloutState, Share, Time, newest},
};

/// A rollout that somebody begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewRollout {
    pub(crate) function: FunctionRef,
    /// Absent, the function's newest version.
    pub(crate) new: Option<VersionNumber>,
    pub(crate) steps: Vec<u32>,
    pub(crate) step_time: Duration,
    pub(crate) step_calls: u64,
    pub(crate) creator: String,
}

/// Where a rollout goes from where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Move {
    /// Nowhere: it is looked whether it is over.
    Look,
    /// To the next step; after the last one, the new version has everything.
    Advance,
    /// The new version has everything, at once.
    Promote(RolloutState, String),
    /// The old version has everything again.
    Back(RolloutState, String),
}

fn read(row: &AnyRow) -> Result<RolloutRecord, Error> {
    let function = FunctionRef { namespace: row::parsed(row, "namespace")?, function: row::parsed(row, "name")? };
    let version = |column| {
        let number: u32 = row::count(row, column)?;
        VersionNumber::try_from(number).map_err(|_| Error::Damaged { what: column, value: number.to_string() })
    };
    Ok(RolloutRecord {
        function,
        uid: row::parsed(row, "function_uid")?,
        old: version("old_version")?,
        new: version("new_version")?,
        steps: row::json(row, "steps")?,
        step: row::count(row, "step")?,
        step_time: Duration::from_millis(row::count(row, "step_millis")?),
        step_calls: row::count(row, "step_calls")?,
        state: row::parsed(row, "state")?,
        reason: row::text(row, "reason")?,
        creator: row::text(row, "creator")?,
        create_time: row::time(row, "create_time")?,
        update_time: row::time(row, "update_time")?,
    })
}

async fn rollout_fetch_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
) -> Result<Option<RolloutRecord>, Error> {
    let sql = "SELECT rollouts.*, functions.name FROM rollouts JOIN functions ON functions.uid = rollouts.function_uid \
               WHERE rollouts.namespace = $1 AND rollouts.function_uid = $2";
    let query = sqlx::query(sql).bind(function.namespace.as_str()).bind(function.uid.to_string());
    query.fetch_optional(&mut **tx).await?.as_ref().map(read).transpose()
}

async fn rollout_put_in_tx(tx: &mut Transaction<'static, Any>, rollout: &RolloutRecord) -> Result<(), Error> {
    let sql = "INSERT INTO rollouts (function_uid, namespace, old_version, new_version, steps, step, step_millis, \
               step_calls, state, reason, creator, create_time, update_time) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (function_uid) DO UPDATE SET \
               old_version = excluded.old_version, new_version = excluded.new_version, steps = excluded.steps, \
               step = excluded.step, step_millis = excluded.step_millis, step_calls = excluded.step_calls, \
               state = excluded.state, reason = excluded.reason, creator = excluded.creator, \
               create_time = excluded.create_time, update_time = excluded.update_time";
    let millis = i64::try_from(rollout.step_time.as_millis()).unwrap_or(i64::MAX);
    let query = sqlx::query(sql).bind(rollout.uid.to_string()).bind(rollout.function.namespace.as_str());
    let query = query.bind(i64::from(rollout.old.get())).bind(i64::from(rollout.new.get()));
    let query = query.bind(row::to_json(&rollout.steps)?).bind(i64::try_from(rollout.step).unwrap_or(i64::MAX));
    let query = query.bind(millis).bind(row::signed(rollout.step_calls)).bind(rollout.state.as_str());
    let query = query.bind(&*rollout.reason).bind(&*rollout.creator).bind(rollout.create_time.0);
    query.bind(rollout.update_time.0).execute(&mut **tx).await?;
    Ok(())
}

fn precondition(message: String) -> ApiError {
    ApiError::new(ErrorCode::FailedPrecondition, message)
}

/// The version that has all calls, and the other one that is to get them.
fn between(new: &NewRollout, function: &FunctionRecord) -> Result<(VersionNumber, VersionNumber), ApiError> {
    let name = &new.function;
    let old = function.full().ok_or_else(|| match newest(&function.traffic) {
        Some(_) => precondition(format!("the calls of {name} are divided already"))
            .hint("end that first: dunlin rollout stop, dunlin promote, or dunlin rollback"),
        None => precondition(format!("no version of {name} has calls")).hint("deploy one"),
    })?;
    let latest = || VersionNumber::try_from(function.latest_version).ok();
    let target = new.new.or_else(latest).filter(|target| *target != old);
    let target = target.ok_or_else(|| {
        precondition(format!("version {old} of {name} has all calls already"))
            .hint("deploy the new version without calls first: dunlin deploy --no-traffic")
    })?;
    Ok((old, target))
}

impl Store {
    /// The last rollout of a function, if there was one.
    pub(crate) async fn rollout_fetch(&self, name: &FunctionRef) -> Result<Option<RolloutRecord>, Error> {
        let mut tx = self.begin().await?;
        let function = function_fetch_in_tx(&mut tx, name).await?;
        let found = rollout_fetch_in_tx(&mut tx, &function).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// The rollouts of all namespaces that go on.
    pub(crate) async fn rollout_running(&self) -> Result<Vec<RolloutRecord>, Error> {
        let sql = "SELECT rollouts.*, functions.name FROM rollouts \
                   JOIN functions ON functions.uid = rollouts.function_uid WHERE rollouts.state = 'running'";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// Begins a rollout: the new version gets the first step's share.
    pub(crate) async fn rollout_start(&self, new: &NewRollout) -> Result<RolloutRecord, Error> {
        for _ in 0..ATTEMPTS {
            let begun: Result<_, Error> = retried!(self.rollout_start_once(new));
            if let Some(begun) = begun? {
                return Ok(begun);
            }
        }
        Err(stale(&new.function))
    }

    async fn rollout_start_once(&self, new: &NewRollout) -> Result<Option<RolloutRecord>, Error> {
        let mut tx = self.begin().await?;
        let mut function = function_fetch_in_tx(&mut tx, &new.function).await?;
        let (old, target) = between(new, &function)?;
        version_exists_in_tx(&mut tx, &function, target).await?;
        let now = Time::now();
        let rollout = RolloutRecord {
            function: new.function.clone(),
            uid: function.uid,
            old,
            new: target,
            steps: new.steps.clone(),
            step: 0,
            step_time: new.step_time,
            step_calls: new.step_calls,
            state: RolloutState::Running,
            reason: String::new(),
            creator: new.creator.clone(),
            create_time: now,
            update_time: now,
        };
        function.set_traffic(rollout.shares());
        self.rollout_write(tx, &mut function, rollout).await
    }

    /// Moves a rollout from where it is known to be. Where somebody has divided the calls in another way meanwhile, it ends and
    /// they stay as they are. Says what has become of it; nothing where it has moved already.
    pub(crate) async fn rollout_move(
        &self,
        known: &RolloutRecord,
        whither: &Move,
    ) -> Result<Option<RolloutRecord>, Error> {
        for _ in 0..ATTEMPTS {
            let moved: Result<_, Error> = retried!(self.rollout_move_once(known, whither));
            if let Some(moved) = moved? {
                return Ok(moved);
            }
        }
        Err(stale(&known.function))
    }

    async fn rollout_move_once(
        &self,
        known: &RolloutRecord,
        whither: &Move,
    ) -> Result<Option<Option<RolloutRecord>>, Error> {
        let mut tx = self.begin().await?;
        let mut function = function_fetch_in_tx(&mut tx, &known.function).await?;
        let found = rollout_fetch_in_tx(&mut tx, &function).await?;
        let same = |found: &RolloutRecord| {
            (found.state, found.step, found.create_time) == (RolloutState::Running, known.step, known.create_time)
        };
        let Some(mut rollout) = found.filter(same) else { return Ok(Some(None)) };
        rollout.update_time = Time::now();
        if function.traffic != rollout.shares() {
            rollout.state = RolloutState::Superseded;
            "the calls were divided in another way".clone_into(&mut rollout.reason);
            rollout_put_in_tx(&mut tx, &rollout).await?;
            tx.commit().await?;
            return Ok(Some(Some(rollout)));
        }
        if *whither == Move::Look {
            return Ok(Some(None));
        }
        whither.apply(&mut rollout, &mut function);
        Ok(self.rollout_write(tx, &mut function, rollout).await?.map(Some))
    }

    /// Takes the version that has all calls out of traffic, in favour of the last one before it that had them. Nothing where another
    /// one has them by now, or where there is none before it.
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
        let mut function = function_fetch_in_tx(&mut tx, name).await?;
        let Some(good) = function.previous().filter(|_| function.full() == Some(bad)) else { return Ok(Some(None)) };
        // It may have been collected.
        if !version_is_there_in_tx(&mut tx, &function, good).await? {
            return Ok(Some(None));
        }
        function.roll_back(good);
        let now = Time::now();
        let rollout = RolloutRecord {
            function: name.clone(),
            uid: function.uid,
            old: good,
            new: bad,
            steps: Vec::new(),
            step: 0,
            step_time: Duration::ZERO,
            step_calls: 0,
            state: RolloutState::Quarantined,
            reason: reason.to_owned(),
            creator: String::new(),
            create_time: now,
            update_time: now,
        };
        Ok(self.rollout_write(tx, &mut function, rollout).await?.map(Some))
    }

    /// Writes a rollout with its function's traffic; nothing where the function has changed since it was read.
    async fn rollout_write(
        &self,
        mut tx: Transaction<'static, Any>,
        function: &mut FunctionRecord,
        rollout: RolloutRecord,
    ) -> Result<Option<RolloutRecord>, Error> {
        if !function_write_in_tx(&mut tx, function).await? {
            return Ok(None);
        }
        rollout_put_in_tx(&mut tx, &rollout).await?;
        config_bump(&mut tx).await?;
        let touched = Touched::Function(&function.name);
        self.release_record_in_tx(&mut tx, &function.namespace, touched, cause(&rollout)).await?;
        let change = Change::new(action(&rollout), &function.namespace, &rollout.function).after(&rollout);
        self.audit_in_tx(&mut tx, change).await?;
        tx.commit().await?;
        Ok(Some(rollout))
    }
}

/// What was done, as the audit log says it.
fn action(rollout: &RolloutRecord) -> &'static str {
    match rollout.state {
        RolloutState::Running if rollout.step == 0 => "rollout.start",
        RolloutState::Running | RolloutState::Promoted => "rollout.advance",
        RolloutState::Back => "rollout.back",
        RolloutState::Stopped | RolloutState::Superseded => "rollout.stop",
        RolloutState::Quarantined => "version.quarantine",
    }
}

/// Why callers get something else, as releases say it.
fn cause(rollout: &RolloutRecord) -> String {
    let (name, RolloutRecord { old, new, .. }) = (&rollout.function.function, rollout);
    match rollout.shares().as_slice() {
        _ if matches!(rollout.state, RolloutState::Back | RolloutState::Quarantined) => {
            format!("take {name}@{new} back")
        }
        [Share(_, _), Share(_, percent)] if rollout.state == RolloutState::Running => {
            format!("roll out {name}@{new} to {percent}%")
        }
        _ if rollout.step < rollout.steps.len() => format!("roll back {name}@{old}"),
        _ => format!("promote {name}@{new}"),
    }
}

impl Move {
    fn apply(&self, rollout: &mut RolloutRecord, function: &mut FunctionRecord) {
        match self {
            Self::Look => {}
            Self::Advance => {
                rollout.step += 1;
                function.set_traffic(rollout.shares());
                if rollout.step >= rollout.steps.len() {
                    rollout.state = RolloutState::Promoted;
                    "the new version was no worse in any step".clone_into(&mut rollout.reason);
                }
            }
            Self::Promote(state, reason) => {
                rollout.step = rollout.steps.len();
                function.set_traffic(rollout.shares());
                (rollout.state, rollout.reason) = (*state, reason.clone());
            }
            Self::Back(state, reason) => {
                function.roll_back(rollout.old);
                (rollout.state, rollout.reason) = (*state, reason.clone());
            }
        }
    }
}
