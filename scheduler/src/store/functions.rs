//! Functions in the database. Changes are read, decided and written on condition that nobody else changed them meanwhile.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{FunctionUid, Namespace, RolloutId, VersionNumber},
    names::FunctionRef,
    route::RouteSpec,
};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    ATTEMPTS, RequestKey, Store, config_bump,
    namespaces::{missing as missing_namespace, namespace_fetch_in_tx, namespace_lock_in_tx},
    releases::Touched,
    requests::{request_find_in_tx, request_note_in_tx},
    retried,
    routes::{route_list_in_tx, routes_unused},
    row, versions,
    webhooks::webhook_tell_in_tx,
};
use crate::{
    audit::Change,
    error::Error,
    model::{FunctionRecord, Policy, Share, Time, full},
    webhooks::Event,
};

/// What an update changes; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FunctionChange {
    pub(crate) description: Option<String>,
    pub(crate) public: Option<bool>,
    pub(crate) traffic: Option<Vec<Share>>,
    pub(crate) direct: Option<bool>,
    pub(crate) disabled: Option<bool>,
}

impl FunctionChange {
    /// For people: `change pay: traffic, public`.
    fn said(&self, name: &FunctionRef) -> String {
        let fields = [
            ("description", self.description.is_some()),
            ("public", self.public.is_some()),
            ("traffic", self.traffic.is_some()),
            ("direct", self.direct.is_some()),
            ("disabled", self.disabled.is_some()),
        ];
        let fields: Vec<_> = fields.into_iter().filter(|(_, there)| *there).map(|(field, _)| field).collect();
        format!("change {}: {}", name.function, fields.join(", "))
    }
}

/// Reads a whole row.
pub(super) fn read(row: &AnyRow) -> Result<FunctionRecord, Error> {
    Ok(FunctionRecord {
        uid: row::parsed(row, "uid")?,
        namespace: row::parsed(row, "namespace")?,
        name: row::parsed(row, "name")?,
        description: row::text(row, "description")?,
        public: row::number(row, "public")? != 0,
        direct: row::number(row, "direct")? != 0,
        disabled: row::number(row, "disabled")? != 0,
        traffic: row::json(row, "traffic")?,
        sticky: row::json(row, "sticky")?,
        division: row::number(row, "division")?,
        seed: seed(row)?,
        history: row::json(row, "history")?,
        latest_version: row::count(row, "latest_version")?,
        revision: row::number(row, "revision")?,
        create_time: row::time(row, "create_time")?,
        update_time: row::time(row, "update_time")?,
    })
}

fn seed(row: &AnyRow) -> Result<Option<RolloutId>, Error> {
    if row::text(row, "seed")?.is_empty() { Ok(None) } else { row::parsed(row, "seed").map(Some) }
}

fn change(action: &'static str, name: &FunctionRef) -> Change {
    Change::new(action, &name.namespace, name)
}

fn missing(name: &FunctionRef) -> Error {
    ApiError::not_found(format!("function {name}")).into()
}

pub(super) fn stale(name: &FunctionRef) -> Error {
    let message = format!("function {name} has been changed since: its etag is another one");
    ApiError::new(ErrorCode::FailedPrecondition, message).hint("read the function again and repeat the change").into()
}

/// The function, within a transaction.
pub(super) async fn function_fetch_in_tx(
    tx: &mut Transaction<'static, Any>,
    name: &FunctionRef,
) -> Result<FunctionRecord, Error> {
    let query = sqlx::query("SELECT * FROM functions WHERE namespace = $1 AND name = $2");
    let query = query.bind(name.namespace.as_str()).bind(name.function.as_str());
    let found = query.fetch_optional(&mut **tx).await?;
    found.as_ref().map(read).transpose()?.ok_or_else(|| missing(name))
}

/// Keeps for the version that has all calls until this change what counts with it, so that it brings that back where it comes back.
async fn policy_keep_in_tx(tx: &mut Transaction<'static, Any>, function: &FunctionRecord) -> Result<(), Error> {
    let sql = "SELECT traffic, public, direct FROM functions WHERE namespace = $1 AND uid = $2";
    let query = sqlx::query(sql).bind(function.namespace.as_str()).bind(function.uid.to_string());
    let Some(found) = query.fetch_optional(&mut **tx).await? else { return Ok(()) };
    let traffic: Vec<Share> = row::json(&found, "traffic")?;
    let Some(before) = full(&traffic).filter(|before| function.full() != Some(*before)) else { return Ok(()) };
    let Policy { public, direct } = versions::policy(&found)?;
    let sql = "UPDATE versions SET kept_public = $1, kept_direct = $2 \
               WHERE namespace = $3 AND function_uid = $4 AND number = $5";
    let query = sqlx::query(sql).bind(public.map(i64::from)).bind(direct.map(i64::from));
    let query = query.bind(function.namespace.as_str()).bind(function.uid.to_string());
    query.bind(i64::from(before.get())).execute(&mut **tx).await?;
    Ok(())
}

/// Lets what a version's deploy said of the function count once the version has all calls, or what counted when it last had them. What
/// somebody says of the function itself later stays, also where the version comes back.
async fn policy_take_in_tx(tx: &mut Transaction<'static, Any>, function: &mut FunctionRecord) -> Result<(), Error> {
    let Some(version) = function.full() else { return Ok(()) };
    let sql = "SELECT COALESCE(public, kept_public) AS public, COALESCE(direct, kept_direct) AS direct FROM versions \
               WHERE namespace = $1 AND function_uid = $2 AND number = $3 \
               AND COALESCE(public, direct, kept_public, kept_direct) IS NOT NULL";
    let query = sqlx::query(sql).bind(function.namespace.as_str()).bind(function.uid.to_string());
    let Some(found) = query.bind(i64::from(version.get())).fetch_optional(&mut **tx).await? else { return Ok(()) };
    versions::policy(&found)?.apply(function);
    policy_forget_in_tx(tx, function).await
}

/// Lets nothing count with the version that has all calls but what is said of the function already.
pub(super) async fn policy_forget_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
) -> Result<(), Error> {
    let Some(version) = function.full() else { return Ok(()) };
    let sql = "UPDATE versions SET public = NULL, direct = NULL, kept_public = NULL, kept_direct = NULL \
               WHERE namespace = $1 AND function_uid = $2 AND number = $3";
    let query = sqlx::query(sql).bind(function.namespace.as_str()).bind(function.uid.to_string());
    query.bind(i64::from(version.get())).execute(&mut **tx).await?;
    Ok(())
}

/// What somebody says of the function itself counts before what versions said that wait.
async fn policy_override_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
    change: &FunctionChange,
) -> Result<(), Error> {
    if change.public.is_none() && change.direct.is_none() {
        return Ok(());
    }
    let sql = "UPDATE versions SET public = CASE WHEN $1 = 1 THEN NULL ELSE public END, \
               direct = CASE WHEN $2 = 1 THEN NULL ELSE direct END, \
               kept_public = CASE WHEN $1 = 1 THEN NULL ELSE kept_public END, \
               kept_direct = CASE WHEN $2 = 1 THEN NULL ELSE kept_direct END \
               WHERE namespace = $3 AND function_uid = $4 \
               AND COALESCE(public, direct, kept_public, kept_direct) IS NOT NULL";
    let query = sqlx::query(sql).bind(i64::from(change.public.is_some())).bind(i64::from(change.direct.is_some()));
    query.bind(function.namespace.as_str()).bind(function.uid.to_string()).execute(&mut **tx).await?;
    Ok(())
}

/// Writes a changed function where it still is at the revision that was read; says whether it was. A version that has all calls now
/// brings along what its deploy said of the function, or what counted when it last had them.
pub(super) async fn function_write_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &mut FunctionRecord,
) -> Result<bool, Error> {
    let sql = "UPDATE functions SET description = $1, public = $2, traffic = $3, history = $4, revision = $5, \
               update_time = $6, direct = $7, disabled = $8, sticky = $9, division = $10, seed = $11 \
               WHERE namespace = $12 AND uid = $13 AND revision = $14";
    policy_keep_in_tx(tx, function).await?;
    policy_take_in_tx(tx, function).await?;
    let (read, now) = (function.revision, Time::now());
    let query = sqlx::query(sql).bind(&*function.description).bind(i64::from(function.public));
    let query = query.bind(row::to_json(&function.traffic)?).bind(row::to_json(&function.history)?);
    let query = query.bind(read.saturating_add(1)).bind(now.0).bind(i64::from(function.direct));
    let query = query.bind(i64::from(function.disabled)).bind(row::to_json(&function.sticky)?);
    let query = query.bind(function.division).bind(function.seed.map(|seed| seed.to_string()).unwrap_or_default());
    let query = query.bind(function.namespace.as_str());
    let written = query.bind(function.uid.to_string()).bind(read).execute(&mut **tx).await?;
    (function.revision, function.update_time) = (read.saturating_add(1), now);
    Ok(written.rows_affected() == 1)
}

/// Whether there is such a version, within a transaction.
pub(super) async fn version_is_there_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
    number: VersionNumber,
) -> Result<bool, Error> {
    let query = sqlx::query("SELECT number FROM versions WHERE namespace = $1 AND function_uid = $2 AND number = $3");
    let query = query.bind(function.namespace.as_str()).bind(function.uid.to_string()).bind(i64::from(number.get()));
    Ok(query.fetch_optional(&mut **tx).await?.is_some())
}

/// Checks that a version can get traffic.
pub(super) async fn version_exists_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
    number: VersionNumber,
) -> Result<(), Error> {
    let missing = || ApiError::not_found(format!("version {}", function.reference().version(number)));
    version_is_there_in_tx(tx, function, number).await?.then_some(()).ok_or_else(|| missing().into())
}

impl Store {
    /// The function.
    pub(crate) async fn function_fetch(&self, name: &FunctionRef) -> Result<FunctionRecord, Error> {
        let mut tx = self.begin().await?;
        let found = function_fetch_in_tx(&mut tx, name).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// At most `limit` functions of a namespace, in the order of their names, after a name.
    pub(crate) async fn function_list(
        &self,
        namespace: &Namespace,
        after: &str,
        limit: i64,
    ) -> Result<Vec<FunctionRecord>, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let sql = "SELECT * FROM functions WHERE namespace = $1 AND name > $2 ORDER BY name LIMIT $3";
        let query = sqlx::query(sql).bind(namespace.as_str()).bind(after).bind(limit);
        let rows = query.fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// How many functions a namespace has.
    pub(crate) async fn function_count(&self, namespace: &Namespace) -> Result<u32, Error> {
        let query = sqlx::query("SELECT COUNT(*) AS functions FROM functions WHERE namespace = $1");
        row::count(&query.bind(namespace.as_str()).fetch_one(&self.pool).await?, "functions")
    }

    /// Changes a function; a non-empty `etag` must be the current one.
    pub(crate) async fn function_update(
        &self,
        name: &FunctionRef,
        etag: &str,
        change: &FunctionChange,
    ) -> Result<FunctionRecord, Error> {
        for _ in 0..ATTEMPTS {
            let updated: Result<_, Error> = retried!(self.function_update_once(name, etag, change));
            if let Some(updated) = updated? {
                return Ok(updated);
            }
        }
        Err(stale(name))
    }

    async fn function_update_once(
        &self,
        name: &FunctionRef,
        etag: &str,
        change: &FunctionChange,
    ) -> Result<Option<FunctionRecord>, Error> {
        let mut tx = self.begin().await?;
        let mut function = function_fetch_in_tx(&mut tx, name).await?;
        let before = function.clone();
        if !etag.is_empty() && etag != function.etag() {
            return Err(stale(name));
        }
        if let Some(traffic) = &change.traffic {
            for Share(version, _) in traffic {
                version_exists_in_tx(&mut tx, &function, *version).await?;
            }
            function.set_traffic(traffic.clone());
        }
        if let Some(description) = &change.description {
            function.description.clone_from(description);
        }
        policy_override_in_tx(&mut tx, &function, change).await?;
        Policy { public: change.public, direct: change.direct }.apply(&mut function);
        function.disabled = change.disabled.unwrap_or(function.disabled);
        if !function_write_in_tx(&mut tx, &mut function).await? {
            return Ok(None);
        }
        // Also before what counted with the version that had all calls.
        policy_override_in_tx(&mut tx, &function, change).await?;
        config_bump(&mut tx).await?;
        self.release_record_in_tx(&mut tx, &name.namespace, Touched::Function(&name.function), change.said(name))
            .await?;
        self.audit_in_tx(&mut tx, self::change("function.update", name).before(&before).after(&function)).await?;
        tx.commit().await?;
        Ok(Some(function))
    }

    /// Sends all traffic back to `version`, or to the last one before that had all of it. The reason is in
    /// the audit log.
    pub(crate) async fn function_roll_back(
        &self,
        name: &FunctionRef,
        version: Option<VersionNumber>,
        request: Option<&RequestKey>,
        reason: &str,
    ) -> Result<(FunctionRecord, VersionNumber), Error> {
        for _ in 0..ATTEMPTS {
            let rolled: Result<_, Error> = retried!(self.function_roll_back_once(name, version, request, reason));
            if let Some(rolled) = rolled? {
                return Ok(rolled);
            }
        }
        Err(stale(name))
    }

    async fn function_roll_back_once(
        &self,
        name: &FunctionRef,
        version: Option<VersionNumber>,
        request: Option<&RequestKey>,
        reason: &str,
    ) -> Result<Option<(FunctionRecord, VersionNumber)>, Error> {
        let mut tx = self.begin().await?;
        if let Some(request) = request
            && let Some(version) = request_find_in_tx(&mut tx, request).await?
        {
            return Ok(Some((function_fetch_in_tx(&mut tx, name).await?, version)));
        }
        let mut function = function_fetch_in_tx(&mut tx, name).await?;
        let Some(target) = version.or_else(|| function.previous()) else {
            let message = format!("function {name} has no earlier version that had all the traffic");
            let error = ApiError::new(ErrorCode::FailedPrecondition, message);
            return Err(error.hint("name the version to roll back to").into());
        };
        version_exists_in_tx(&mut tx, &function, target).await?;
        let before = function.clone();
        function.roll_back(target);
        if !function_write_in_tx(&mut tx, &mut function).await? {
            return Ok(None);
        }
        if let Some(request) = request {
            request_note_in_tx(&mut tx, request, &target).await?;
        }
        config_bump(&mut tx).await?;
        self.release_record_in_tx(
            &mut tx,
            &name.namespace,
            Touched::Function(&name.function),
            format!("roll back {}@{target}", name.function),
        )
        .await?;
        let event = Event::rolled_back(&before, target, (&self.author.subject, reason));
        webhook_tell_in_tx(&mut tx, &event).await?;
        let change = change("function.rollback", name).before(&before).after(&(&function, reason));
        self.audit_in_tx(&mut tx, change).await?;
        tx.commit().await?;
        Ok(Some((function, target)))
    }

    /// Deletes a function with all its versions, unless a route names it; a non-empty `etag` must be the current one.
    pub(crate) async fn function_delete(&self, name: &FunctionRef, etag: &str) -> Result<(), Error> {
        retried!(self.function_delete_once(name, etag))
    }

    async fn function_delete_once(&self, name: &FunctionRef, etag: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        // No route comes in between.
        namespace_lock_in_tx(&mut tx, &name.namespace).await?;
        let function = function_fetch_in_tx(&mut tx, name).await?;
        if !etag.is_empty() && etag != function.etag() {
            return Err(stale(name));
        }
        let routes = route_list_in_tx(&mut tx, &name.namespace).await?;
        let names = |route: &RouteSpec| route.names(&name.function);
        routes_unused(&format!("function {}", name.function), &routes, names)?;
        let query = sqlx::query("DELETE FROM functions WHERE namespace = $1 AND uid = $2");
        query.bind(name.namespace.as_str()).bind(function.uid.to_string()).execute(&mut *tx).await?;
        config_bump(&mut tx).await?;
        self.release_record_in_tx(
            &mut tx,
            &name.namespace,
            Touched::Function(&name.function),
            format!("delete {}", name.function),
        )
        .await?;
        self.audit_in_tx(&mut tx, change("function.delete", name).before(&function)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Makes the function where it does not exist, within a transaction.
    pub(super) async fn function_ensure_in_tx(
        tx: &mut Transaction<'static, Any>,
        name: &FunctionRef,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO functions (uid, namespace, name, description, public, traffic, history, latest_version, \
                   revision, create_time, update_time) VALUES ($1, $2, $3, '', 0, '[]', '[]', 0, 1, $4, $4) \
                   ON CONFLICT (namespace, name) DO NOTHING";
        let uid = FunctionUid::new().to_string();
        let query = sqlx::query(sql).bind(uid).bind(name.namespace.as_str()).bind(name.function.as_str());
        match query.bind(Time::now().0).execute(&mut **tx).await {
            Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                Err(missing_namespace(&name.namespace))
            }
            ended => Ok(ended.map(drop)?),
        }
    }
}
