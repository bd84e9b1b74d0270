//! Which gateways may hold parts of limited rates: known before anything is lent to them, so that a restarted scheduler
//! waits for them. What they hold is theirs to report.

use std::collections::BTreeSet;

use dunlin_proto::ids::GatewayId;

use super::{Store, row};
use crate::error::Error;

impl Store {
    /// All of them.
    pub(crate) async fn holder_list(&self) -> Result<BTreeSet<GatewayId>, Error> {
        let rows = sqlx::query("SELECT gateway FROM limit_holders").fetch_all(&self.pool).await?;
        rows.iter().map(|row| row::parsed(row, "gateway")).collect()
    }

    /// One more may hold parts.
    pub(crate) async fn holder_add(&self, gateway: &GatewayId) -> Result<(), Error> {
        let sql = "INSERT INTO limit_holders (gateway) VALUES ($1) ON CONFLICT (gateway) DO NOTHING";
        sqlx::query(sql).bind(gateway.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    /// One holds nothing any more.
    pub(crate) async fn holder_remove(&self, gateway: &GatewayId) -> Result<(), Error> {
        sqlx::query("DELETE FROM limit_holders WHERE gateway = $1").bind(gateway.as_str()).execute(&self.pool).await?;
        Ok(())
    }
}
