//! A namespace's routes, apps and domains: which requests become what, and forgetting stored answers.

use askama::Template;
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::{IntoResponse, Redirect},
};
use dunlin_proto::{
    names::NamespaceRef,
    v1::{self, purge_cache_request::What},
};
use serde::Deserialize;

use super::{
    Page,
    apps::AppRow,
    certificates::CertificateRow,
    domains::DomainRow,
    escaped,
    format::When,
    render,
    shell::{Section, Shell, may},
    view::{Badge, visible},
};
use crate::{
    admin::{
        app::App,
        fault::Fault,
        model::{DomainList, Route, RouteAuth, RouteList, RouteTarget},
        params::{Named, Query},
        session::Visitor,
    },
    auth::Role,
};

/// Routes that the page shows.
const SHOWN: i32 = 200;

#[derive(Debug, Template)]
#[template(path = "routes.html")]
struct RoutesPage {
    shell: Shell,
    namespace: String,
    may_deploy: bool,
    done: Option<String>,
    routes: Vec<RouteRow>,
    more: bool,
    stores: bool,
    purge_command: String,
    apps: Vec<AppRow>,
    domains: Vec<DomainRow>,
    certificates: Vec<CertificateRow>,
}

#[derive(Debug)]
struct RouteRow {
    name: String,
    methods: String,
    host: String,
    path: String,
    target: String,
    href: String,
    access: Badge,
    /// What else it does, in words.
    also: String,
    changed: Option<When>,
    creator: String,
    /// The app that declares it.
    app: String,
}

/// What was done just before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Done {
    purged: Option<String>,
    /// Gateways that have not said that they did it.
    lagging: Option<String>,
}

impl Done {
    fn sentence(self) -> Option<String> {
        let what = visible(&self.purged?);
        let what =
            if what == "all" { "All stored answers are".to_owned() } else { format!("What was stored of {what} is") };
        Some(match self.lagging.filter(|names| !names.is_empty()) {
            None => format!("{what} forgotten on every gateway."),
            Some(names) => format!("{what} forgotten; not yet on {}.", visible(&names)),
        })
    }
}

/// Shows routes, apps and domains.
pub(super) async fn page(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
    Query(done): Query<Done>,
) -> Page {
    let parent = format!("namespaces/{namespace}");
    let routes = v1::ListRoutesRequest { parent: parent.clone(), page_size: SHOWN, ..Default::default() };
    let domains = v1::ListDomainsRequest { parent, page_size: SHOWN, ..Default::default() };
    let (routes, apps, domains, shell) = tokio::join!(
        app.route_list(&who, routes),
        app.app_list(&who, v1::ListAppsRequest { parent: format!("namespaces/{namespace}") }),
        app.domain_list(&who, domains),
        Shell::new(&app, &who, Some(&namespace), Section::Routes),
    );
    let (routes, domains) = (RouteList::from(routes?), DomainList::from(domains?));
    let now = std::time::SystemTime::now();
    let files = app.file_certificates(&who, &domains.domains);
    let when = |time: crate::admin::model::Time| When::new(time, now);
    render(&RoutesPage {
        shell,
        purge_command: format!("dunlin cache purge --path /users/7 --namespace {namespace}"),
        namespace: namespace.to_string(),
        may_deploy: may(&who, &namespace, Role::Developer),
        done: done.sentence(),
        more: !routes.next_page_token.is_empty(),
        stores: routes.routes.iter().any(|route| route.spec.cache),
        routes: routes.routes.into_iter().map(|route| RouteRow::new(route, when)).collect(),
        // A part of the page only.
        apps: apps.map(|found| AppRow::all(found, now)).unwrap_or_default(),
        domains: domains.domains.into_iter().map(|found| DomainRow::new(found, now)).collect(),
        certificates: files.iter().map(|file| CertificateRow::new(file, now)).collect(),
    })
}

impl RouteRow {
    fn new(route: Route, when: impl Fn(crate::admin::model::Time) -> When) -> Self {
        let (target, href) = target(&route);
        Self {
            methods: if route.spec.methods.is_empty() { "any".to_owned() } else { route.spec.methods.join(", ") },
            target,
            href,
            access: access(&route),
            also: also(&route).join(", "),
            changed: route.update_time.map(when),
            creator: visible(&route.creator),
            name: route.route,
            app: route.spec.app,
            host: route.spec.host,
            path: route.spec.path,
        }
    }
}

/// What becomes of a route's requests, and the page of the function that they call.
fn target(route: &Route) -> (String, String) {
    match &route.spec.target {
        RouteTarget::Function { function, alias, .. } => {
            let alias = if alias.is_empty() { String::new() } else { format!(":{alias}") };
            (format!("{function}{alias}"), format!("/namespaces/{}/functions/{function}", route.namespace))
        }
        RouteTarget::Response { status, .. } => (format!("answers {}", or(*status, 200)), String::new()),
        RouteTarget::Redirect { location, status } => {
            (format!("{} to {}", or(*status, 308), visible(location)), String::new())
        }
    }
}

fn or(status: u32, otherwise: u32) -> u32 {
    if status == 0 { otherwise } else { status }
}

fn access(route: &Route) -> Badge {
    match (&route.spec.auth, &route.spec.target) {
        (RouteAuth::Public, _) => Badge::warn("public"),
        (RouteAuth::Private, _) => Badge::plain("key or token"),
        (RouteAuth::Jwt, _) => Badge::plain("token"),
        (RouteAuth::Key, _) => Badge::plain("key"),
        (RouteAuth::Authorizer, _) => {
            let asked = route.spec.authorizer.as_ref().map_or("a function", |authorizer| authorizer.function.as_str());
            Badge::plain(format!("asks {asked}"))
        }
        (RouteAuth::Function, RouteTarget::Function { .. }) => Badge::plain("as the function"),
        (RouteAuth::Function, _) => Badge::warn("public"),
    }
}

/// What else a route does.
fn also(route: &Route) -> Vec<String> {
    let spec = &route.spec;
    let rewrite = match &spec.target {
        RouteTarget::Function { rewrite, .. } if !rewrite.is_empty() => Some(format!("as {rewrite}")),
        _ => None,
    };
    let headers =
        [&spec.request_headers, &spec.response_headers].map(|changes| changes.remove.len() + changes.add.len());
    let flags = [
        (spec.cache, "stored"),
        (spec.compress, "compressed"),
        (spec.token.is_some(), "checks claims"),
        (spec.cors.is_some(), "CORS"),
        (!spec.allow.is_empty() || !spec.deny.is_empty(), "by address"),
        (headers.iter().sum::<usize>() > 0, "changes headers"),
    ];
    let flags = flags.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned());
    rewrite.into_iter().chain(flags).collect()
}

/// Which answers to forget.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Purge {
    what: Kind,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Path,
    Prefix,
    Route,
    All,
}

/// Forgets stored answers on every gateway.
pub(super) async fn purge(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
    sent: Result<Form<Purge>, FormRejection>,
) -> Page {
    let Form(Purge { what, value }) = sent.map_err(Fault::from)?;
    let value = value.trim().to_owned();
    let (what, said) = match what {
        Kind::Path => (What::Path(value.clone()), value),
        Kind::Prefix => (What::Prefix(value.clone()), format!("{value}…")),
        Kind::Route => (What::Route(value.clone()), format!("the route {value}")),
        Kind::All => (What::All(true), "all".to_owned()),
    };
    let request = v1::PurgeCacheRequest { parent: format!("namespaces/{namespace}"), what: Some(what) };
    let lagging = app.cache_purge(&who, request).await?.lagging_gateways.join(", ");
    let query = format!("purged={}&lagging={}", escaped(&said), escaped(&lagging));
    Ok(Redirect::to(&format!("/namespaces/{namespace}/routes?{query}")).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(change: impl FnOnce(&mut v1::Route)) -> Route {
        let function = v1::FunctionTarget { function: "till".into(), alias: "beta".into(), rewrite: "/v1".into() };
        let mut wire = v1::Route {
            name: "namespaces/shop/routes/pay".into(),
            path: "/pay".into(),
            target: Some(v1::route::Target::Function(function)),
            cache: true,
            compress: true,
            ..Default::default()
        };
        change(&mut wire);
        wire.into()
    }

    #[test]
    fn a_route_is_told_in_words() {
        let calls = route(|_| {});
        assert_eq!(target(&calls), ("till:beta".into(), "/namespaces/shop/functions/till".into()));
        assert_eq!(
            (access(&calls).text, also(&calls).join(", ")),
            ("as the function".into(), "as /v1, stored, compressed".into())
        );
        let moved = v1::Redirect { location: "/new\u{1b}".into(), status: 0 };
        let elsewhere = route(|wire| wire.target = Some(v1::route::Target::Redirect(moved)));
        assert_eq!((target(&elsewhere).0.as_str(), access(&elsewhere).text.as_str()), ("308 to /new␛", "public"));
    }

    #[test]
    fn what_was_forgotten_is_said_with_whoever_has_not() {
        let done = |purged: &str, lagging: &str| {
            Done { purged: Some(purged.into()), lagging: Some(lagging.into()) }.sentence().unwrap()
        };
        assert_eq!(done("all", ""), "All stored answers are forgotten on every gateway.");
        assert_eq!(done("/a", "g2"), "What was stored of /a is forgotten; not yet on g2.");
        assert!(Done::default().sentence().is_none());
    }
}
