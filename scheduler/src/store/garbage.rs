//! Which artifacts and which code the database knows, and forgetting those that no version is made of. What is decided of each is in
//! `garbage.rs`.

use std::{collections::BTreeSet, time::Duration};

use dunlin_proto::ids::{Digest, Namespace};
use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{Store, retried, row};
use crate::{
    artifacts::Held,
    error::Error,
    garbage::{Fate, fate},
    model::Time,
};

/// Artifacts of which something becomes in one transaction; the next ones have their turn at the next look.
const AT_ONCE: i64 = 1_000;

/// An artifact of a namespace of which no version is made, or none was when it was last looked.
struct Idle {
    namespace: Namespace,
    digest: Digest,
    is_used: bool,
    since: Option<Time>,
}

fn read(row: &AnyRow) -> Result<Idle, Error> {
    Ok(Idle {
        namespace: row::parsed(row, "namespace")?,
        digest: row::parsed(row, "digest")?,
        is_used: row::number(row, "versions")? > 0,
        since: row.try_get::<Option<i64>, _>("unused_since")?.map(Time),
    })
}

async fn idle_in_tx(tx: &mut Transaction<'static, Any>) -> Result<Vec<Idle>, Error> {
    let sql = "SELECT a.namespace, a.digest, a.unused_since, \
               (SELECT COUNT(*) FROM versions v WHERE v.artifact = a.digest AND v.namespace = a.namespace) AS versions \
               FROM artifacts a WHERE a.unused_since IS NOT NULL OR NOT EXISTS \
               (SELECT 1 FROM versions v WHERE v.artifact = a.digest AND v.namespace = a.namespace) \
               ORDER BY a.unused_since, a.namespace, a.digest LIMIT $1";
    let rows = sqlx::query(sql).bind(AT_ONCE).fetch_all(&mut **tx).await?;
    rows.iter().map(read).collect()
}

/// Does with an artifact what was decided, unless somebody has begun to use it since.
async fn settle_in_tx(tx: &mut Transaction<'static, Any>, idle: &Idle, fate: Fate, now: Time) -> Result<(), Error> {
    let sql = match fate {
        Fate::Keep => return Ok(()),
        Fate::Used => {
            "UPDATE artifacts SET unused_since = NULL WHERE namespace = $1 AND digest = $2 AND unused_since = $3"
        }
        Fate::Unused => {
            "UPDATE artifacts SET unused_since = $3 WHERE namespace = $1 AND digest = $2 AND unused_since IS NULL"
        }
        Fate::Gone => {
            "DELETE FROM artifacts WHERE namespace = $1 AND digest = $2 AND unused_since = $3 AND NOT EXISTS \
             (SELECT 1 FROM versions v WHERE v.artifact = artifacts.digest AND v.namespace = artifacts.namespace)"
        }
    };
    let query = sqlx::query(sql).bind(idle.namespace.as_str()).bind(idle.digest.hex());
    query.bind(idle.since.unwrap_or(now).0).execute(&mut **tx).await?;
    Ok(())
}

impl Store {
    /// Notes which artifacts are no longer used, forgets those that have not been for so long, and the code of those that nobody has
    /// any more. Their bytes stay: they go with the objects that nobody knows.
    pub(crate) async fn artifacts_collect(&self, grace: Duration, now: Time) -> Result<(), Error> {
        retried!(self.artifacts_collect_once(grace, now))
    }

    async fn artifacts_collect_once(&self, grace: Duration, now: Time) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        for idle in &idle_in_tx(&mut tx).await? {
            settle_in_tx(&mut tx, idle, fate(idle.is_used, idle.since, now, grace), now).await?;
        }
        let sql = "DELETE FROM codes WHERE create_time < $1 \
                   AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.digest = codes.artifact) \
                   AND NOT EXISTS (SELECT 1 FROM versions v WHERE v.artifact = codes.artifact)";
        let micros = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
        sqlx::query(sql).bind(now.0.saturating_sub(micros)).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// All artifacts that a namespace has or that a version is made of, and all code.
    pub(crate) async fn objects_known(&self) -> Result<BTreeSet<Held>, Error> {
        let mut tx = self.begin_snapshot().await?;
        let sql = "SELECT digest FROM artifacts UNION SELECT artifact AS digest FROM versions";
        let artifacts = sqlx::query(sql).fetch_all(&mut *tx).await?;
        let codes = sqlx::query("SELECT code_key FROM codes").fetch_all(&mut *tx).await?;
        tx.commit().await?;
        let artifacts = artifacts.iter().map(|row| row::parsed(row, "digest").map(Held::Artifact));
        artifacts.chain(codes.iter().map(|row| row::text(row, "code_key").map(Held::Code))).collect()
    }

    /// Whether it is one of these.
    pub(crate) async fn object_is_known(&self, what: &Held) -> Result<bool, Error> {
        let (sql, name) = match what {
            Held::Artifact(digest) => (
                "SELECT digest FROM artifacts WHERE digest = $1 UNION SELECT artifact AS digest FROM versions WHERE artifact = $1",
                digest.hex(),
            ),
            Held::Code(key) => ("SELECT code_key FROM codes WHERE code_key = $1", key.clone()),
        };
        Ok(!sqlx::query(sql).bind(name).fetch_all(&self.pool).await?.is_empty())
    }
}
