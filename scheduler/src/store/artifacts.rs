//! Which namespace has uploaded what, and the seals of the code compiled from it. The bytes are in the object store.

use dunlin_proto::ids::{Digest, Namespace};
use serde_json::json;
use sqlx::any::AnyRow;

use super::{Store, row};
use crate::{
    audit::Change,
    error::Error,
    model::{Code, Compiled, Kind, Time},
};

/// Reads a row of `codes`.
pub(super) fn read(row: &AnyRow) -> Result<Compiled, Error> {
    let (kind, signature) = (row::text(row, "kind")?, row::text(row, "signature")?);
    let code = Code {
        key: row::text(row, "code_key")?,
        artifact: row::parsed(row, "artifact")?,
        fingerprint: row::text(row, "fingerprint")?,
        body: row::parsed(row, "body_sha256")?,
        size: row::count(row, "size")?,
        signature: hex::decode(&signature).map_err(|_| Error::Damaged { what: "signature", value: signature })?,
    };
    let kind = Kind::from_text(&kind).ok_or(Error::Damaged { what: "kind", value: kind })?;
    Ok(Compiled { code, kind, imports: row::json(row, "imports")? })
}

impl Store {
    /// The size of an artifact that the namespace has uploaded and is about to use: the time after which it may go begins anew.
    pub(crate) async fn artifact_use(&self, namespace: &Namespace, digest: &Digest) -> Result<Option<u64>, Error> {
        let sql = "UPDATE artifacts SET unused_since = NULL WHERE namespace = $1 AND digest = $2 RETURNING size";
        let query = sqlx::query(sql);
        let found = query.bind(namespace.as_str()).bind(digest.hex()).fetch_optional(&self.pool).await?;
        found.as_ref().map(|row| row::count(row, "size")).transpose()
    }

    /// Notes that the namespace has uploaded an artifact.
    pub(crate) async fn artifact_create(&self, namespace: &Namespace, digest: &Digest, size: u64) -> Result<(), Error> {
        let sql = "INSERT INTO artifacts (namespace, digest, size, create_time) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (namespace, digest) DO NOTHING";
        let query = sqlx::query(sql).bind(namespace.as_str()).bind(digest.hex()).bind(row::signed(size));
        let mut tx = self.begin().await?;
        let is_new = match query.bind(Time::now().0).execute(&mut *tx).await {
            Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                return Err(super::namespaces::missing(namespace));
            }
            ended => ended?.rows_affected() == 1,
        };
        if is_new {
            let resource = format!("namespaces/{namespace}/artifacts/{digest}");
            let change = Change::new("artifact.upload", namespace, &resource).after(&json!({ "size_bytes": size }));
            self.audit_in_tx(&mut tx, change).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Forgets an artifact whose bytes are lost, so that the next upload stores it again; says whether it was known.
    pub(crate) async fn artifact_forget(&self, digest: &Digest) -> Result<bool, Error> {
        let query = sqlx::query("DELETE FROM artifacts WHERE digest = $1").bind(digest.hex());
        Ok(query.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// The code compiled from an artifact for an engine.
    pub(crate) async fn code_fetch(&self, artifact: &Digest, fingerprint: &str) -> Result<Option<Compiled>, Error> {
        let query = sqlx::query("SELECT * FROM codes WHERE artifact = $1 AND fingerprint = $2");
        let found = query.bind(artifact.hex()).bind(fingerprint).fetch_optional(&self.pool).await?;
        found.as_ref().map(read).transpose()
    }

    /// The code with this key.
    pub(crate) async fn code_fetch_by_key(&self, key: &str) -> Result<Option<Compiled>, Error> {
        let query = sqlx::query("SELECT * FROM codes WHERE code_key = $1").bind(key);
        query.fetch_optional(&self.pool).await?.as_ref().map(read).transpose()
    }

    /// Stores a seal, over an earlier one where code was compiled anew.
    pub(crate) async fn code_put(&self, compiled: &Compiled) -> Result<(), Error> {
        let sql = "INSERT INTO codes (code_key, artifact, fingerprint, body_sha256, size, signature, kind, imports, \
                   create_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (code_key) DO UPDATE SET \
                   body_sha256 = excluded.body_sha256, size = excluded.size, signature = excluded.signature, \
                   kind = excluded.kind, imports = excluded.imports, create_time = excluded.create_time";
        let Compiled { code, kind, imports } = compiled;
        let query = sqlx::query(sql).bind(&*code.key).bind(code.artifact.hex()).bind(&*code.fingerprint);
        let query = query.bind(code.body.hex()).bind(row::signed(code.size)).bind(hex::encode(&code.signature));
        let query = query.bind(kind.as_str()).bind(row::to_json(imports)?).bind(Time::now().0);
        query.execute(&self.pool).await?;
        Ok(())
    }
}
