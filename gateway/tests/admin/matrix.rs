//! Who may do what, from outside (T46): every RPC of the schemas and every route of the OpenAPI document, by every role, in
//! the own and in a foreign namespace. What is expected stands here once more, apart from the table that the gateway asks; an
//! RPC or route without a row fails.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};
use dunlin_proto::{ids::Digest, v1};
use prost::Message;
use serde_json::{Value, json};
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use super::world::{Tokens, World};

/// What something needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Token,
    Viewer,
    Developer,
    Admin,
    /// The role `operator`, for something in a namespace.
    OperatorIn,
    Operator,
}

/// What is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Passes,
    Unauthenticated,
    Denied,
    Hidden,
}

/// Somebody with a role, or with a token that is none for administration.
pub(super) const ROLES: [&str; 6] = ["nobody", "caller", "viewer", "developer", "admin", "operator"];

pub(super) fn expected(need: Need, role: &str, own: bool) -> Expected {
    let rank = ROLES.iter().position(|name| *name == role).unwrap();
    let enough = |needed: &str| rank >= ROLES.iter().position(|name| *name == needed).unwrap();
    match need {
        Need::Nothing => Expected::Passes,
        _ if rank < 2 => Expected::Unauthenticated,
        Need::Token => Expected::Passes,
        _ if role == "operator" => Expected::Passes,
        Need::Operator => Expected::Denied,
        _ if !own => Expected::Hidden,
        Need::Viewer => Expected::Passes,
        Need::Developer if enough("developer") => Expected::Passes,
        Need::Admin if enough("admin") => Expected::Passes,
        Need::Developer | Need::Admin | Need::OperatorIn => Expected::Denied,
    }
}

/// The token of somebody whose own namespace is `shop`.
pub(super) fn token(tokens: &Tokens, role: &str) -> Option<String> {
    match role {
        "nobody" => None,
        "caller" => Some(tokens.caller("shop")),
        "operator" => Some(tokens.operator()),
        role => Some(tokens.with(&[("shop", role)])),
    }
}

/// Messages as bytes, so that one test calls every method.
#[derive(Debug, Default, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Every RPC: what it needs, and its message about a namespace.
fn rpcs(namespace: &str) -> Vec<(&'static str, Need, Vec<u8>)> {
    let parent = format!("namespaces/{namespace}");
    let function = format!("{parent}/functions/none");
    let names = |name: &str| v1::GetFunctionRequest { name: name.to_owned() }.encode_to_vec();
    let digest = Digest::of(b"").to_string();
    let start = v1::ArtifactStart { parent: parent.clone(), digest: digest.clone(), size_bytes: 0 };
    let upload = v1::UploadArtifactRequest { part: Some(v1::upload_artifact_request::Part::Start(start)) };
    let deploy = v1::CreateVersionRequest { parent: function.clone(), artifact_digest: digest, ..Default::default() };
    let update = v1::UpdateFunctionRequest {
        function: Some(v1::Function { name: function.clone(), ..Default::default() }),
        update_mask: None,
    };
    let grant = v1::RoleGrant { namespace: namespace.to_owned(), role: v1::Role::Viewer.into() };
    let token = v1::CreateTokenRequest {
        purpose: v1::TokenPurpose::Administration.into(),
        grants: vec![grant],
        ..Default::default()
    };
    let made = v1::CreateNamespaceRequest { namespace_id: "made".to_owned(), ..Default::default() };
    let changed = v1::UpdateNamespaceRequest {
        namespace: Some(v1::Namespace { name: parent.to_owned(), ..Default::default() }),
        update_mask: None,
    };
    let target = v1::StaticResponse::default();
    let put = v1::PutRouteRequest {
        route: Some(v1::Route {
            name: format!("{parent}/routes/none"),
            path: "/none".to_owned(),
            target: Some(v1::route::Target::Response(target)),
            ..Default::default()
        }),
        replace: true,
    };
    let plan = v1::Plan { name: format!("{parent}/plans/none"), ..Default::default() };
    let plan = v1::PutPlanRequest { plan: Some(plan) };
    let budget = v1::Budget { name: format!("{parent}/budget"), ..Default::default() };
    let budget = v1::SetBudgetRequest { budget: Some(budget) };
    let wanted =
        v1::CreateDomainRequest { parent: parent.clone(), domain: "example.org".to_owned(), ..Default::default() };
    let version = format!("{function}/versions/1");
    let purge = v1::PurgeCacheRequest { parent: parent.clone(), what: Some(v1::purge_cache_request::What::All(true)) };
    let alias = format!("{function}/aliases/none");
    let set = v1::SetAliasRequest {
        alias: Some(v1::Alias { name: alias.clone(), ..Default::default() }),
        ..Default::default()
    };
    let invocation = format!("{function}/invocations/0198c5b2-7a43-7000-8000-3f1f6d1c1a2b");
    // The names of requests all have the number 1, as have parents.
    vec![
        ("dunlin.v1.FunctionService/ListFunctions", Need::Viewer, names(&parent)),
        ("dunlin.v1.FunctionService/GetFunction", Need::Viewer, names(&function)),
        ("dunlin.v1.FunctionService/UpdateFunction", Need::Developer, update.encode_to_vec()),
        ("dunlin.v1.FunctionService/DeleteFunction", Need::Developer, names(&function)),
        ("dunlin.v1.FunctionService/RollbackFunction", Need::Developer, names(&function)),
        ("dunlin.v1.FunctionService/UploadArtifact", Need::Developer, upload.encode_to_vec()),
        ("dunlin.v1.FunctionService/CreateVersion", Need::Developer, deploy.encode_to_vec()),
        ("dunlin.v1.FunctionService/GetVersion", Need::Viewer, names(&version)),
        ("dunlin.v1.FunctionService/ListVersions", Need::Viewer, names(&function)),
        ("dunlin.v1.AliasService/SetAlias", Need::Developer, set.encode_to_vec()),
        ("dunlin.v1.AliasService/ListAliases", Need::Viewer, names(&function)),
        ("dunlin.v1.AliasService/PromoteAlias", Need::Developer, names(&alias)),
        ("dunlin.v1.AliasService/DeleteAlias", Need::Developer, names(&alias)),
        ("dunlin.v1.AliasService/StartRollout", Need::Developer, names(&function)),
        ("dunlin.v1.AliasService/GetRollout", Need::Viewer, names(&function)),
        ("dunlin.v1.AliasService/StopRollout", Need::Developer, names(&function)),
        ("dunlin.v1.AuditService/ListAuditEntries", Need::Admin, names(&parent)),
        ("dunlin.v1.AuditService/GetAuditHead", Need::Operator, Vec::new()),
        ("dunlin.v1.InvocationService/Invoke", Need::Developer, names(&function)),
        ("dunlin.v1.InvocationService/ListInvocations", Need::Viewer, names(&parent)),
        ("dunlin.v1.InvocationService/GetInvocation", Need::Viewer, names(&invocation)),
        ("dunlin.v1.InvocationService/ExplainInvocation", Need::Viewer, names(&parent)),
        ("dunlin.v1.InvocationService/DescribeFunction", Need::Viewer, names(&function)),
        ("dunlin.v1.LogService/ReadLogs", Need::Viewer, names(&parent)),
        ("dunlin.v1.NamespaceService/CreateNamespace", Need::Operator, made.encode_to_vec()),
        ("dunlin.v1.NamespaceService/GetNamespace", Need::Viewer, names(&parent)),
        ("dunlin.v1.NamespaceService/ListNamespaces", Need::Token, Vec::new()),
        ("dunlin.v1.NamespaceService/UpdateNamespace", Need::OperatorIn, changed.encode_to_vec()),
        ("dunlin.v1.NamespaceService/DeleteNamespace", Need::OperatorIn, names(&parent)),
        ("dunlin.v1.NamespaceService/SetWebhook", Need::Admin, names(&format!("{parent}/webhook"))),
        ("dunlin.v1.NamespaceService/GetWebhook", Need::Developer, names(&format!("{parent}/webhook"))),
        ("dunlin.v1.NamespaceService/RotateWebhookSecret", Need::Admin, names(&format!("{parent}/webhook"))),
        ("dunlin.v1.NamespaceService/TestWebhook", Need::Admin, names(&format!("{parent}/webhook"))),
        ("dunlin.v1.NamespaceService/DeleteWebhook", Need::Admin, names(&format!("{parent}/webhook"))),
        ("dunlin.v1.TokenService/CreateToken", Need::Admin, token.encode_to_vec()),
        ("dunlin.v1.TokenService/GetIdentity", Need::Token, Vec::new()),
        ("dunlin.v1.KeyService/CreateKey", Need::Admin, names(&parent)),
        ("dunlin.v1.KeyService/ListKeys", Need::Viewer, names(&parent)),
        ("dunlin.v1.KeyService/RevokeKey", Need::Admin, names(&format!("{parent}/keys/aaaaBBBB9999"))),
        ("dunlin.v1.KeyService/UpdateKey", Need::Admin, names(&format!("{parent}/keys/aaaaBBBB9999"))),
        ("dunlin.v1.KeyService/RotateKey", Need::Admin, names(&format!("{parent}/keys/aaaaBBBB9999"))),
        ("dunlin.v1.KeyService/GetKeyUsage", Need::Viewer, names(&format!("{parent}/keys/aaaaBBBB9999"))),
        ("dunlin.v1.PlanService/PutPlan", Need::Admin, plan.encode_to_vec()),
        ("dunlin.v1.PlanService/ListPlans", Need::Viewer, names(&parent)),
        ("dunlin.v1.PlanService/DeletePlan", Need::Admin, names(&format!("{parent}/plans/none"))),
        ("dunlin.v1.UsageService/ListUsage", Need::Viewer, names(&parent)),
        ("dunlin.v1.UsageService/SetBudget", Need::Admin, budget.encode_to_vec()),
        ("dunlin.v1.UsageService/GetBudget", Need::Viewer, names(&format!("{parent}/budget"))),
        ("dunlin.v1.UsageService/DeleteBudget", Need::Admin, names(&format!("{parent}/budget"))),
        ("dunlin.v1.ReleaseService/ListReleases", Need::Viewer, names(&parent)),
        ("dunlin.v1.ReleaseService/GetRelease", Need::Viewer, names(&format!("{parent}/releases/9"))),
        ("dunlin.v1.ReleaseService/DiffReleases", Need::Viewer, names(&format!("{parent}/releases/9"))),
        ("dunlin.v1.ReleaseService/RollbackRelease", Need::Developer, names(&format!("{parent}/releases/9"))),
        ("dunlin.v1.ReleaseService/ActivateApp", Need::Developer, names(&format!("{parent}/apps/till"))),
        ("dunlin.v1.ReleaseService/ListApps", Need::Viewer, names(&parent)),
        ("dunlin.v1.ReleaseService/GetApp", Need::Viewer, names(&format!("{parent}/apps/till"))),
        ("dunlin.v1.RouteService/PutRoute", Need::Developer, put.encode_to_vec()),
        ("dunlin.v1.RouteService/GetRoute", Need::Viewer, names(&format!("{parent}/routes/none"))),
        ("dunlin.v1.RouteService/ListRoutes", Need::Viewer, names(&parent)),
        ("dunlin.v1.RouteService/DeleteRoute", Need::Developer, names(&format!("{parent}/routes/none"))),
        ("dunlin.v1.RouteService/ImportRoutes", Need::Developer, names(&parent)),
        ("dunlin.v1.RouteService/ExportRoutes", Need::Viewer, names(&parent)),
        ("dunlin.v1.RouteService/PurgeCache", Need::Developer, purge.encode_to_vec()),
        ("dunlin.v1.DomainService/CreateDomain", Need::Admin, wanted.encode_to_vec()),
        ("dunlin.v1.DomainService/ListDomains", Need::Viewer, names(&parent)),
        ("dunlin.v1.DomainService/DeleteDomain", Need::Admin, names(&format!("{parent}/domains/example.org"))),
        ("dunlin.v1.ClusterService/GetCluster", Need::Operator, Vec::new()),
        ("dunlin.v1.ClusterService/ListWorkers", Need::Operator, Vec::new()),
        ("dunlin.v1.ClusterService/DrainWorker", Need::Operator, names("workers/worker-9")),
        ("dunlin.v1.ClusterService/CreateJoinToken", Need::Operator, Vec::new()),
    ]
}

async fn call(channel: Channel, path: &str, message: Vec<u8>, token: Option<&str>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::once(Bytes::from(message)));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let answer = client.streaming(request, format!("/{path}").parse().unwrap(), Raw).await;
    answer?.into_inner().message().await.map(drop)
}

/// What a status says about who may; who may is told what is wrong beyond that.
fn of_status(answer: &Result<(), Status>, namespace: &str) -> Expected {
    match answer {
        Err(status) if status.code() == Code::Unauthenticated => Expected::Unauthenticated,
        Err(status) if status.code() == Code::PermissionDenied => Expected::Denied,
        // Those who may are told of the function that is not there, others of the namespace.
        Err(status) if status.message().starts_with(&format!("namespaces/{namespace} was not found")) => {
            Expected::Hidden
        }
        _ => Expected::Passes,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_every_rpc_by_every_role_in_the_own_and_in_a_foreign_namespace() {
    let world = World::new().await;
    let channel = world.channel().await;
    let mut wrong = Vec::new();
    for (namespace, own) in [("shop", true), ("bank", false)] {
        for role in ROLES {
            let token = token(&world.tokens, role);
            for (path, need, message) in rpcs(namespace) {
                let answer = call(channel.clone(), path, message, token.as_deref()).await;
                let (found, expected) = (of_status(&answer, namespace), expected(need, role, own));
                if found != expected {
                    wrong.push(format!("{path} by {role} in {namespace}: {found:?}, not {expected:?}: {answer:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn t46_every_rpc_has_a_row() {
    let set = prost_types::FileDescriptorSet::decode(v1::DESCRIPTORS).unwrap();
    let services = set.file.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    let methods: BTreeSet<_> = services
        .flat_map(|(package, service)| {
            service.method.iter().map(move |method| format!("{package}.{}/{}", service.name(), method.name()))
        })
        .collect();
    let rows: BTreeSet<_> = rpcs("shop").iter().map(|(path, ..)| (*path).to_owned()).collect();
    assert_eq!(rows, methods);
}

/// Every route: what it needs, and the body that it takes.
fn routes() -> Vec<(&'static str, &'static str, Need, Value)> {
    let none = Value::Null;
    let token = json!({ "subject": "x", "purpose": "call", "namespace": "{namespace}" });
    vec![
        ("get", "/openapi.json", Need::Nothing, none.clone()),
        ("get", "/identity", Need::Token, none.clone()),
        ("post", "/tokens", Need::Admin, token),
        ("get", "/cluster", Need::Operator, none.clone()),
        ("get", "/workers", Need::Operator, none.clone()),
        ("get", "/workers/{worker}", Need::Operator, none.clone()),
        ("post", "/workers/{worker}/drain", Need::Operator, json!({ "resume": true })),
        ("post", "/join-tokens", Need::Operator, json!({ "role": "worker" })),
        ("get", "/audit", Need::Operator, none.clone()),
        ("get", "/audit/head", Need::Operator, none.clone()),
        ("get", "/namespaces/{namespace}/audit", Need::Admin, none.clone()),
        ("get", "/namespaces", Need::Token, none.clone()),
        ("post", "/namespaces", Need::Operator, json!({ "namespace": "made" })),
        ("get", "/namespaces/{namespace}", Need::Viewer, none.clone()),
        ("patch", "/namespaces/{namespace}", Need::OperatorIn, json!({ "max_concurrency": null })),
        ("delete", "/namespaces/{namespace}", Need::OperatorIn, none.clone()),
        ("get", "/namespaces/{namespace}/keys", Need::Viewer, none.clone()),
        ("post", "/namespaces/{namespace}/keys", Need::Admin, json!({ "display_name": "x" })),
        ("get", "/namespaces/{namespace}/keys/{key}", Need::Viewer, none.clone()),
        ("delete", "/namespaces/{namespace}/keys/{key}", Need::Admin, none.clone()),
        ("get", "/namespaces/{namespace}/releases", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/releases/{release}", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/releases/{release}/diff", Need::Viewer, none.clone()),
        ("post", "/namespaces/{namespace}/releases/{release}/rollback", Need::Developer, json!({})),
        ("get", "/namespaces/{namespace}/apps", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/apps/{app}", Need::Viewer, none.clone()),
        ("put", "/namespaces/{namespace}/apps/{app}", Need::Developer, json!({ "keep_routes": true })),
        ("get", "/namespaces/{namespace}/routes", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/routes/{route}", Need::Viewer, none.clone()),
        (
            "put",
            "/namespaces/{namespace}/routes/{route}",
            Need::Developer,
            json!({ "path": "/x", "target": { "kind": "response" } }),
        ),
        ("delete", "/namespaces/{namespace}/routes/{route}", Need::Developer, none.clone()),
        ("get", "/namespaces/{namespace}/openapi", Need::Viewer, none.clone()),
        ("post", "/namespaces/{namespace}/cache/purge", Need::Developer, json!({ "all": true })),
        ("get", "/namespaces/{namespace}/domains", Need::Viewer, none.clone()),
        ("post", "/namespaces/{namespace}/domains", Need::Admin, json!({ "domain": "example.org" })),
        ("get", "/namespaces/{namespace}/domains/{domain}", Need::Viewer, none.clone()),
        ("delete", "/namespaces/{namespace}/domains/{domain}", Need::Admin, none.clone()),
        ("get", "/namespaces/{namespace}/functions", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/functions/{function}", Need::Viewer, none.clone()),
        ("patch", "/namespaces/{namespace}/functions/{function}", Need::Developer, json!({ "public": true })),
        ("delete", "/namespaces/{namespace}/functions/{function}", Need::Developer, none.clone()),
        ("get", "/namespaces/{namespace}/functions/{function}/traffic", Need::Viewer, none.clone()),
        ("post", "/namespaces/{namespace}/functions/{function}/rollback", Need::Developer, json!({})),
        (
            "put",
            "/namespaces/{namespace}/functions/{function}/traffic",
            Need::Developer,
            json!({ "traffic": [{ "version": 1, "percent": 100 }] }),
        ),
        ("get", "/namespaces/{namespace}/functions/{function}/aliases", Need::Viewer, none.clone()),
        (
            "put",
            "/namespaces/{namespace}/functions/{function}/aliases/{alias}",
            Need::Developer,
            json!({ "traffic": [{ "version": 1, "percent": 100 }] }),
        ),
        ("get", "/namespaces/{namespace}/functions/{function}/aliases/{alias}", Need::Viewer, none.clone()),
        ("delete", "/namespaces/{namespace}/functions/{function}/aliases/{alias}", Need::Developer, none.clone()),
        ("post", "/namespaces/{namespace}/functions/{function}/aliases/{alias}/promote", Need::Developer, json!({})),
        ("get", "/namespaces/{namespace}/functions/{function}/rollout", Need::Viewer, none.clone()),
        ("put", "/namespaces/{namespace}/functions/{function}/rollout", Need::Developer, json!({})),
        ("post", "/namespaces/{namespace}/functions/{function}/rollout/stop", Need::Developer, json!({})),
        ("put", "/namespaces/{namespace}/rollout", Need::Developer, json!({ "functions": [{ "function": "none" }] })),
        ("get", "/namespaces/{namespace}/functions/{function}/versions", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/functions/{function}/versions/{number}", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/plans", Need::Viewer, none.clone()),
        (
            "put",
            "/namespaces/{namespace}/plans/{plan}",
            Need::Admin,
            json!({ "quota": { "requests": 10, "period": "day" } }),
        ),
        ("get", "/namespaces/{namespace}/plans/{plan}", Need::Viewer, none.clone()),
        ("delete", "/namespaces/{namespace}/plans/{plan}", Need::Admin, none.clone()),
        ("patch", "/namespaces/{namespace}/keys/{key}", Need::Admin, json!({ "plan": null })),
        ("get", "/namespaces/{namespace}/keys/{key}/usage", Need::Viewer, none.clone()),
        ("post", "/namespaces/{namespace}/keys/{key}/rotate", Need::Admin, json!({})),
        ("delete", "/namespaces/{namespace}/keys/{key}/old-secret", Need::Admin, none.clone()),
        ("get", "/namespaces/{namespace}/usage", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/usage.csv", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/budget", Need::Viewer, none.clone()),
        (
            "put",
            "/namespaces/{namespace}/budget",
            Need::Admin,
            json!({ "calls": { "amount": 10, "period": "day" }, "enforce": true }),
        ),
        ("delete", "/namespaces/{namespace}/budget", Need::Admin, none.clone()),
        ("get", "/namespaces/{namespace}/webhook", Need::Developer, none.clone()),
        ("put", "/namespaces/{namespace}/webhook", Need::Admin, json!({ "url": "https://example.com/" })),
        ("post", "/namespaces/{namespace}/webhook/rotate-secret", Need::Admin, json!({})),
        ("post", "/namespaces/{namespace}/webhook/test", Need::Admin, json!({})),
        ("delete", "/namespaces/{namespace}/webhook", Need::Admin, none.clone()),
        ("get", "/namespaces/{namespace}/invocations", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/functions/{function}/invocations", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/functions/{function}/invocations/{id}", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/requests/{id}/why", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/functions/{function}/describe", Need::Viewer, none.clone()),
        ("post", "/namespaces/{namespace}/functions/{function}/test", Need::Developer, json!({})),
        ("get", "/namespaces/{namespace}/logs", Need::Viewer, none.clone()),
        ("get", "/namespaces/{namespace}/functions/{function}/logs", Need::Viewer, none),
    ]
}

/// Routes whose answers have no end.
const ENDLESS: [&str; 2] =
    ["/namespaces/{namespace}/logs/stream", "/namespaces/{namespace}/functions/{function}/logs/stream"];

/// What is not under `/api/v1`, since it is no JSON.
const APART: [&str; 1] = ["/metrics"];

pub(super) fn concrete(path: &str, namespace: &str) -> String {
    path.replace("{namespace}", namespace)
        .replace("{function}", "none")
        .replace("{route}", "none")
        .replace("{release}", "9")
        .replace("{app}", "till")
        .replace("{plan}", "none")
        .replace("{alias}", "none")
        .replace("{domain}", "example.org")
        .replace("{worker}", "worker-9")
        .replace("{number}", "1")
        .replace("{key}", "aaaaBBBB9999")
        .replace("{id}", "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b")
}

fn of_answer(status: u16, body: &str, namespace: &str) -> Expected {
    let message = serde_json::from_str::<Value>(body).ok().map(|json| json["error"]["message"].to_string());
    match status {
        401 => Expected::Unauthenticated,
        403 => Expected::Denied,
        404 if message.is_some_and(|m| m.starts_with(&format!("\"namespaces/{namespace} was not found"))) => {
            Expected::Hidden
        }
        _ => Expected::Passes,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_every_route_by_every_role_in_the_own_and_in_a_foreign_namespace() {
    let world = World::new().await;
    let endless = ENDLESS.map(|path| ("get", path, Need::Viewer, Value::Null));
    let apart = APART.map(|path| ("get", path, Need::Operator, Value::Null));
    let routes: Vec<_> = routes().into_iter().chain(endless).chain(apart).collect();
    let mut wrong = Vec::new();
    for (namespace, own) in [("shop", true), ("bank", false)] {
        for role in ROLES {
            let token = token(&world.tokens, role);
            for (method, path, need, body) in &routes {
                let base = if APART.contains(path) { "" } else { "/api/v1" };
                let mut request =
                    world.request(&method.to_uppercase(), &format!("{base}{}", concrete(path, namespace)));
                if let Some(token) = &token {
                    request = request.bearer_auth(token);
                }
                if !body.is_null() {
                    let body = body.to_string().replace("{namespace}", namespace);
                    request = request.header("content-type", "application/json").body(body);
                }
                let answer = request.send().await.unwrap();
                let status = answer.status().as_u16();
                // The endless ones are not waited for where they answer.
                let text = if status == 200 { String::new() } else { answer.text().await.unwrap() };
                let (found, expected) = (of_answer(status, &text, namespace), expected(*need, role, own));
                if found != expected {
                    wrong.push(format!(
                        "{method} {path} by {role} in {namespace}: {found:?}, not {expected:?}: {status} {text}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_every_route_of_the_document_has_a_row() {
    let world = World::new().await;
    let document: Value = world.get("/api/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect();
    let rows = routes().into_iter().map(|(method, path, ..)| format!("{method} /api/v1{path}"));
    let endless = ENDLESS.map(|path| format!("get /api/v1{path}"));
    assert_eq!(rows.chain(endless.clone()).collect::<BTreeSet<_>>(), described);
    for path in endless.iter().filter_map(|row| row.strip_prefix("get ")) {
        let read = &document["paths"][path]["get"];
        assert!(read["responses"]["200"]["content"]["text/event-stream"].is_object(), "{read}");
        assert!(read["responses"]["304"].is_null(), "nobody has what has no end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_a_token_of_one_namespace_lists_no_other() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer"), ("gone", "admin")]);
    let list: Value = world.get("/api/v1/namespaces").bearer_auth(token).send().await.unwrap().json().await.unwrap();
    let names: Vec<_> = list["namespaces"].as_array().unwrap().iter().map(|n| n["namespace"].clone()).collect();
    assert_eq!(names, ["shop"]);
}
