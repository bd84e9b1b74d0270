//! `ReleaseService`.

use dunlin_proto::{
    ids::{AliasId, Digest, FunctionName, ReleaseNumber},
    metadata,
    names::{AppName, FunctionRef, NamespaceRef, ReleaseName, RouteName},
    v1::{self, release_service_server::ReleaseService},
};
use tonic::{Request, Response, Status};

use super::{Desk, apps, convert, functions::beyond, name, page, request_id};
use crate::{
    error::Error,
    model::newest,
    releases::{Contents, Described, Difference, Division, FunctionState, ReleaseRecord, between, of_version},
    store::{Activated, AppRecord, RequestKey, Scope, Store},
};

#[tonic::async_trait]
impl ReleaseService for Desk {
    async fn list_releases(
        &self,
        request: Request<v1::ListReleasesRequest>,
    ) -> Result<Response<v1::ListReleasesResponse>, Status> {
        let request = request.into_inner();
        let namespace = name::<NamespaceRef>("parent", &request.parent)?.namespace;
        let (size, list) = (page::size(request.page_size)?, format!("releases/{namespace}"));
        let before = page::read(&list, &request.page_token)?.unwrap_or(i64::MAX);
        let found = self.app()?.store.release_list(&namespace, before, beyond(size)).await?;
        let (found, next_page_token) = page::cut(&list, found, size, |release| i64::from(release.number));
        let releases = found.iter().map(head).collect();
        Ok(Response::new(v1::ListReleasesResponse { releases, next_page_token }))
    }

    async fn get_release(
        &self,
        request: Request<v1::GetReleaseRequest>,
    ) -> Result<Response<v1::GetReleaseResponse>, Status> {
        let target: ReleaseName = name("name", &request.get_ref().name)?;
        let (release, contents) = self.app()?.store.release_fetch(&target).await?;
        Ok(Response::new(v1::GetReleaseResponse { release: Some(whole(&release, &contents)) }))
    }

    async fn diff_releases(
        &self,
        request: Request<v1::DiffReleasesRequest>,
    ) -> Result<Response<v1::DiffReleasesResponse>, Status> {
        let v1::DiffReleasesRequest { name: release, from } = request.into_inner();
        let target: ReleaseName = name("name", &release)?;
        let from = if from == 0 { target.number.get().saturating_sub(1) } else { from };
        let app = self.app()?;
        let (_, new) = app.store.release_fetch(&target).await?;
        let old = match ReleaseNumber::try_from(from) {
            Ok(number) => app.store.release_fetch(&ReleaseName { number, ..target.clone() }).await?.1,
            // Before the first there was nothing.
            Err(_) => Contents::default(),
        };
        let mut differences = between(&old, &new);
        differences.extend(versions(&app.store, &target, &old, &new).await?);
        let differences = differences.into_iter().map(convert::difference).collect();
        Ok(Response::new(v1::DiffReleasesResponse { differences, from }))
    }

    async fn rollback_release(
        &self,
        request: Request<v1::RollbackReleaseRequest>,
    ) -> Result<Response<v1::RollbackReleaseResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let v1::RollbackReleaseRequest { name: release, request_id: id } = request.into_inner();
        let target: ReleaseName = name("name", &release)?;
        let scope = Scope::Namespace(target.namespace.clone());
        let payload = Digest::of(target.to_string().as_bytes());
        let key = request_id(&id)?.map(|id| RequestKey { scope, method: "RollbackRelease", id, payload });
        let app = self.app()?;
        let newest = store.release_restore(&target, key.as_ref()).await?;
        let lagging_gateways = app.config_acknowledged().await;
        tracing::info!(namespace = %target.namespace, release = target.number.get(), new = newest.number, actor, "rolled back to a release");
        Ok(Response::new(v1::RollbackReleaseResponse { release: Some(head(&newest)), lagging_gateways }))
    }

    async fn activate_app(
        &self,
        request: Request<v1::ActivateAppRequest>,
    ) -> Result<Response<v1::ActivateAppResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let activation = apps::activation(request.into_inner(), &actor)?;
        let app = self.app()?;
        let Activated { release, differences } = store.app_activate(&activation).await?;
        let changed = !activation.validate_only && !differences.is_empty();
        let lagging_gateways = if changed { app.config_acknowledged().await } else { Vec::new() };
        if changed {
            tracing::info!(app = %activation.app, actor, "an app has been made what its manifest says");
        }
        let differences = differences.into_iter().map(convert::difference).collect();
        let release = release.as_ref().map(head);
        Ok(Response::new(v1::ActivateAppResponse { release, differences, lagging_gateways }))
    }

    async fn list_apps(&self, request: Request<v1::ListAppsRequest>) -> Result<Response<v1::ListAppsResponse>, Status> {
        let namespace = name::<NamespaceRef>("parent", &request.get_ref().parent)?.namespace;
        let apps = self.app()?.store.app_list(&namespace).await?.iter().map(app).collect();
        Ok(Response::new(v1::ListAppsResponse { apps }))
    }

    async fn get_app(&self, request: Request<v1::GetAppRequest>) -> Result<Response<v1::GetAppResponse>, Status> {
        let target: AppName = name("name", &request.get_ref().name)?;
        let app = Some(app(&self.app()?.store.app_fetch(&target).await?));
        Ok(Response::new(v1::GetAppResponse { app }))
    }
}

/// How the versions differ that have taken the places of others; those that are gone are left out.
async fn versions(
    store: &Store,
    target: &ReleaseName,
    old: &Contents,
    new: &Contents,
) -> Result<Vec<Difference>, Error> {
    let mut found = Vec::new();
    for (name, state) in &new.functions {
        let before = old.functions.get(name).filter(|before| before.uid == state.uid);
        let Some(before) = before.and_then(|before| newest(&before.live.shares)) else { continue };
        let Some(after) = newest(&state.live.shares).filter(|after| *after != before) else { continue };
        let function = function(target, name);
        let fetched =
            (store.version_fetch(&function.version(before)).await, store.version_fetch(&function.version(after)).await);
        // Another function of the same name may have taken the name since.
        if let (Ok(before), Ok(after)) = fetched
            && after.uid == state.uid
        {
            let subject = format!("functions/{name}/versions/{}", after.number);
            found.extend(of_version(&subject, Some(&Described::of(&before)), &Described::of(&after)));
        }
    }
    Ok(found)
}

fn function(release: &ReleaseName, name: &FunctionName) -> FunctionRef {
    FunctionRef { namespace: release.namespace.clone(), function: name.clone() }
}

/// A release without what it holds.
fn head(release: &ReleaseRecord) -> v1::Release {
    v1::Release {
        name: format!("namespaces/{}/releases/{}", release.namespace, release.number),
        number: release.number,
        create_time: Some(convert::timestamp(release.create_time)),
        creator: release.actor.clone(),
        cause: release.cause.clone(),
        ..Default::default()
    }
}

fn app(app: &AppRecord) -> v1::App {
    v1::App {
        name: app.name.to_string(),
        functions: app.functions.iter().map(ToString::to_string).collect(),
        routes: app.routes.iter().map(ToString::to_string).collect(),
        release: app.release.as_ref().map(head),
    }
}

fn whole(release: &ReleaseRecord, contents: &Contents) -> v1::Release {
    let namespace = &release.namespace;
    let routes = contents.routes.iter().map(|(route, spec)| {
        let name = RouteName { namespace: namespace.clone(), route: route.clone() }.to_string();
        v1::Route { name, ..v1::Route::from(spec) }
    });
    let functions = contents.functions.iter().map(|(name, state)| {
        let function = FunctionRef { namespace: namespace.clone(), function: name.clone() };
        released(&function, state)
    });
    v1::Release { functions: functions.collect(), routes: routes.collect(), ..head(release) }
}

fn released(function: &FunctionRef, state: &FunctionState) -> v1::ReleasedFunction {
    let alias = |name: &str, division: &Division| v1::Alias {
        name: format!("{function}/aliases/{name}"),
        traffic: convert::shares(&division.shares),
        sticky: Some((&division.sticky).into()),
        ..Default::default()
    };
    let live = std::iter::once(alias(AliasId::LIVE, &state.live));
    let others = state.aliases.iter().map(|(name, division)| alias(name.as_str(), division));
    v1::ReleasedFunction {
        name: function.to_string(),
        uid: state.uid.to_string(),
        public: state.public,
        direct: state.direct,
        disabled: state.disabled,
        aliases: live.chain(others).collect(),
    }
}
