//! Releases: authorised here, kept and brought back by the scheduler, which also waits until gateways know.

use dunlin_proto::{
    ApiError,
    names::{AppName, NamespaceRef, ReleaseName},
    v1,
};

use super::{App, MAX_ANSWER_BYTES, ask, look, name, on_behalf, page_size};
use crate::{admin::access::Operation, auth::Principal};

impl App {
    fn releases(&self) -> v1::release_service_client::ReleaseServiceClient<crate::upstream::Secured> {
        self.context.scheduler.releases().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) async fn release_list(
        &self,
        who: &Principal,
        request: v1::ListReleasesRequest,
    ) -> Result<v1::ListReleasesResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ListReleases.allow_in(who, &namespace)?;
        page_size(request.page_size)?;
        look(self.releases().list_releases(on_behalf(who, request))).await
    }

    pub(crate) async fn release_get(
        &self,
        who: &Principal,
        request: v1::GetReleaseRequest,
    ) -> Result<v1::GetReleaseResponse, ApiError> {
        let ReleaseName { namespace, .. } = name("name", &request.name)?;
        Operation::GetRelease.allow_in(who, &namespace)?;
        look(self.releases().get_release(on_behalf(who, request))).await
    }

    pub(crate) async fn release_diff(
        &self,
        who: &Principal,
        request: v1::DiffReleasesRequest,
    ) -> Result<v1::DiffReleasesResponse, ApiError> {
        let ReleaseName { namespace, .. } = name("name", &request.name)?;
        Operation::DiffReleases.allow_in(who, &namespace)?;
        look(self.releases().diff_releases(on_behalf(who, request))).await
    }

    pub(crate) async fn release_rollback(
        &self,
        who: &Principal,
        request: v1::RollbackReleaseRequest,
    ) -> Result<v1::RollbackReleaseResponse, ApiError> {
        let ReleaseName { namespace, .. } = name("name", &request.name)?;
        Operation::RollbackRelease.allow_in(who, &namespace)?;
        ask(self.releases().rollback_release(on_behalf(who, request))).await
    }

    pub(crate) async fn app_activate(
        &self,
        who: &Principal,
        request: v1::ActivateAppRequest,
    ) -> Result<v1::ActivateAppResponse, ApiError> {
        let AppName { namespace, .. } = name("name", &request.name)?;
        Operation::ActivateApp.allow_in(who, &namespace)?;
        ask(self.releases().activate_app(on_behalf(who, request))).await
    }

    pub(crate) async fn app_list(
        &self,
        who: &Principal,
        request: v1::ListAppsRequest,
    ) -> Result<v1::ListAppsResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ListApps.allow_in(who, &namespace)?;
        look(self.releases().list_apps(on_behalf(who, request))).await
    }

    pub(crate) async fn app_get(
        &self,
        who: &Principal,
        request: v1::GetAppRequest,
    ) -> Result<v1::GetAppResponse, ApiError> {
        let AppName { namespace, .. } = name("name", &request.name)?;
        Operation::GetApp.allow_in(who, &namespace)?;
        look(self.releases().get_app(on_behalf(who, request))).await
    }
}
