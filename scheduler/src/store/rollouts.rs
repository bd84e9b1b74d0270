//! Rollouts in the database: the last one of each function. Each function has a row, and those of one rollout name the same one;
//! they move together with the traffic of their functions, or not at all. How rollouts begin is in `rollouts/start.rs`, where they
//! go in `rollouts/moves.rs`, which routes come with them in `rollouts/pending.rs`, and how a version is taken out that nobody judged in `rollouts/quarantine.rs`.

mod moves;
mod pending;
mod quarantine;
mod start;

use std::time::Duration;

use dunlin_proto::{
    ids::{Namespace, RolloutId, VersionNumber},
    names::FunctionRef,
};
use sqlx::{Any, Transaction, any::AnyRow};

use self::pending::pending_forget_in_tx;
pub(crate) use self::{
    moves::Move,
    pending::Pending,
    start::{MOST_FUNCTIONS, NewRollout, Target},
};
use super::{
    Store,
    changes::config_bump_all,
    config_bump,
    functions::{function_fetch_in_tx, function_write_in_tx},
    releases::Touched,
    row,
    webhooks::webhook_tell_in_tx,
};
use crate::{
    audit::Change,
    error::Error,
    model::{FunctionRecord, RolloutPart, RolloutRecord, RolloutState, Share},
    webhooks::Event,
};

/// Functions that a release's cause names; of more, only the number is said.
const NAMED: usize = 5;

/// A function that a rollout moves, as it is about to be written.
type Moved = (RolloutPart, FunctionRecord);

fn read_part(row: &AnyRow) -> Result<RolloutPart, Error> {
    let version = |column| {
        let number: u32 = row::count(row, column)?;
        VersionNumber::try_from(number).map_err(|_| Error::Damaged { what: column, value: number.to_string() })
    };
    Ok(RolloutPart {
        function: FunctionRef { namespace: row::parsed(row, "namespace")?, function: row::parsed(row, "name")? },
        uid: row::parsed(row, "function_uid")?,
        old: version("old_version")?,
        new: version("new_version")?,
    })
}

fn read(row: &AnyRow) -> Result<RolloutRecord, Error> {
    Ok(RolloutRecord {
        id: row::parsed(row, "rollout")?,
        namespace: row::parsed(row, "namespace")?,
        parts: vec![read_part(row)?],
        steps: row::json(row, "steps")?,
        step: row::count(row, "step")?,
        step_time: Duration::from_millis(row::count(row, "step_millis")?),
        step_calls: row::count(row, "step_calls")?,
        state: row::parsed(row, "state")?,
        reason: row::text(row, "reason")?,
        creator: row::text(row, "creator")?,
        app: row::optional_parsed(row, "app")?,
        create_time: row::time(row, "create_time")?,
        update_time: row::time(row, "update_time")?,
    })
}

/// Puts rows together, those of one rollout behind each other.
fn read_all(rows: &[AnyRow]) -> Result<Vec<RolloutRecord>, Error> {
    let mut found: Vec<RolloutRecord> = Vec::new();
    for row in rows {
        let rollout = read(row)?;
        match found.last_mut().filter(|last| last.id == rollout.id) {
            Some(last) => last.parts.extend(rollout.parts),
            None => found.push(rollout),
        }
    }
    Ok(found)
}

/// A rollout with those of its functions that have had no other one since.
async fn rollout_find_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    id: RolloutId,
) -> Result<Option<RolloutRecord>, Error> {
    let sql = "SELECT rollouts.*, functions.name, rollout_routes.app FROM rollouts \
               JOIN functions ON functions.uid = rollouts.function_uid \
               LEFT JOIN rollout_routes ON rollout_routes.rollout = rollouts.rollout \
               WHERE rollouts.namespace = $1 AND rollouts.rollout = $2 ORDER BY functions.name";
    let rows = sqlx::query(sql).bind(namespace.as_str()).bind(id.to_string()).fetch_all(&mut **tx).await?;
    Ok(read_all(&rows)?.pop())
}

/// The last rollout of a function, with the other functions that it moves.
async fn rollout_of_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
) -> Result<Option<RolloutRecord>, Error> {
    let query = sqlx::query("SELECT rollout FROM rollouts WHERE namespace = $1 AND function_uid = $2");
    let query = query.bind(function.namespace.as_str()).bind(function.uid.to_string());
    match query.fetch_optional(&mut **tx).await? {
        Some(found) => rollout_find_in_tx(tx, &function.namespace, row::parsed(&found, "rollout")?).await,
        None => Ok(None),
    }
}

async fn rollout_put_in_tx(tx: &mut Transaction<'static, Any>, rollout: &RolloutRecord) -> Result<(), Error> {
    pending_forget_in_tx(tx, rollout).await?;
    for part in &rollout.parts {
        part_put_in_tx(tx, rollout, part).await?;
    }
    Ok(())
}

async fn part_put_in_tx(
    tx: &mut Transaction<'static, Any>,
    rollout: &RolloutRecord,
    part: &RolloutPart,
) -> Result<(), Error> {
    let sql = "INSERT INTO rollouts (function_uid, namespace, old_version, new_version, steps, step, step_millis, \
               step_calls, state, reason, creator, create_time, update_time, rollout) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
               ON CONFLICT (function_uid) DO UPDATE SET \
               old_version = excluded.old_version, new_version = excluded.new_version, steps = excluded.steps, \
               step = excluded.step, step_millis = excluded.step_millis, step_calls = excluded.step_calls, \
               state = excluded.state, reason = excluded.reason, creator = excluded.creator, \
               create_time = excluded.create_time, update_time = excluded.update_time, rollout = excluded.rollout";
    let millis = i64::try_from(rollout.step_time.as_millis()).unwrap_or(i64::MAX);
    let query = sqlx::query(sql).bind(part.uid.to_string()).bind(rollout.namespace.as_str());
    let query = query.bind(i64::from(part.old.get())).bind(i64::from(part.new.get()));
    let query = query.bind(row::to_json(&rollout.steps)?).bind(i64::try_from(rollout.step).unwrap_or(i64::MAX));
    let query = query.bind(millis).bind(row::signed(rollout.step_calls)).bind(rollout.state.as_str());
    let query = query.bind(&*rollout.reason).bind(&*rollout.creator).bind(rollout.create_time.0);
    query.bind(rollout.update_time.0).bind(rollout.id.to_string()).execute(&mut **tx).await?;
    Ok(())
}

/// The functions of a rollout as they are.
async fn functions_of_in_tx(tx: &mut Transaction<'static, Any>, rollout: &RolloutRecord) -> Result<Vec<Moved>, Error> {
    let mut found = Vec::with_capacity(rollout.parts.len());
    for part in &rollout.parts {
        found.push((part.clone(), function_fetch_in_tx(tx, &part.function).await?));
    }
    Ok(found)
}

impl Store {
    /// The last rollout of a function, if there was one.
    pub(crate) async fn rollout_fetch(&self, name: &FunctionRef) -> Result<Option<RolloutRecord>, Error> {
        let mut tx = self.begin().await?;
        let function = function_fetch_in_tx(&mut tx, name).await?;
        let found = rollout_of_in_tx(&mut tx, &function).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// The rollouts of all namespaces that go on.
    pub(crate) async fn rollout_running(&self) -> Result<Vec<RolloutRecord>, Error> {
        let sql = "SELECT rollouts.*, functions.name, rollout_routes.app FROM rollouts \
                   JOIN functions ON functions.uid = rollouts.function_uid \
                   LEFT JOIN rollout_routes ON rollout_routes.rollout = rollouts.rollout WHERE rollouts.state = 'running' \
                   ORDER BY rollouts.rollout, functions.name";
        read_all(&sqlx::query(sql).fetch_all(&self.pool).await?)
    }

    /// Writes a rollout with the traffic of the functions that it moves; nothing where one of them has changed since it was read.
    async fn rollout_write(
        &self,
        mut tx: Transaction<'static, Any>,
        mut rollout: RolloutRecord,
        moved: &mut [Moved],
    ) -> Result<Option<RolloutRecord>, Error> {
        for (_, function) in &mut *moved {
            if !function_write_in_tx(&mut tx, function).await? {
                return Ok(None);
            }
        }
        let routes = self.pending_apply_in_tx(&mut tx, &mut rollout).await?;
        rollout_put_in_tx(&mut tx, &rollout).await?;
        if routes.is_some() {
            config_bump_all(&mut tx).await?
        } else {
            config_bump(&mut tx).await?
        }
        let touched = match &*moved {
            [(_, only)] if routes.is_none() => Touched::Function(&only.name),
            _ => Touched::All,
        };
        self.release_record_in_tx(&mut tx, &rollout.namespace, touched, cause(&rollout, moved)).await?;
        let parts: Vec<_> = moved.iter().map(|(part, _)| part.clone()).collect();
        if let Some(event) = Event::moved(&rollout, &parts, &self.author.subject) {
            webhook_tell_in_tx(&mut tx, &event).await?;
        }
        for (part, _) in &*moved {
            let change = Change::new(action(&rollout), &rollout.namespace, &part.function).after(&(&rollout, part));
            self.audit_in_tx(&mut tx, change).await?;
        }
        if let Some(change) = routes {
            self.audit_in_tx(&mut tx, change).await?;
        }
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
fn cause(rollout: &RolloutRecord, moved: &[Moved]) -> String {
    let of = |version: fn(&RolloutPart) -> VersionNumber| {
        let named = moved.iter().take(NAMED).map(|(part, _)| format!("{}@{}", part.function.function, version(part)));
        let named = named.collect::<Vec<_>>().join(", ");
        match moved.len().saturating_sub(NAMED) {
            0 => named,
            others => format!("{named} and {others} more"),
        }
    };
    let shares = moved.first().map(|(part, _)| rollout.shares(part)).unwrap_or_default();
    match shares.as_slice() {
        _ if matches!(rollout.state, RolloutState::Back | RolloutState::Quarantined) => {
            format!("take {} back", of(|part| part.new))
        }
        [Share(_, _), Share(_, percent)] if rollout.state == RolloutState::Running => {
            format!("roll out {} to {percent}%", of(|part| part.new))
        }
        _ if rollout.step < rollout.steps.len() => format!("roll back {}", of(|part| part.old)),
        _ => format!("promote {}", of(|part| part.new)),
    }
}
