//! Which endpoint does what a command does, as a table. How a line is made of it is in the module above.

use serde_json::{Value, json};

use super::Words;

/// A command and its endpoint.
pub(super) struct Endpoint {
    /// The command's words after its name: those in braces stand for any, those in brackets may be missing.
    pub(super) command: &'static str,
    pub(super) method: &'static str,
    /// Below the base of the endpoints.
    pub(super) path: &'static str,
    pub(super) body: Option<fn(&Words) -> Value>,
}

const fn get(command: &'static str, path: &'static str) -> Endpoint {
    Endpoint { command, method: "GET", path, body: None }
}

const fn delete(command: &'static str, path: &'static str) -> Endpoint {
    Endpoint { command, method: "DELETE", path, body: None }
}

const fn send(method: &'static str, command: &'static str, path: &'static str, body: fn(&Words) -> Value) -> Endpoint {
    Endpoint { command, method, path, body: Some(body) }
}

const fn post(command: &'static str, path: &'static str, body: fn(&Words) -> Value) -> Endpoint {
    send("POST", command, path, body)
}

/// Every command that pages show and that has an endpoint. The first that fits counts.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("whoami", "/identity"),
    get("worker list", "/workers"),
    post("worker drain {worker}", "/workers/{worker}/drain", |_| json!({})),
    post("worker resume {worker}", "/workers/{worker}/drain", |_| json!({ "resume": true })),
    get(
        "audit list --namespace {namespace} [--actor {actor}] [--action {action}] [--resource {resource}]",
        "/namespaces/{namespace}/audit?subject={actor}&action={action}&resource={resource}",
    ),
    get(
        "audit list [--actor {actor}] [--action {action}] [--resource {resource}]",
        "/audit?subject={actor}&action={action}&resource={resource}",
    ),
    post("namespace create {namespace}", "/namespaces", |words| json!({ "namespace": words.get("namespace") })),
    get("namespace show {namespace}", "/namespaces/{namespace}"),
    get("usage --since 24h --namespace {namespace}", "/namespaces/{namespace}/usage?by=function"),
    get("usage --since {since} --namespace {namespace}", "/namespaces/{namespace}/usage?by=function&from={since}"),
    get("budget show --namespace {namespace}", "/namespaces/{namespace}/budget"),
    get("why {id} --namespace {namespace}", "/namespaces/{namespace}/requests/{id}/why"),
    // Functions.
    send(
        "PUT",
        "traffic set {function} {shares} --namespace {namespace}",
        "/namespaces/{namespace}/functions/{function}/traffic",
        |words| json!({ "traffic": shares(words.get("shares")) }),
    ),
    post(
        "rollback {function} [{version}] --namespace {namespace}",
        "/namespaces/{namespace}/functions/{function}/rollback",
        |words| words.maybe("version").map_or_else(|| json!({}), |number| json!({ "version": whole(number) })),
    ),
    post("promote {namespace}/{function}", "/namespaces/{namespace}/functions/{function}/aliases/live/promote", |_| {
        json!({})
    }),
    get("rollout show {function} --namespace {namespace}", "/namespaces/{namespace}/functions/{function}/rollout"),
    get("rollout show {namespace}/{function}", "/namespaces/{namespace}/functions/{function}/rollout"),
    post(
        "rollout stop {function} --namespace {namespace}",
        "/namespaces/{namespace}/functions/{function}/rollout/stop",
        |_| json!({}),
    ),
    post("invoke {function} --namespace {namespace}", "/namespaces/{namespace}/functions/{function}/test", |_| {
        json!({})
    }),
    get("versions {function} --namespace {namespace}", "/namespaces/{namespace}/functions/{function}/versions"),
    get("versions {namespace}/{function}", "/namespaces/{namespace}/functions/{function}/versions"),
    get("describe {namespace}/{function}", "/namespaces/{namespace}/functions/{function}/describe"),
    get("logs {namespace}/{function}", "/namespaces/{namespace}/functions/{function}/logs"),
    send(
        "PATCH",
        "function enable {namespace}/{function}",
        "/namespaces/{namespace}/functions/{function}",
        |_| json!({ "disabled": false }),
    ),
    delete("delete {function} --namespace {namespace}", "/namespaces/{namespace}/functions/{function}"),
    // Releases, routes and domains.
    get("release list --namespace {namespace}", "/namespaces/{namespace}/releases"),
    get("release diff {release} --namespace {namespace}", "/namespaces/{namespace}/releases/{release}/diff"),
    post(
        "release rollback {release} --namespace {namespace}",
        "/namespaces/{namespace}/releases/{release}/rollback",
        |_| json!({}),
    ),
    get("app list --namespace {namespace}", "/namespaces/{namespace}/apps"),
    get("app show {app} --namespace {namespace}", "/namespaces/{namespace}/apps/{app}"),
    get("route list --namespace {namespace}", "/namespaces/{namespace}/routes"),
    send(
        "PUT",
        "route add {route} {path} --function {function} [--replace] --namespace {namespace}",
        "/namespaces/{namespace}/routes/{route}",
        |words| {
            let target = json!({ "kind": "function", "function": words.get("function") });
            json!({ "path": words.get("path"), "target": target })
        },
    ),
    delete("route remove {route} --namespace {namespace}", "/namespaces/{namespace}/routes/{route}"),
    post("cache purge --all --namespace {namespace}", PURGE, |_| json!({ "all": true })),
    post("cache purge --path {path} --namespace {namespace}", PURGE, |words| json!({ "path": words.get("path") })),
    post(
        "cache purge --prefix {prefix} --namespace {namespace}",
        PURGE,
        |words| json!({ "prefix": words.get("prefix") }),
    ),
    post("cache purge --route {route} --namespace {namespace}", PURGE, |words| json!({ "route": words.get("route") })),
    post(
        "domain add {domain} --namespace {namespace}",
        "/namespaces/{namespace}/domains",
        |words| json!({ "domain": words.get("domain") }),
    ),
    get("domain show {domain} --namespace {namespace}", "/namespaces/{namespace}/domains"),
    // Keys and plans.
    get("key list --namespace {namespace}", "/namespaces/{namespace}/keys"),
    post(
        "key create [{title}] [--lifetime {lifetime}] --namespace {namespace}",
        "/namespaces/{namespace}/keys",
        |words| match seconds(words.get("lifetime")) {
            Some(seconds) => json!({ "display_name": words.get("title"), "lifetime_seconds": seconds }),
            None => json!({ "display_name": words.get("title") }),
        },
    ),
    get("key usage {key} --namespace {namespace}", "/namespaces/{namespace}/keys/{key}/usage"),
    post("key rotate {key} --namespace {namespace}", "/namespaces/{namespace}/keys/{key}/rotate", |_| json!({})),
    send(
        "PATCH",
        "key update {key} --plan {plan} --namespace {namespace}",
        "/namespaces/{namespace}/keys/{key}",
        |words| json!({ "plan": words.get("plan") }),
    ),
    delete("key revoke {key} --namespace {namespace}", "/namespaces/{namespace}/keys/{key}"),
    send(
        "PUT",
        "plan set {plan} --rate {rate} --quota {quota} --namespace {namespace}",
        "/namespaces/{namespace}/plans/{plan}",
        |words| json!({ "rate": amount(words.get("rate")), "quota": amount(words.get("quota")) }),
    ),
    // The webhook.
    get("webhook show --namespace {namespace}", WEBHOOK),
    send("PUT", "webhook set {url} --namespace {namespace}", WEBHOOK, |words| json!({ "url": words.get("url") })),
    post("webhook test --namespace {namespace}", "/namespaces/{namespace}/webhook/test", |_| json!({})),
];

const PURGE: &str = "/namespaces/{namespace}/cache/purge";
const WEBHOOK: &str = "/namespaces/{namespace}/webhook";

/// A whole number; what is none, such as a word that stands for one, stays text.
fn whole(text: &str) -> Value {
    text.parse::<u32>().map_or_else(|_| json!(text), |number| json!(number))
}

/// Shares such as `v1=90,v2=10`; what is none, such as a word that stands for them, stays text.
fn shares(text: &str) -> Value {
    let share = |share: &str| {
        let (version, percent) = share.strip_prefix('v')?.split_once('=')?;
        Some(json!({ "version": whole(version), "percent": whole(percent) }))
    };
    let shares: Option<Vec<_>> = text.split(',').map(share).collect();
    shares.map_or_else(|| json!(text), Value::from)
}

/// A rate or quota such as `10/s` or `10000/day`.
fn amount(text: &str) -> Value {
    let (requests, period) = text.split_once('/').unwrap_or((text, ""));
    let period = match period {
        "s" => "second",
        "min" => "minute",
        "h" => "hour",
        period => period,
    };
    json!({ "requests": whole(requests), "period": period })
}

/// A time as a command has it, in seconds.
fn seconds(text: &str) -> Option<u64> {
    humantime::parse_duration(text).ok().map(|time| time.as_secs())
}
