//! Every page and form of the dashboard: where it is, who may see or send it at the least, and what answers. The router is made of
//! this table and of nothing else, and a test walks it by every role (T46). What is needed is asked for in `app/`.

use axum::{
    Router,
    routing::{get, post},
};

use super::{
    actions, assets, audit, function, invocation, issuer, keys, live, logs, overview, releases, routes, session,
    sign_in, testing, traffic, usage, why, worker,
};
use crate::admin::app::App;

/// A page or a form of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// `get` for a page, `post` for a form.
    pub method: &'static str,
    /// With its parameters in braces; below `/namespaces/{namespace}` a role counts in that namespace.
    pub path: &'static str,
    /// Who may see or send it.
    pub least: Least,
}

/// The least that somebody has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Least {
    /// Signed in or not.
    Anybody,
    /// Signed in, whatever their roles.
    SignedIn,
    /// A viewer of the namespace.
    Viewer,
    /// A developer of the namespace.
    Developer,
    /// An admin of the namespace.
    Admin,
    /// An operator of the cluster.
    Operator,
}

macro_rules! places {
    ($($method:ident $path:literal $least:ident $handler:path;)+) => {
        /// Every page and form.
        pub const PLACES: &[Place] =
            &[$(Place { method: stringify!($method), path: $path, least: Least::$least }),+];

        /// The pages.
        pub(in crate::admin) fn router() -> Router<App> {
            Router::new()$(.route($path, $method($handler)))+
        }
    };
}

places! {
    get "/" SignedIn overview::root;
    get "/sign-in" Anybody sign_in::form;
    post "/sign-in" Anybody sign_in::begin;
    get "/sign-in/issuer" Anybody issuer::begin;
    get "/sign-in/callback" Anybody issuer::finish;
    post "/sign-out" Anybody sign_in::end;
    get "/assets/{file}" Anybody assets::file;
    get "/session" SignedIn session::page;
    get "/audit" Operator audit::of_cluster;
    get "/workers/{worker}" Operator worker::page;
    post "/workers/{worker}/drain" Operator actions::drain;
    get "/namespaces/{namespace}" Viewer overview::page;
    get "/namespaces/{namespace}/live" Viewer live::stream;
    get "/namespaces/{namespace}/invocations" Viewer invocation::of_namespace;
    get "/namespaces/{namespace}/invocations/{id}" Viewer why::page;
    get "/namespaces/{namespace}/logs" Viewer logs::of_namespace;
    get "/namespaces/{namespace}/keys" Viewer keys::page;
    post "/namespaces/{namespace}/keys" Admin keys::create;
    post "/namespaces/{namespace}/keys/{key}/revoke" Admin keys::revoke;
    get "/namespaces/{namespace}/releases" Viewer releases::list;
    get "/namespaces/{namespace}/releases/{release}" Viewer releases::page;
    post "/namespaces/{namespace}/releases/{release}/rollback" Developer releases::rollback;
    get "/namespaces/{namespace}/usage" Viewer usage::page;
    get "/namespaces/{namespace}/routes" Viewer routes::page;
    post "/namespaces/{namespace}/cache/purge" Developer routes::purge;
    get "/namespaces/{namespace}/audit" Admin audit::of_namespace;
    get "/namespaces/{namespace}/functions/{function}" Viewer function::page;
    post "/namespaces/{namespace}/functions/{function}/traffic" Developer traffic::set;
    get "/namespaces/{namespace}/functions/{function}/test" Viewer testing::form;
    post "/namespaces/{namespace}/functions/{function}/test" Developer testing::run;
    get "/namespaces/{namespace}/functions/{function}/invocations" Viewer invocation::of_function;
    get "/namespaces/{namespace}/functions/{function}/invocations/{id}" Viewer invocation::page;
    get "/namespaces/{namespace}/functions/{function}/logs" Viewer logs::of_function;
    post "/namespaces/{namespace}/functions/{function}/rollback" Developer actions::rollback;
    post "/namespaces/{namespace}/functions/{function}/delete" Developer actions::delete;
}
