//! Versions in the database. Their numbers come from the function's row, which a deploy holds until it is written: any
//! number of deploys at once get consecutive ones.

use dunlin_proto::{
    ApiError,
    ids::{Digest, FunctionUid, VersionKey, VersionNumber},
    model::VersionSpec,
    names::{FunctionRef, VersionName},
};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    ATTEMPTS, RequestKey, Store, config_bump,
    functions::{function_fetch_in_tx, function_write_in_tx},
    namespaces::namespace_lock_in_tx,
    releases::Touched,
    requests::{request_find_in_tx, request_note_in_tx},
    reservations::reservations_check_in_tx,
    retried, row,
};
use crate::{
    audit::Change,
    capabilities::Changes,
    error::Error,
    model::{Kind, Policy, Share, Time, VersionRecord, with_canary},
};

/// A version before it has a number.
#[derive(Debug, Clone)]
pub(crate) struct NewVersion {
    pub(crate) function: FunctionRef,
    pub(crate) artifact: Digest,
    pub(crate) artifact_size: u64,
    pub(crate) kind: Kind,
    pub(crate) spec: VersionSpec,
    pub(crate) imports: Vec<String>,
    /// How it differs from the versions that have the traffic in what it may reach.
    pub(crate) capabilities: Changes,
    pub(crate) creator: String,
    pub(crate) note: String,
    pub(crate) compiled_size: u64,
    pub(crate) activation: bool,
    /// How many percent of the traffic it gets then; absent, all.
    pub(crate) canary: Option<u32>,
    /// Changes of the function that come with it: at once where nobody can call the function yet, otherwise with all its calls.
    pub(crate) policy: Policy,
    /// Comes at once.
    pub(crate) description: Option<String>,
}

/// A statement that reads versions with their functions' names.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT v.function_uid, v.number, v.namespace, v.artifact, v.artifact_size, v.kind, v.spec, v.imports, ",
            "v.creator, v.note, v.create_time, v.compiled_size, v.activation, v.canary, v.reuse_refusal, ",
            "v.public, v.direct, f.name AS function ",
            "FROM versions v ",
            "JOIN functions f ON f.uid = v.function_uid AND f.namespace = v.namespace ",
            $rest
        )
    };
}
pub(super) use select;

/// Reads a row of [`select`].
pub(super) fn read(row: &AnyRow) -> Result<VersionRecord, Error> {
    let function = FunctionRef { namespace: row::parsed(row, "namespace")?, function: row::parsed(row, "function")? };
    let kind = row::text(row, "kind")?;
    Ok(VersionRecord {
        function,
        uid: row::parsed(row, "function_uid")?,
        number: number(row)?,
        artifact: row::parsed(row, "artifact")?,
        artifact_size: row::count(row, "artifact_size")?,
        kind: Kind::from_text(&kind).ok_or(Error::Damaged { what: "kind", value: kind })?,
        spec: row::json(row, "spec")?,
        imports: row::json(row, "imports")?,
        creator: row::text(row, "creator")?,
        note: row::text(row, "note")?,
        create_time: row::time(row, "create_time")?,
        compiled_size: row::count(row, "compiled_size")?,
        activation: row::number(row, "activation")? != 0,
        canary: row::optional_count(row, "canary")?,
        reuse_refusal: row::optional_text(row, "reuse_refusal")?,
        policy: policy(row)?,
    })
}

/// What a version still says of its function.
pub(super) fn policy(row: &AnyRow) -> Result<Policy, Error> {
    let flag = |column| row::optional_count::<i64>(row, column).map(|flag| flag.map(|flag| flag != 0));
    Ok(Policy { public: flag("public")?, direct: flag("direct")? })
}

fn number(row: &AnyRow) -> Result<VersionNumber, Error> {
    let number: u32 = row::count(row, "number")?;
    number.try_into().map_err(|_| Error::Damaged { what: "number", value: number.to_string() })
}

/// A version, within a transaction.
async fn version_fetch_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRef,
    number: VersionNumber,
) -> Result<VersionRecord, Error> {
    let query = sqlx::query(select!("WHERE v.namespace = $1 AND f.name = $2 AND v.number = $3"));
    let query = query.bind(function.namespace.as_str()).bind(function.function.as_str());
    let found = query.bind(i64::from(number.get())).fetch_optional(&mut **tx).await?;
    let missing = || ApiError::not_found(format!("version {}", function.version(number))).into();
    found.as_ref().map(read).transpose()?.ok_or_else(missing)
}

impl Store {
    /// Makes the next version, and the function where it does not exist. A repeated request finds what the first made.
    pub(crate) async fn version_create(
        &self,
        new: &NewVersion,
        request: Option<&RequestKey>,
    ) -> Result<VersionRecord, Error> {
        retried!(self.version_create_once(new, request))
    }

    async fn version_create_once(
        &self,
        new: &NewVersion,
        request: Option<&RequestKey>,
    ) -> Result<VersionRecord, Error> {
        let mut tx = self.begin().await?;
        if let Some(request) = request
            && let Some(number) = request_find_in_tx(&mut tx, request).await?
        {
            return version_fetch_in_tx(&mut tx, &new.function, number).await;
        }
        let reserved = new.spec.scaling.reserved_concurrency;
        if reserved > 0 {
            let namespace = namespace_lock_in_tx(&mut tx, &new.function.namespace).await?;
            reservations_check_in_tx(&mut tx, &namespace, Some((&new.function.function, reserved))).await?;
        }
        Self::function_ensure_in_tx(&mut tx, &new.function).await?;
        let (uid, number, policy) = version_number_in_tx(&mut tx, new).await?;
        version_insert_in_tx(&mut tx, new, (uid, number, policy)).await?;
        if let Some(request) = request {
            request_note_in_tx(&mut tx, request, &number).await?;
        }
        config_bump(&mut tx).await?;
        self.release_record_in_tx(
            &mut tx,
            &new.function.namespace,
            Touched::Function(&new.function.function),
            format!("deploy {}", new.function.function),
        )
        .await?;
        let created = version_fetch_in_tx(&mut tx, &new.function, number).await?;
        self.audit_in_tx(&mut tx, change("version.create", &created.name()).after(&(&created, &new.capabilities)))
            .await?;
        tx.commit().await?;
        Ok(created)
    }

    /// Moves all traffic, or its part of it, to a version that waits for it, unless a later one was faster; it waits no longer
    /// then.
    pub(crate) async fn version_activate(&self, name: &VersionName) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let done: Result<bool, Error> = retried!(self.version_activate_once(name));
            if done? {
                return Ok(());
            }
        }
        Err(ApiError::new(dunlin_proto::ErrorCode::Unavailable, "the function is being changed by too many").into())
    }

    async fn version_activate_once(&self, name: &VersionName) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let mut function = function_fetch_in_tx(&mut tx, &name.parent()).await?;
        let canary = version_fetch_in_tx(&mut tx, &name.parent(), name.number).await?.canary;
        if !version_settle_in_tx(&mut tx, function.uid, name).await? {
            return Ok(true);
        }
        if function.traffic.iter().all(|Share(version, _)| *version < name.number) {
            let shares = match canary {
                Some(percent) => with_canary(&name.parent(), &function.traffic, name.number, percent)?,
                None => vec![Share(name.number, 100)],
            };
            let before = function.clone();
            function.set_traffic(shares);
            if !function_write_in_tx(&mut tx, &mut function).await? {
                return Ok(false);
            }
            config_bump(&mut tx).await?;
            self.release_record_in_tx(
                &mut tx,
                &name.namespace,
                Touched::Function(&name.function),
                format!("deploy {}@{}", name.function, name.number),
            )
            .await?;
            let change = change("version.activate", name).before(&before).after(&function);
            self.audit_in_tx(&mut tx, change).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Leaves the traffic where it is: the version no longer waits for it.
    pub(crate) async fn version_hold(&self, key: VersionKey, name: &VersionName) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        version_settle_in_tx(&mut tx, key.function, name).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes what came of trying to use a version's sandboxes again; empty means that they can be. What they were once
    /// found unfit for stays.
    pub(crate) async fn version_note_reuse(
        &self,
        key: VersionKey,
        name: &VersionName,
        refusal: &str,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let sql = "UPDATE versions SET reuse_refusal = $1 WHERE namespace = $2 AND function_uid = $3 AND number = $4 \
                   AND (reuse_refusal IS NULL OR reuse_refusal = '')";
        let query = sqlx::query(sql).bind(refusal.to_owned()).bind(name.namespace.as_str());
        query.bind(key.function.to_string()).bind(i64::from(key.number.get())).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The version.
    pub(crate) async fn version_fetch(&self, name: &VersionName) -> Result<VersionRecord, Error> {
        let mut tx = self.begin().await?;
        let found = version_fetch_in_tx(&mut tx, &name.parent(), name.number).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// At most `limit` versions, the newest first, before a number.
    pub(crate) async fn version_list(
        &self,
        name: &FunctionRef,
        before: i64,
        limit: i64,
    ) -> Result<Vec<VersionRecord>, Error> {
        let mut tx = self.begin().await?;
        let function = function_fetch_in_tx(&mut tx, name).await?;
        let rest =
            select!("WHERE v.namespace = $1 AND v.function_uid = $2 AND v.number < $3 ORDER BY v.number DESC LIMIT $4");
        let query = sqlx::query(rest).bind(name.namespace.as_str()).bind(function.uid.to_string());
        let rows = query.bind(before).bind(limit).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }
}

fn change(action: &'static str, name: &VersionName) -> Change {
    Change::new(action, &name.namespace, name)
}

/// Takes the next number, and applies what the deploy changes of the function at once; says as well what is to wait with the version.
async fn version_number_in_tx(
    tx: &mut Transaction<'static, Any>,
    new: &NewVersion,
) -> Result<(FunctionUid, VersionNumber, Policy), Error> {
    let sql = "UPDATE functions SET latest_version = latest_version + 1, revision = revision + 1, update_time = $1, \
               public = CASE WHEN traffic = '[]' THEN COALESCE($2, public) ELSE public END, \
               direct = CASE WHEN traffic = '[]' THEN COALESCE($3, direct) ELSE direct END, \
               description = COALESCE($4, description) \
               WHERE namespace = $5 AND name = $6 RETURNING uid, latest_version AS number, traffic";
    let Policy { public, direct } = new.policy;
    let query = sqlx::query(sql).bind(Time::now().0).bind(public.map(i64::from)).bind(direct.map(i64::from));
    let query = query.bind(new.description.clone()).bind(new.function.namespace.as_str());
    let row = query.bind(new.function.function.as_str()).fetch_one(&mut **tx).await?;
    let traffic: Vec<Share> = row::json(&row, "traffic")?;
    let waits = if traffic.is_empty() { Policy::default() } else { new.policy };
    Ok((row::parsed(&row, "uid")?, number(&row)?, waits))
}

async fn version_insert_in_tx(
    tx: &mut Transaction<'static, Any>,
    new: &NewVersion,
    (uid, number, policy): (FunctionUid, VersionNumber, Policy),
) -> Result<(), Error> {
    let sql = "INSERT INTO versions (function_uid, number, namespace, artifact, artifact_size, kind, spec, imports, \
               creator, note, create_time, compiled_size, activation, canary, public, direct) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    let query = sqlx::query(sql).bind(uid.to_string()).bind(i64::from(number.get()));
    let query = query.bind(new.function.namespace.as_str()).bind(new.artifact.hex());
    let query = query.bind(row::signed(new.artifact_size)).bind(new.kind.as_str()).bind(row::to_json(&new.spec)?);
    let query = query.bind(row::to_json(&new.imports)?).bind(&*new.creator).bind(&*new.note).bind(Time::now().0);
    let query = query.bind(row::signed(new.compiled_size)).bind(i64::from(new.activation));
    let query = query.bind(new.canary.map(i64::from)).bind(policy.public.map(i64::from));
    query.bind(policy.direct.map(i64::from)).execute(&mut **tx).await?;
    Ok(())
}

/// Ends a version's wait for traffic; says whether it waited.
async fn version_settle_in_tx(
    tx: &mut Transaction<'static, Any>,
    uid: FunctionUid,
    name: &VersionName,
) -> Result<bool, Error> {
    let sql = "UPDATE versions SET activation = 0 \
               WHERE namespace = $1 AND function_uid = $2 AND number = $3 AND activation = 1";
    let query = sqlx::query(sql).bind(name.namespace.as_str()).bind(uid.to_string());
    Ok(query.bind(i64::from(name.number.get())).execute(&mut **tx).await?.rows_affected() == 1)
}
