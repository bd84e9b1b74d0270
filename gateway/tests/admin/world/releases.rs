//! The releases of the simulated scheduler: a namespace has two, and going back makes a third.

use dunlin_proto::v1::{self, release_service_server::ReleaseService};
use tonic::{Request, Response, Status};

use super::scheduler::{Scheduler, missing};

/// A release, where the namespace is there.
fn release(scheduler: &Scheduler, namespace: &str, number: u32) -> Result<v1::Release, Status> {
    scheduler.state().namespaces.get(namespace).map(drop).ok_or_else(|| missing(namespace))?;
    let cause = if number == 1 { "deploy checkout@3" } else { "put route pay" };
    Ok(v1::Release {
        name: format!("{namespace}/releases/{number}"),
        number,
        create_time: Some(super::data::ago(600 / u64::from(number))),
        creator: super::EVIL.to_owned(),
        cause: cause.to_owned(),
        ..Default::default()
    })
}

/// The one that a name means.
fn named(scheduler: &Scheduler, name: &str) -> Result<v1::Release, Status> {
    let (namespace, number) = name.split_once("/releases/").unwrap_or_default();
    match number {
        "1" | "2" => release(scheduler, namespace, number.parse().unwrap()),
        _ => Err(missing(name)),
    }
}

/// The one app that a namespace has.
fn app(scheduler: &Scheduler, namespace: &str) -> Result<v1::App, Status> {
    Ok(v1::App {
        name: format!("{namespace}/apps/till"),
        functions: vec!["checkout".to_owned()],
        routes: vec!["pay".to_owned(), "refund".to_owned()],
        release: Some(release(scheduler, namespace, 2)?),
    })
}

#[tonic::async_trait]
impl ReleaseService for Scheduler {
    async fn list_releases(
        &self,
        request: Request<v1::ListReleasesRequest>,
    ) -> Result<Response<v1::ListReleasesResponse>, Status> {
        let v1::ListReleasesRequest { parent, .. } = self.open("ListReleases", request);
        let releases = vec![release(self, &parent, 2)?, release(self, &parent, 1)?];
        Ok(Response::new(v1::ListReleasesResponse { releases, ..Default::default() }))
    }

    async fn get_release(
        &self,
        request: Request<v1::GetReleaseRequest>,
    ) -> Result<Response<v1::GetReleaseResponse>, Status> {
        let v1::GetReleaseRequest { name } = self.open("GetRelease", request);
        let mut release = named(self, &name)?;
        let function = format!("{}/functions/checkout", name.split("/releases/").next().unwrap_or_default());
        let live = v1::Alias {
            name: format!("{function}/aliases/live"),
            traffic: vec![v1::TrafficTarget { version: 3, percent: 100 }],
            ..Default::default()
        };
        release.functions =
            vec![v1::ReleasedFunction { name: function, public: true, aliases: vec![live], ..Default::default() }];
        Ok(Response::new(v1::GetReleaseResponse { release: Some(release) }))
    }

    async fn diff_releases(
        &self,
        request: Request<v1::DiffReleasesRequest>,
    ) -> Result<Response<v1::DiffReleasesResponse>, Status> {
        let v1::DiffReleasesRequest { name, from } = self.open("DiffReleases", request);
        let release = named(self, &name)?;
        let differences = vec![v1::Difference {
            subject: "routes/pay".to_owned(),
            field: "path".to_owned(),
            before: String::new(),
            after: "/pay".to_owned(),
        }];
        let from = if from == 0 { release.number - 1 } else { from };
        Ok(Response::new(v1::DiffReleasesResponse { differences, from }))
    }

    async fn rollback_release(
        &self,
        request: Request<v1::RollbackReleaseRequest>,
    ) -> Result<Response<v1::RollbackReleaseResponse>, Status> {
        let v1::RollbackReleaseRequest { name, .. } = self.open("RollbackRelease", request);
        named(self, &name)?;
        let mut back = release(self, name.split("/releases/").next().unwrap_or_default(), 3)?;
        back.cause = "roll back to release 1".to_owned();
        Ok(Response::new(v1::RollbackReleaseResponse {
            release: Some(back),
            lagging_gateways: vec!["gateway-2".to_owned()],
        }))
    }

    async fn activate_app(
        &self,
        request: Request<v1::ActivateAppRequest>,
    ) -> Result<Response<v1::ActivateAppResponse>, Status> {
        let v1::ActivateAppRequest { name, routes, .. } = self.open("ActivateApp", request);
        let made = release(self, name.split("/apps/").next().unwrap_or_default(), 3)?;
        let line = |route: v1::Route| v1::Difference {
            subject: format!("routes/{}", route.name.rsplit('/').next().unwrap_or_default()),
            field: "path".to_owned(),
            before: String::new(),
            after: route.path,
        };
        Ok(Response::new(v1::ActivateAppResponse {
            release: Some(made),
            differences: routes.into_iter().map(line).collect(),
            lagging_gateways: vec!["gateway-2".to_owned()],
        }))
    }

    async fn list_apps(&self, request: Request<v1::ListAppsRequest>) -> Result<Response<v1::ListAppsResponse>, Status> {
        let v1::ListAppsRequest { parent } = self.open("ListApps", request);
        let apps = vec![app(self, &parent)?];
        Ok(Response::new(v1::ListAppsResponse { apps }))
    }

    async fn get_app(&self, request: Request<v1::GetAppRequest>) -> Result<Response<v1::GetAppResponse>, Status> {
        let v1::GetAppRequest { name } = self.open("GetApp", request);
        let app = app(self, name.split("/apps/").next().unwrap_or_default())?;
        let app = Some(app).filter(|app| app.name == name).ok_or_else(|| missing(&name))?;
        Ok(Response::new(v1::GetAppResponse { app: Some(app) }))
    }
}
