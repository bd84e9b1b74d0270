//! What invocations used, by the hour, in the database. A report of a gateway and the note that it has been counted are one
//! transaction, so that it counts once however often it is sent. Functions that are deleted keep their usage.

use dunlin_proto::ids::Namespace;
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    Store,
    namespaces::{namespace_fetch_in_tx, namespace_find_in_tx},
    retried, row,
};
use crate::{
    error::Error,
    model::{Amounts, Grouping, ReportId, Time, UsageDelta, UsageSum},
};

/// From when on and up to when, in seconds since 1970.
pub(crate) type Span = (i64, i64);

fn amounts(row: &AnyRow) -> Result<Amounts, Error> {
    Ok(Amounts {
        invocations: row::count(row, "invocations")?,
        cpu_micros: row::count(row, "cpu_us")?,
        memory_byte_seconds: row::count(row, "memory_byte_seconds")?,
        bytes_in: row::count(row, "bytes_in")?,
        bytes_out: row::count(row, "bytes_out")?,
    })
}

fn read(row: &AnyRow) -> Result<UsageSum, Error> {
    Ok(UsageSum {
        hour: row::number(row, "the_hour")?,
        function: row::text(row, "the_function")?,
        function_uid: row::text(row, "the_uid")?,
        version: row::count(row, "the_version")?,
        key: row::text(row, "the_key")?,
        amounts: amounts(row)?,
    })
}

/// Notes that a report is counted. Says whether it was not before.
async fn note_in_tx(tx: &mut Transaction<'static, Any>, report: &ReportId) -> Result<bool, Error> {
    let sql = "INSERT INTO usage_applied (gateway, boot, sequence, update_time) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (gateway, boot) DO UPDATE SET sequence = excluded.sequence, \
               update_time = excluded.update_time WHERE usage_applied.sequence < excluded.sequence";
    let query = sqlx::query(sql).bind(report.gateway.as_str()).bind(report.boot.to_string());
    let query = query.bind(row::signed(report.sequence)).bind(Time::now().0);
    Ok(query.execute(&mut **tx).await?.rows_affected() > 0)
}

async fn add_in_tx(tx: &mut Transaction<'static, Any>, delta: &UsageDelta) -> Result<(), Error> {
    let sql = "INSERT INTO usage_hours (namespace, hour, function, function_uid, version, key_id, invocations, cpu_us, \
               memory_byte_seconds, bytes_in, bytes_out) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
               ON CONFLICT (namespace, hour, function_uid, version, key_id) DO UPDATE SET \
               invocations = usage_hours.invocations + excluded.invocations, \
               cpu_us = usage_hours.cpu_us + excluded.cpu_us, \
               memory_byte_seconds = usage_hours.memory_byte_seconds + excluded.memory_byte_seconds, \
               bytes_in = usage_hours.bytes_in + excluded.bytes_in, \
               bytes_out = usage_hours.bytes_out + excluded.bytes_out";
    let amounts = delta.amounts;
    let query = sqlx::query(sql).bind(delta.function.namespace.as_str()).bind(delta.hour);
    let query = query.bind(delta.function.function.as_str()).bind(delta.version.function.to_string());
    let query = query.bind(i64::from(delta.version.number.get()));
    let query = query.bind(delta.key.as_ref().map_or("", |key| key.as_str()));
    let query = query.bind(row::signed(amounts.invocations)).bind(row::signed(amounts.cpu_micros));
    let query = query.bind(row::signed(amounts.memory_byte_seconds));
    let query = query.bind(row::signed(amounts.bytes_in)).bind(row::signed(amounts.bytes_out));
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Those of namespaces that are there, in an order that all transactions have in common.
async fn known_in_tx(tx: &mut Transaction<'static, Any>, deltas: &[UsageDelta]) -> Result<Vec<UsageDelta>, Error> {
    let mut deltas = deltas.to_vec();
    deltas.sort_by(|a, b| (&a.function, a.version, &a.key, a.hour).cmp(&(&b.function, b.version, &b.key, b.hour)));
    let mut known = Vec::new();
    for of_namespace in deltas.chunk_by(|a, b| a.function.namespace == b.function.namespace) {
        if let Some(first) = of_namespace.first()
            && namespace_find_in_tx(tx, &first.function.namespace).await?.is_some()
        {
            known.extend_from_slice(of_namespace);
        }
    }
    Ok(known)
}

impl Store {
    /// Counts a report, where it has not been counted before; says whether it was new. What is of no namespace any more is left
    /// out.
    pub(crate) async fn usage_apply(&self, report: &ReportId, deltas: &[UsageDelta]) -> Result<bool, Error> {
        retried!(self.usage_try_apply(report, deltas))
    }

    async fn usage_try_apply(&self, report: &ReportId, deltas: &[UsageDelta]) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let new = note_in_tx(&mut tx, report).await?;
        if new {
            for delta in known_in_tx(&mut tx, deltas).await? {
                add_in_tx(&mut tx, &delta).await?;
            }
        }
        tx.commit().await?;
        Ok(new)
    }

    /// Sums of a namespace's usage, in the order of hours, functions, versions and keys, after so many of them.
    pub(crate) async fn usage_list(
        &self,
        namespace: &Namespace,
        (from, to): Span,
        by: Grouping,
        (skip, most): (i64, i64),
    ) -> Result<Vec<UsageSum>, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let sql = "SELECT CASE WHEN $1 = 1 THEN hour ELSE 0 END AS the_hour, \
                   CASE WHEN $2 = 1 THEN function ELSE '' END AS the_function, \
                   CASE WHEN $2 = 1 THEN function_uid ELSE '' END AS the_uid, \
                   CASE WHEN $3 = 1 THEN version ELSE 0 END AS the_version, \
                   CASE WHEN $4 = 1 THEN key_id ELSE '' END AS the_key, \
                   CAST(SUM(invocations) AS BIGINT) AS invocations, CAST(SUM(cpu_us) AS BIGINT) AS cpu_us, \
                   CAST(SUM(memory_byte_seconds) AS BIGINT) AS memory_byte_seconds, \
                   CAST(SUM(bytes_in) AS BIGINT) AS bytes_in, CAST(SUM(bytes_out) AS BIGINT) AS bytes_out \
                   FROM usage_hours WHERE namespace = $5 AND hour >= $6 AND hour < $7 \
                   GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5 LIMIT $8 OFFSET $9";
        let query = sqlx::query(sql).bind(i64::from(by.hour)).bind(i64::from(by.function || by.version));
        let query = query.bind(i64::from(by.version)).bind(i64::from(by.key));
        let query = query.bind(namespace.as_str()).bind(from).bind(to).bind(most).bind(skip);
        let rows = query.fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// All that a namespace used in hours that began in a time.
    pub(crate) async fn usage_sum(&self, namespace: &Namespace, (from, to): Span) -> Result<Amounts, Error> {
        let sql = "SELECT CAST(COALESCE(SUM(invocations), 0) AS BIGINT) AS invocations, \
                   CAST(COALESCE(SUM(cpu_us), 0) AS BIGINT) AS cpu_us, \
                   CAST(COALESCE(SUM(memory_byte_seconds), 0) AS BIGINT) AS memory_byte_seconds, \
                   CAST(COALESCE(SUM(bytes_in), 0) AS BIGINT) AS bytes_in, \
                   CAST(COALESCE(SUM(bytes_out), 0) AS BIGINT) AS bytes_out \
                   FROM usage_hours WHERE namespace = $1 AND hour >= $2 AND hour < $3";
        let query = sqlx::query(sql).bind(namespace.as_str()).bind(from).bind(to);
        amounts(&query.fetch_one(&self.pool).await?)
    }

    /// Forgets hours that began before a moment, in seconds since 1970, and starts of gateways that have said nothing since.
    pub(crate) async fn usage_forget(&self, before: i64) -> Result<(), Error> {
        sqlx::query("DELETE FROM usage_hours WHERE hour < $1").bind(before).execute(&self.pool).await?;
        let query = sqlx::query("DELETE FROM usage_applied WHERE update_time < $1");
        query.bind(before.saturating_mul(1_000_000)).execute(&self.pool).await?;
        Ok(())
    }
}
