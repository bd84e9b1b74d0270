//! Join tokens that have been used, and who joined by them.

use std::collections::BTreeMap;

use dunlin_proto::{ids::Digest, trust::Identity};
use serde_json::json;
use sqlx::{Any, Transaction};

use super::{Store, retried, row};
use crate::{
    audit::Change,
    error::Error,
    members::{taken, used},
    model::Time,
    tokens::JoinGrant,
};

impl Store {
    /// Uses up a join token, and gives its process the name; neither without the other. The same key may repeat it.
    ///
    /// # Errors
    /// Another key has used the token, or has the name and the token may not replace it.
    pub(crate) async fn member_join(
        &self,
        grant: &JoinGrant,
        identity: &Identity,
        key: Digest,
        now: Time,
    ) -> Result<(), Error> {
        retried!(self.member_join_once(grant, identity, key, now))
    }

    async fn member_join_once(
        &self,
        grant: &JoinGrant,
        identity: &Identity,
        key: Digest,
        now: Time,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        token_use_in_tx(&mut tx, grant, identity, key, now).await?;
        member_name_in_tx(&mut tx, grant, identity, key, now).await?;
        let change = Change::of_cluster("process.join", &format!("{}/{}", identity.role, identity.id))
            .after(&json!({ "join_token_id": grant.id }));
        self.audit_in_tx(&mut tx, change).await?;
        tx.commit().await?;
        Ok(())
    }

    /// All processes that have joined, with their keys.
    pub(crate) async fn member_list(&self) -> Result<BTreeMap<Identity, Digest>, Error> {
        let rows = sqlx::query("SELECT identity, key_sha256 FROM members").fetch_all(&self.pool).await?;
        rows.iter().map(|found| Ok((row::parsed(found, "identity")?, row::parsed(found, "key_sha256")?))).collect()
    }

    /// Forgets used tokens that have expired, since nobody can use them any more; says how many.
    pub(crate) async fn join_token_expire(&self, now: Time) -> Result<u64, Error> {
        let deleted = sqlx::query("DELETE FROM join_tokens WHERE expire_time < $1").bind(now.0).execute(&self.pool);
        Ok(deleted.await?.rows_affected())
    }
}

async fn token_use_in_tx(
    tx: &mut Transaction<'static, Any>,
    grant: &JoinGrant,
    identity: &Identity,
    key: Digest,
    now: Time,
) -> Result<(), Error> {
    let query = sqlx::query("SELECT key_sha256, identity FROM join_tokens WHERE id = $1").bind(&*grant.id);
    if let Some(found) = query.fetch_optional(&mut **tx).await? {
        let same = row::parsed::<Digest>(&found, "key_sha256")? == key
            && row::parsed::<Identity>(&found, "identity")? == *identity;
        return if same { Ok(()) } else { Err(used(grant).into()) };
    }
    let sql = "INSERT INTO join_tokens (id, key_sha256, identity, use_time, expire_time) VALUES ($1, $2, $3, $4, $5)";
    let query = sqlx::query(sql).bind(&*grant.id).bind(key.hex()).bind(identity.to_string());
    query.bind(now.0).bind(grant.expire_time.0).execute(&mut **tx).await?;
    Ok(())
}

async fn member_name_in_tx(
    tx: &mut Transaction<'static, Any>,
    grant: &JoinGrant,
    identity: &Identity,
    key: Digest,
    now: Time,
) -> Result<(), Error> {
    let query = sqlx::query("SELECT key_sha256 FROM members WHERE identity = $1").bind(identity.to_string());
    if let Some(found) = query.fetch_optional(&mut **tx).await? {
        let other = row::parsed::<Digest>(&found, "key_sha256")? != key;
        if other && !grant.replaces() {
            return Err(taken(identity).into());
        }
    }
    let sql = "INSERT INTO members (identity, key_sha256, join_time) VALUES ($1, $2, $3) \
               ON CONFLICT (identity) DO UPDATE SET key_sha256 = excluded.key_sha256, join_time = excluded.join_time";
    sqlx::query(sql).bind(identity.to_string()).bind(key.hex()).bind(now.0).execute(&mut **tx).await?;
    Ok(())
}
