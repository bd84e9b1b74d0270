//! The JSON endpoints under `/api/v1` and the OpenAPI document that describes them.
//!
//! The router and the document grow from the same declarations. Field names are snake_case; lists are paged by
//! `page_size` and `page_token`; errors are `{"error": {...}}`. What happens is in `app/`.

mod access;
mod aliases;
mod apps;
mod audit;
mod body;
mod cluster;
mod conditional;
mod describe;
mod doc;
mod fields;
mod functions;
mod idempotent;
mod invocations;
mod logs;
mod namespaces;
mod plans;
mod releases;
mod rollouts;
mod routes;
mod single;
mod testing;
mod usage;
mod versions;
mod webhooks;

use axum::{Json, Router};
use utoipa::{OpenApi, openapi};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{app::App, fault::Fault};

pub(super) use conditional::{Endpoints, check as conditional};
pub(super) use fields::{large, whole};
pub(super) use idempotent::check as idempotent;
pub(super) use logs::collect as collect_logs;

/// What a handler answers.
type Answer<T> = Result<Json<T>, Fault>;

/// Where all of this lies.
pub(super) const BASE: &str = "/api/v1";

/// The endpoints that the document describes.
fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(doc::Document::openapi()).nest(
        BASE,
        OpenApiRouter::new()
            .routes(routes!(doc::get_document))
            .routes(routes!(access::get_identity))
            .routes(routes!(access::create_token))
            .routes(routes!(cluster::get_cluster))
            .routes(routes!(cluster::list_workers))
            .routes(routes!(cluster::get_worker))
            .routes(routes!(cluster::drain_worker))
            .routes(routes!(cluster::create_join_token))
            .routes(routes!(audit::list_audit_entries))
            .routes(routes!(audit::get_audit_head))
            .routes(routes!(audit::list_namespace_audit_entries))
            .routes(routes!(namespaces::list_namespaces, namespaces::create_namespace))
            .routes(routes!(namespaces::get_namespace, namespaces::update_namespace, namespaces::delete_namespace))
            .routes(routes!(access::list_keys, access::create_key))
            .routes(routes!(single::get_key, access::revoke_key, plans::update_key))
            .routes(routes!(access::rotate_key))
            .routes(routes!(access::end_old_secret))
            .routes(routes!(plans::get_key_usage))
            .routes(routes!(plans::list_plans))
            .routes(routes!(single::get_plan, plans::put_plan, plans::delete_plan))
            .routes(routes!(usage::list_usage))
            .routes(routes!(usage::export_usage))
            .routes(routes!(usage::get_budget, usage::set_budget, usage::delete_budget))
            .routes(routes!(webhooks::get_webhook, webhooks::set_webhook, webhooks::delete_webhook))
            .routes(routes!(webhooks::rotate_webhook_secret))
            .routes(routes!(webhooks::test_webhook))
            .routes(routes!(releases::list_releases))
            .routes(routes!(releases::get_release))
            .routes(routes!(releases::diff_releases))
            .routes(routes!(releases::rollback_release))
            .routes(routes!(apps::list_apps))
            .routes(routes!(apps::get_app, apps::activate_app))
            .routes(routes!(routes::list_routes))
            .routes(routes!(routes::get_route, routes::put_route, routes::delete_route))
            .routes(routes!(routes::export_routes))
            .routes(routes!(routes::purge_cache))
            .routes(routes!(routes::list_domains, routes::create_domain))
            .routes(routes!(single::get_domain, routes::delete_domain))
            .routes(routes!(functions::list_functions))
            .routes(routes!(functions::get_function, functions::update_function, functions::delete_function))
            .routes(routes!(functions::rollback_function))
            .routes(routes!(single::get_traffic, functions::set_traffic))
            .routes(routes!(aliases::list_aliases))
            .routes(routes!(single::get_alias, aliases::set_alias, aliases::delete_alias))
            .routes(routes!(aliases::promote_alias))
            .routes(routes!(rollouts::get_rollout, rollouts::start_rollout))
            .routes(routes!(rollouts::start_rollouts))
            .routes(routes!(rollouts::stop_rollout))
            .routes(routes!(versions::list_versions))
            .routes(routes!(versions::get_version))
            .routes(routes!(invocations::list_namespace_invocations))
            .routes(routes!(invocations::list_function_invocations))
            .routes(routes!(invocations::get_invocation))
            .routes(routes!(invocations::explain_invocation))
            .routes(routes!(describe::describe_function))
            .routes(routes!(testing::test_function))
            .routes(routes!(logs::read_namespace_logs))
            .routes(routes!(logs::read_function_logs))
            .routes(routes!(logs::stream_namespace_logs))
            .routes(routes!(logs::stream_function_logs)),
    )
}

/// The document.
pub(super) fn document() -> openapi::OpenApi {
    let mut document = described().into_openapi();
    doc::close(&mut document);
    doc::conditional(&mut document);
    doc::idempotent(&mut document);
    document
}

/// The endpoints.
pub(super) fn router() -> Router<App> {
    described().split_for_parts().0
}
