//! What is used or lent of quotas, in the database. A loan is here before a gateway hears of it, so that nothing is lent twice
//! whatever fails in between. How much a quota allows is elsewhere: in plans, versions and namespaces.

use dunlin_proto::limit::LimitId;
use sqlx::{Any, Row, Transaction};

use super::{Store, retried, row};
use crate::{error::Error, lending::Unused};

/// What a gateway gives back, or has taken without a loan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settlement {
    /// When the period began that it is of, in seconds since 1970.
    pub(crate) period_start: i64,
    /// What it had been lent and has not used.
    pub(crate) left: u64,
    /// What it has used beyond its loans.
    pub(crate) owed: u64,
}

impl Store {
    /// Settles what a gateway gives back or owes, then lends it what `grant` makes of what is gone of the period. Returns
    /// what was gone before, and the loan.
    pub(crate) async fn quota_lend(
        &self,
        owner: &LimitId,
        period_start: i64,
        settled: Settlement,
        grant: impl Fn(u64) -> u64,
    ) -> Result<(u64, u64), Error> {
        let mut tx = self.begin().await?;
        if settled != (Settlement { period_start: settled.period_start, ..Settlement::default() }) {
            quota_open_in_tx(&mut tx, owner, settled.period_start).await?;
            let sql = "UPDATE period_quotas SET gone = (CASE WHEN gone < $1 THEN 0 ELSE gone - $1 END) + $2 \
                       WHERE owner = $3 AND period_start = $4";
            let query = sqlx::query(sql).bind(row::signed(settled.left)).bind(row::signed(settled.owed));
            query.bind(owner.to_string()).bind(settled.period_start).execute(&mut *tx).await?;
        }
        quota_open_in_tx(&mut tx, owner, period_start).await?;
        // Writing the row holds it, so that loans to several gateways come one after the other.
        let sql = "UPDATE period_quotas SET gone = gone WHERE owner = $1 AND period_start = $2 RETURNING gone";
        let held = sqlx::query(sql).bind(owner.to_string()).bind(period_start).fetch_one(&mut *tx).await?;
        let gone = row::unsigned(held.try_get("gone")?);
        let granted = grant(gone);
        if granted > 0 {
            let sql = "UPDATE period_quotas SET gone = gone + $1 WHERE owner = $2 AND period_start = $3";
            let query = sqlx::query(sql).bind(row::signed(granted)).bind(owner.to_string()).bind(period_start);
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok((gone, granted))
    }

    /// Gives back what was lent and cannot have been used, of several quotas: all of it or nothing. Says whether it has: only the
    /// newest start of the scheduler knows who may use what.
    pub(crate) async fn quota_take_back(&self, epoch: u64, unused: &[Unused]) -> Result<bool, Error> {
        retried!(self.quota_take_back_once(epoch, unused))
    }

    async fn quota_take_back_once(&self, epoch: u64, unused: &[Unused]) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        // Writing the row keeps the next start waiting until this has ended.
        let sql = "UPDATE counters SET value = value WHERE name = 'epoch' RETURNING value";
        let newest = sqlx::query(sql).fetch_one(&mut *tx).await?;
        if row::unsigned(newest.try_get("value")?) != epoch {
            return Ok(false);
        }
        for Unused { owner, period_start, admissions } in unused {
            let sql = "UPDATE period_quotas SET gone = CASE WHEN gone < $1 THEN 0 ELSE gone - $1 END \
                       WHERE owner = $2 AND period_start = $3";
            let query = sqlx::query(sql).bind(row::signed(*admissions)).bind(owner.to_string());
            query.bind(*period_start).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// What is used or lent of a quota in a period.
    pub(crate) async fn quota_gone(&self, owner: &LimitId, period_start: i64) -> Result<u64, Error> {
        let query = sqlx::query("SELECT gone FROM period_quotas WHERE owner = $1 AND period_start = $2");
        let found = query.bind(owner.to_string()).bind(period_start).fetch_optional(&self.pool).await?;
        found.map_or(Ok(0), |row| row::count(&row, "gone"))
    }

    /// Forgets periods that began before a moment, in seconds since 1970.
    pub(crate) async fn quota_forget(&self, before: i64) -> Result<(), Error> {
        sqlx::query("DELETE FROM period_quotas WHERE period_start < $1").bind(before).execute(&self.pool).await?;
        Ok(())
    }
}

async fn quota_open_in_tx(tx: &mut Transaction<'static, Any>, owner: &LimitId, period_start: i64) -> Result<(), Error> {
    let sql = "INSERT INTO period_quotas (owner, period_start, gone) VALUES ($1, $2, 0) \
               ON CONFLICT (owner, period_start) DO NOTHING";
    sqlx::query(sql).bind(owner.to_string()).bind(period_start).execute(&mut **tx).await?;
    Ok(())
}
