//! Releases, as administration shows them.

use dunlin_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Route, RouteSpec, Sticky, Time, TrafficTarget, id_in};

/// A release without what it holds.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReleaseHead {
    /// `namespaces/{namespace}/releases/{number}`.
    pub(crate) name: String,
    /// The namespace's bare name.
    pub(crate) namespace: String,
    /// 1, 2, 3...
    pub(crate) number: u32,
    /// When it was made.
    pub(crate) create_time: Option<Time>,
    /// Who made the change; empty where nobody asked for it.
    pub(crate) creator: String,
    /// What was done, in words.
    #[schema(example = "deploy pay@7")]
    pub(crate) cause: String,
}

impl From<&v1::Release> for ReleaseHead {
    fn from(wire: &v1::Release) -> Self {
        Self {
            name: wire.name.clone(),
            namespace: id_in(&wire.name, "namespaces").to_owned(),
            number: wire.number,
            create_time: wire.create_time.map(Time::from),
            creator: wire.creator.clone(),
            cause: wire.cause.clone(),
        }
    }
}

/// What the callers of a namespace got from one change to the next.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Release {
    /// Which one it is.
    pub(crate) release: ReleaseHead,
    /// The functions that somebody could call, in the order of their names.
    pub(crate) functions: Vec<ReleasedFunction>,
    /// The routes, in the order of their names.
    pub(crate) routes: Vec<ReleasedRoute>,
}

impl From<v1::Release> for Release {
    fn from(wire: v1::Release) -> Self {
        Self {
            release: ReleaseHead::from(&wire),
            functions: wire.functions.into_iter().map(ReleasedFunction::from).collect(),
            routes: wire.routes.into_iter().map(ReleasedRoute::from).collect(),
        }
    }
}

/// What of a function callers noticed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReleasedFunction {
    /// The function's bare name.
    pub(crate) function: String,
    /// Tells it from a later function of the same name.
    pub(crate) uid: String,
    /// Whether anybody might call it.
    pub(crate) public: bool,
    /// Whether its automatic address was served although routes named it.
    pub(crate) direct: bool,
    /// Whether nobody might call it.
    pub(crate) disabled: bool,
    /// `live`, which is its own traffic, then the others in the order of their names.
    pub(crate) aliases: Vec<ReleasedAlias>,
}

impl From<v1::ReleasedFunction> for ReleasedFunction {
    fn from(wire: v1::ReleasedFunction) -> Self {
        Self {
            function: id_in(&wire.name, "functions").to_owned(),
            uid: wire.uid,
            public: wire.public,
            direct: wire.direct,
            disabled: wire.disabled,
            aliases: wire.aliases.into_iter().map(ReleasedAlias::from).collect(),
        }
    }
}

/// How the calls of an alias divided.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReleasedAlias {
    /// The alias's bare name.
    pub(crate) alias: String,
    /// How its calls divided over versions.
    pub(crate) traffic: Vec<TrafficTarget>,
    /// How callers were told apart that have no key or token.
    pub(crate) sticky: Sticky,
}

impl From<v1::Alias> for ReleasedAlias {
    fn from(wire: v1::Alias) -> Self {
        Self {
            alias: id_in(&wire.name, "aliases").to_owned(),
            traffic: wire.traffic.into_iter().map(TrafficTarget::from).collect(),
            sticky: wire.sticky.unwrap_or_default().into(),
        }
    }
}

/// A route as it was.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReleasedRoute {
    /// The route's bare name.
    pub(crate) route: String,
    /// What it did.
    pub(crate) spec: RouteSpec,
}

impl From<v1::Route> for ReleasedRoute {
    fn from(wire: v1::Route) -> Self {
        let Route { route, spec, .. } = wire.into();
        Self { route, spec }
    }
}

/// A page of releases, the newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReleaseList {
    /// Without what they hold.
    pub(crate) releases: Vec<ReleaseHead>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

impl From<v1::ListReleasesResponse> for ReleaseList {
    fn from(wire: v1::ListReleasesResponse) -> Self {
        let releases = wire.releases.iter().map(ReleaseHead::from).collect();
        Self { releases, next_page_token: wire.next_page_token }
    }
}

/// How two releases differ.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReleaseDiff {
    /// The release with which it was compared; 0 where the first was compared with nothing.
    pub(crate) from: u32,
    /// Field by field.
    pub(crate) differences: Vec<ReleaseDifference>,
}

/// One field in which two releases differ.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReleaseDifference {
    /// What has it.
    #[schema(example = "functions/pay/aliases/beta")]
    pub(crate) subject: String,
    /// Which field.
    #[schema(example = "traffic")]
    pub(crate) field: String,
    /// Its value before; empty where there was none.
    pub(crate) before: String,
    /// Its value after; empty where there is none.
    pub(crate) after: String,
}

impl From<v1::Difference> for ReleaseDifference {
    fn from(wire: v1::Difference) -> Self {
        let v1::Difference { subject, field, before, after } = wire;
        Self { subject, field, before, after }
    }
}

impl From<v1::DiffReleasesResponse> for ReleaseDiff {
    fn from(wire: v1::DiffReleasesResponse) -> Self {
        Self { from: wire.from, differences: wire.differences.into_iter().map(ReleaseDifference::from).collect() }
    }
}

/// What callers get after going back.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RestoredRelease {
    /// A new release, or the newest where they got all of it already.
    pub(crate) release: ReleaseHead,
    /// The gateways that have not said that they serve it; they will, once they are reached.
    pub(crate) lagging_gateways: Vec<String>,
}

impl From<v1::RollbackReleaseResponse> for RestoredRelease {
    fn from(wire: v1::RollbackReleaseResponse) -> Self {
        let release = ReleaseHead::from(&wire.release.unwrap_or_default());
        Self { release, lagging_gateways: wire.lagging_gateways }
    }
}

/// What an app is now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ActivatedApp {
    /// The release that callers get now; null where nothing was to change, and where there is none yet.
    pub(crate) release: Option<ReleaseHead>,
    /// What changed of functions and routes, or would change, field by field.
    pub(crate) differences: Vec<ReleaseDifference>,
    /// The gateways that have not said that they serve it; they will, once they are reached.
    pub(crate) lagging_gateways: Vec<String>,
}

impl From<v1::ActivateAppResponse> for ActivatedApp {
    fn from(wire: v1::ActivateAppResponse) -> Self {
        Self {
            release: wire.release.as_ref().map(ReleaseHead::from),
            differences: wire.differences.into_iter().map(ReleaseDifference::from).collect(),
            lagging_gateways: wire.lagging_gateways,
        }
    }
}

/// Functions and routes that one manifest declares.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct App {
    /// `namespaces/{namespace}/apps/{app}`.
    pub(crate) name: String,
    /// The namespace's bare name.
    pub(crate) namespace: String,
    /// The app's bare name.
    pub(crate) app: String,
    /// The functions that its routes call, or ask who may call.
    pub(crate) functions: Vec<String>,
    /// Its routes.
    pub(crate) routes: Vec<String>,
    /// The newest release that changed one of these; null where that is no longer kept.
    pub(crate) release: Option<ReleaseHead>,
}

impl From<v1::App> for App {
    fn from(wire: v1::App) -> Self {
        Self {
            namespace: id_in(&wire.name, "namespaces").to_owned(),
            app: id_in(&wire.name, "apps").to_owned(),
            functions: wire.functions,
            routes: wire.routes,
            release: wire.release.as_ref().map(ReleaseHead::from),
            name: wire.name,
        }
    }
}

/// All apps of a namespace.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AppList {
    /// In the order of their names.
    pub(crate) apps: Vec<App>,
}

impl From<v1::ListAppsResponse> for AppList {
    fn from(wire: v1::ListAppsResponse) -> Self {
        Self { apps: wire.apps.into_iter().map(App::from).collect() }
    }
}
