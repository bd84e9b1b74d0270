//! Deletes versions that nobody can get any more. Whoever gives one calls meanwhile writes the function's row, and so does this: one of
//! them finds what the other did.

use std::collections::BTreeSet;

use dunlin_proto::{
    ids::{Namespace, ReleaseNumber, VersionNumber},
    names::{FunctionRef, ReleaseName},
};
use sqlx::{Any, Transaction};

use super::{
    Store,
    aliases::alias_list_in_tx,
    config_bump,
    functions::{function_fetch_in_tx, function_write_in_tx},
    releases::{release_contents_in_tx, release_newest_in_tx},
    retried, versions,
};
use crate::{
    collection::{Keeping, held},
    error::Error,
    model::{FunctionRecord, Time},
    releases::FunctionState,
};

/// The last releases of a namespace, whose versions stay.
const HOLDING: u32 = 10;

impl Store {
    /// Deletes the versions of a function that are not to be kept; says which.
    pub(crate) async fn versions_collect(
        &self,
        name: &FunctionRef,
        keeping: Keeping,
        now: Time,
    ) -> Result<Vec<VersionNumber>, Error> {
        retried!(self.versions_collect_once(name, keeping, now))
    }

    async fn versions_collect_once(
        &self,
        name: &FunctionRef,
        keeping: Keeping,
        now: Time,
    ) -> Result<Vec<VersionNumber>, Error> {
        let mut tx = self.begin().await?;
        let mut function = function_fetch_in_tx(&mut tx, name).await?;
        let sql = versions::select!("WHERE v.namespace = $1 AND v.function_uid = $2");
        let query = sqlx::query(sql).bind(name.namespace.as_str()).bind(function.uid.to_string());
        let rows = query.fetch_all(&mut *tx).await?;
        let known = rows.iter().map(versions::read).collect::<Result<Vec<_>, _>>()?;
        let held = held_in_tx(&mut tx, &function).await?;
        let mut surplus = keeping.surplus(&known, now);
        surplus.retain(|number| !held.contains(number));
        if surplus.is_empty() {
            return Ok(surplus);
        }
        for number in &surplus {
            let sql =
                "DELETE FROM versions WHERE namespace = $1 AND function_uid = $2 AND number = $3 AND activation = 0";
            let query = sqlx::query(sql).bind(name.namespace.as_str()).bind(function.uid.to_string());
            query.bind(i64::from(number.get())).execute(&mut *tx).await?;
        }
        // Nobody is sent back to what is gone.
        function.history.retain(|number| !surplus.contains(number));
        if !function_write_in_tx(&mut tx, &mut function).await? {
            // Somebody has changed the function meanwhile: the next look finds out how.
            return Ok(Vec::new());
        }
        config_bump(&mut tx).await?;
        tx.commit().await?;
        Ok(surplus)
    }
}

/// The versions that callers get, or got in one of the last releases.
async fn held_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
) -> Result<BTreeSet<VersionNumber>, Error> {
    let aliases = alias_list_in_tx(tx, function).await?;
    let mut states: Vec<FunctionState> = FunctionState::of(function, &aliases).into_iter().collect();
    for release in last_releases_in_tx(tx, &function.namespace).await? {
        let contents = release_contents_in_tx(tx, &release).await?;
        states.extend(contents.functions.get(&function.name).cloned());
    }
    Ok(held(function, &states))
}

async fn last_releases_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
) -> Result<Vec<ReleaseName>, Error> {
    let Some(newest) = release_newest_in_tx(tx, namespace).await? else { return Ok(Vec::new()) };
    let oldest = newest.number.saturating_sub(HOLDING - 1).max(1);
    let numbers = (oldest..=newest.number).filter_map(|number| ReleaseNumber::try_from(number).ok());
    Ok(numbers.map(|number| ReleaseName { namespace: namespace.clone(), number }).collect())
}
