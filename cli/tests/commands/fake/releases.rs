//! The simulated ReleaseService: two releases, and going back makes a third.

use dunlin_proto::{
    ApiError,
    v1::{self, release_service_server::ReleaseService},
};
use tonic::{Request, Response, Status};

use super::{Fake, ago};

type Answer<T> = Result<Response<T>, Status>;

fn release(number: u32, creator: &str, cause: &str) -> v1::Release {
    v1::Release {
        name: format!("namespaces/default/releases/{number}"),
        number,
        create_time: ago(300),
        creator: creator.to_owned(),
        cause: cause.to_owned(),
        ..Default::default()
    }
}

fn known() -> [v1::Release; 2] {
    [release(2, "ada", "divide pay: v1=90,v2=10"), release(1, "", "deploy pay@1")]
}

fn named(name: &str) -> Result<v1::Release, Status> {
    known().into_iter().find(|release| release.name == name).ok_or_else(|| ApiError::not_found(name).into())
}

fn shop() -> v1::App {
    v1::App {
        name: "namespaces/default/apps/shop".to_owned(),
        functions: vec!["mail".to_owned(), "pay".to_owned()],
        routes: vec!["users".to_owned()],
        release: Some(release(2, "ada", "deploy app shop")),
    }
}

#[tonic::async_trait]
impl ReleaseService for Fake {
    async fn list_releases(&self, _: Request<v1::ListReleasesRequest>) -> Answer<v1::ListReleasesResponse> {
        Ok(Response::new(v1::ListReleasesResponse { releases: known().into(), ..Default::default() }))
    }

    async fn get_release(&self, request: Request<v1::GetReleaseRequest>) -> Answer<v1::GetReleaseResponse> {
        let mut release = named(&request.into_inner().name)?;
        let share = |version, percent| v1::TrafficTarget { version, percent };
        let live = v1::Alias {
            name: "namespaces/default/functions/pay/aliases/live".to_owned(),
            traffic: vec![share(1, 90), share(2, 10)],
            ..Default::default()
        };
        release.functions = vec![v1::ReleasedFunction {
            name: "namespaces/default/functions/pay".to_owned(),
            public: true,
            disabled: true,
            aliases: vec![live],
            ..Default::default()
        }];
        Ok(Response::new(v1::GetReleaseResponse { release: Some(release) }))
    }

    async fn diff_releases(&self, request: Request<v1::DiffReleasesRequest>) -> Answer<v1::DiffReleasesResponse> {
        let v1::DiffReleasesRequest { name, from } = request.into_inner();
        named(&name)?;
        let line = |subject: &str, field: &str, before: &str, after: &str| v1::Difference {
            subject: subject.to_owned(),
            field: field.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
        };
        let differences =
            vec![line("functions/pay", "traffic", "v1=100", "v1=90,v2=10"), line("routes/a", "path", "", "/a")];
        Ok(Response::new(v1::DiffReleasesResponse { differences, from }))
    }

    async fn rollback_release(
        &self,
        request: Request<v1::RollbackReleaseRequest>,
    ) -> Answer<v1::RollbackReleaseResponse> {
        let name = request.into_inner().name;
        named(&name)?;
        let back = release(3, "ada", "roll back to release 1");
        let lagging_gateways = self.state().lagging.clone();
        Ok(Response::new(v1::RollbackReleaseResponse { release: Some(back), lagging_gateways }))
    }

    async fn activate_app(&self, request: Request<v1::ActivateAppRequest>) -> Answer<v1::ActivateAppResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        state.activated.push(request.clone());
        if let Some(refusal) = state.app_refusal.take() {
            return Err(refusal.into());
        }
        let line = |route: &v1::Route| v1::Difference {
            subject: format!("routes/{}", route.name.rsplit('/').next().unwrap_or_default()),
            field: "path".to_owned(),
            before: String::new(),
            after: route.path.clone(),
        };
        let differences = request.routes.iter().map(line).collect();
        if request.validate_only {
            return Ok(Response::new(v1::ActivateAppResponse { differences, ..Default::default() }));
        }
        let (namespace, _) = request.name.split_once("/apps/").unwrap_or_default();
        for target in request.functions.iter().filter(|target| target.version > 0) {
            if let Some(function) = state.functions.get_mut(&format!("{namespace}/functions/{}", target.function)) {
                function.traffic = vec![v1::TrafficTarget { version: target.version, percent: 100 }];
            }
        }
        let release = Some(release(3, "ada", "deploy app shop"));
        let lagging_gateways = state.lagging.clone();
        Ok(Response::new(v1::ActivateAppResponse { release, differences, lagging_gateways }))
    }

    async fn list_apps(&self, _: Request<v1::ListAppsRequest>) -> Answer<v1::ListAppsResponse> {
        Ok(Response::new(v1::ListAppsResponse { apps: vec![shop()] }))
    }

    async fn get_app(&self, request: Request<v1::GetAppRequest>) -> Answer<v1::GetAppResponse> {
        let name = request.into_inner().name;
        let app = Some(shop()).filter(|app| app.name == name).ok_or_else(|| ApiError::not_found(name))?;
        Ok(Response::new(v1::GetAppResponse { app: Some(app) }))
    }
}
