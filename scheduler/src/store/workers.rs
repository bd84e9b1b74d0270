//! Which workers are members of the cluster, and which of them an operator drains. Everything else about workers is theirs
//! to report.

use std::collections::BTreeMap;

use dunlin_proto::{ids::WorkerId, names::WorkerName};
use serde_json::json;

use super::{Store, row};
use crate::{audit::Change, error::Error};

/// What is remembered of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WorkerRecord {
    /// It has joined and not left.
    pub(crate) member: bool,
    /// An operator drains it.
    pub(crate) drained: bool,
}

impl Store {
    /// All workers that are members or drained.
    pub(crate) async fn worker_list(&self) -> Result<BTreeMap<WorkerId, WorkerRecord>, Error> {
        let rows = sqlx::query("SELECT name, member, drained FROM workers").fetch_all(&self.pool).await?;
        let read = |row| {
            let (member, drained) = (row::number(row, "member")? != 0, row::number(row, "drained")? != 0);
            Ok((row::parsed(row, "name")?, WorkerRecord { member, drained }))
        };
        rows.iter().map(read).collect()
    }

    /// Notes that a worker has joined or left.
    pub(crate) async fn worker_set_member(&self, name: &WorkerId, member: bool) -> Result<(), Error> {
        let sql = "INSERT INTO workers (name, member, drained) VALUES ($1, $2, 0) \
                   ON CONFLICT (name) DO UPDATE SET member = excluded.member";
        sqlx::query(sql).bind(name.as_str()).bind(i64::from(member)).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that an operator drains a worker, or no longer does.
    pub(crate) async fn worker_set_drained(&self, name: &WorkerId, drained: bool) -> Result<(), Error> {
        let sql = "INSERT INTO workers (name, member, drained) VALUES ($1, 0, $2) \
                   ON CONFLICT (name) DO UPDATE SET drained = excluded.drained";
        let mut tx = self.begin().await?;
        sqlx::query(sql).bind(name.as_str()).bind(i64::from(drained)).execute(&mut *tx).await?;
        let change = Change::of_cluster("worker.drain", &WorkerName { worker: name.clone() });
        self.audit_in_tx(&mut tx, change.after(&json!({ "drained": drained }))).await?;
        tx.commit().await?;
        Ok(())
    }
}
