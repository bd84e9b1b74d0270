//! Going back to a release: what callers got then is what they get after one transaction, or nothing changes. Versions are not
//! made again, so whatever the release names has to be there still.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{AliasId, FunctionName},
    names::{FunctionRef, ReleaseName, RouteName},
    route::RouteSpec,
};
use serde_json::json;
use sqlx::{Any, Transaction};

use super::{
    ATTEMPTS, RequestKey, Store,
    aliases::{alias_forget_in_tx, alias_put_in_tx},
    changes::config_bump_all,
    functions::{function_fetch_in_tx, function_write_in_tx, policy_forget_in_tx, version_exists_in_tx},
    namespaces::namespace_lock_in_tx,
    releases::{Touched, contents_now_in_tx, release_contents_in_tx, release_fetch_in_tx, release_newest_in_tx},
    requests::{request_find_in_tx, request_note_in_tx},
    retried,
    routes::{check_functions_in_tx, check_host_in_tx, route_delete_in_tx, route_find_in_tx, route_write_in_tx},
    webhooks::webhook_tell_in_tx,
};
use crate::{
    audit::Change,
    error::Error,
    model::{FunctionRecord, RouteRecord, Share, Time},
    releases::{Contents, Division, FunctionState, ReleaseRecord, changed},
    webhooks::Event,
};

impl Store {
    /// Gives callers again what they got in a release. That is a release of its own, unless they get it already; says which one
    /// they get then.
    pub(crate) async fn release_restore(
        &self,
        name: &ReleaseName,
        request: Option<&RequestKey>,
    ) -> Result<ReleaseRecord, Error> {
        for _ in 0..ATTEMPTS {
            let restored: Result<_, Error> = retried!(self.release_restore_once(name, request));
            if let Some(restored) = restored? {
                return Ok(restored);
            }
        }
        Err(ApiError::new(ErrorCode::Unavailable, "the namespace is being changed by too many").into())
    }

    /// Nothing where somebody else changed a function meanwhile.
    async fn release_restore_once(
        &self,
        name: &ReleaseName,
        request: Option<&RequestKey>,
    ) -> Result<Option<ReleaseRecord>, Error> {
        let mut tx = self.begin().await?;
        namespace_lock_in_tx(&mut tx, &name.namespace).await?;
        if let Some(request) = request
            && let Some(number) = request_find_in_tx(&mut tx, request).await?
        {
            let name = ReleaseName { namespace: name.namespace.clone(), number };
            return release_fetch_in_tx(&mut tx, &name).await.map(Some);
        }
        let wanted = release_contents_in_tx(&mut tx, name).await?;
        let now = contents_now_in_tx(&mut tx, &name.namespace, Touched::All).await?;
        if !functions_restore_in_tx(&mut tx, name, &now, &wanted).await? {
            return Ok(None);
        }
        for (route, spec) in changed(&now.routes, &wanted.routes) {
            let route = RouteName { namespace: name.namespace.clone(), route: route.clone() };
            self.route_restore_in_tx(&mut tx, &route, spec).await.map_err(|error| refused(name, error))?;
        }
        if now != wanted {
            config_bump_all(&mut tx).await?;
        }
        let cause = format!("roll back to release {}", name.number);
        self.release_record_in_tx(&mut tx, &name.namespace, Touched::All, cause).await?;
        // Nobody changes anything from here on; before, somebody may have.
        if contents_now_in_tx(&mut tx, &name.namespace, Touched::All).await? != wanted {
            return Ok(None);
        }
        let newest = release_newest_in_tx(&mut tx, &name.namespace).await?;
        let newest = newest.ok_or_else(|| ApiError::not_found(format!("release {name}")))?;
        if let Some(request) = request {
            request_note_in_tx(&mut tx, request, &newest.number).await?;
        }
        if now != wanted {
            webhook_tell_in_tx(&mut tx, &Event::restored(name, &self.author.subject)).await?;
        }
        let change = Change::new("release.rollback", &name.namespace, name);
        self.audit_in_tx(&mut tx, change.after(&json!({ "release": newest.number }))).await?;
        tx.commit().await?;
        Ok(Some(newest))
    }

    async fn route_restore_in_tx(
        &self,
        tx: &mut Transaction<'static, Any>,
        name: &RouteName,
        spec: Option<&RouteSpec>,
    ) -> Result<(), Error> {
        let Some(spec) = spec else { return route_delete_in_tx(tx, name).await.map(drop) };
        let (before, now) = (route_find_in_tx(tx, name).await?, Time::now());
        let route = RouteRecord {
            name: name.clone(),
            spec: spec.clone(),
            creator: self.author.subject.clone(),
            create_time: before.map_or(now, |before| before.create_time),
            update_time: now,
        };
        let of_route = |error| of_route(&route, error);
        check_host_in_tx(tx, &route).await.map_err(of_route)?;
        check_functions_in_tx(tx, &route).await.map_err(of_route)?;
        route_write_in_tx(tx, &route).await
    }
}

/// Puts functions back; says whether they were still as they had been read.
async fn functions_restore_in_tx(
    tx: &mut Transaction<'static, Any>,
    release: &ReleaseName,
    now: &Contents,
    wanted: &Contents,
) -> Result<bool, Error> {
    for (name, state) in changed(&now.functions, &wanted.functions) {
        let function = FunctionRef { namespace: release.namespace.clone(), function: name.clone() };
        let function = match function_fetch_in_tx(tx, &function).await {
            Err(Error::Api(error)) if error.code == ErrorCode::NotFound => return Err(gone(release, name, "deleted")),
            found => found?,
        };
        let restored = match state {
            Some(state) if state.uid != function.uid => return Err(gone(release, name, "deleted and made again")),
            Some(state) => function_restore_in_tx(tx, function, state).await,
            None => function_quiet_in_tx(tx, function, now.functions.get(name)).await,
        };
        if !restored.map_err(|error| refused(release, error))? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn function_restore_in_tx(
    tx: &mut Transaction<'static, Any>,
    mut function: FunctionRecord,
    state: &FunctionState,
) -> Result<bool, Error> {
    for Share(version, _) in state.divisions().flat_map(|division| &division.shares) {
        version_exists_in_tx(tx, &function, *version).await?;
    }
    alias_forget_in_tx(tx, &function, |alias| !state.aliases.contains_key(alias)).await?;
    for (alias, division) in &state.aliases {
        alias_put_in_tx(tx, &function, alias, division).await?;
    }
    (function.public, function.direct, function.disabled) = (state.public, state.direct, state.disabled);
    divide(&mut function, &state.live);
    // What the release says counts, and not what counted when its version last had all calls.
    policy_forget_in_tx(tx, &function).await?;
    function_write_in_tx(tx, &mut function).await
}

fn divide(function: &mut FunctionRecord, live: &Division) {
    if function.traffic != live.shares {
        function.set_traffic(live.shares.clone());
    }
    function.sticky.clone_from(&live.sticky);
}

/// Takes the calls from a function that nobody could call in the release. It stays as if it had just been made.
async fn function_quiet_in_tx(
    tx: &mut Transaction<'static, Any>,
    mut function: FunctionRecord,
    now: Option<&FunctionState>,
) -> Result<bool, Error> {
    if now.is_some_and(|state| !state.aliases.is_empty()) {
        alias_forget_in_tx(tx, &function, |_: &AliasId| true).await?;
    }
    function.set_traffic(Vec::new());
    function_write_in_tx(tx, &mut function).await
}

fn gone(release: &ReleaseName, function: &FunctionName, what: &str) -> Error {
    let message = format!("release {} can't come back: the function {function} has been {what} since", release.number);
    ApiError::new(ErrorCode::FailedPrecondition, message)
        .hint("deploy what is missing, or choose another release")
        .into()
}

/// Says of which route it is.
fn of_route(route: &RouteRecord, error: Error) -> Error {
    match error {
        Error::Api(error) => {
            Error::Api(ApiError { message: format!("route {}: {}", route.name.route, error.message), ..error })
        }
        other => other,
    }
}

/// What a release names is not there any more.
fn refused(release: &ReleaseName, error: Error) -> Error {
    match error {
        Error::Api(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::FailedPrecondition) => {
            let message = format!("release {} can't come back: {}", release.number, error.message);
            let hint = error.hint.unwrap_or_else(|| "choose another release: dunlin release list".to_owned());
            ApiError::new(ErrorCode::FailedPrecondition, message).hint(hint).into()
        }
        other => other,
    }
}
