//! The audit log over the wire: every method that changes something leaves its entry, with whom the gateway named, and the log
//! can be verified by anybody who reads it.

use std::collections::BTreeSet;

use dunlin_proto::{
    ErrorCode,
    audit::{ACTIONS, Author, Chain, Entry, Granted, Head, verify},
    internal::v1::{Attempt, NoteAttemptsRequest, audit_note_service_client::AuditNoteServiceClient},
    metadata,
    v1::{self, audit_service_client::AuditServiceClient},
};
use tonic::Request;

use crate::harness::{Cluster, Link, SimWorker, refused};

const SHOP: &str = "namespaces/shop";
const PAY: &str = "namespaces/shop/functions/pay";

fn audit(cluster: &Cluster) -> AuditServiceClient<Link> {
    AuditServiceClient::new(cluster.link())
}

async fn entries(cluster: &Cluster, request: v1::ListAuditEntriesRequest) -> Vec<v1::AuditEntry> {
    let request = v1::ListAuditEntriesRequest { page_size: 1_000, ..request };
    audit(cluster).list_audit_entries(request).await.unwrap().into_inner().entries
}

/// As a gateway asks on somebody's behalf.
fn by<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let author = Author {
        subject: "zoe".into(),
        issuer: "dunlin".into(),
        token_id: "t-1".into(),
        grants: vec![Granted { namespace: String::new(), role: "operator".into() }],
        address: "192.0.2.7".into(),
        gateway: "g1".into(),
        request_id: "0198".into(),
    };
    metadata::set_actor(&mut request, &author.subject);
    metadata::set_author(&mut request, &author);
    request
}

fn named(name: &str) -> String {
    format!("{SHOP}/{name}")
}

/// Calls every method that changes something and is no upload or deploy.
async fn everything_is_asked_for(cluster: &Cluster) {
    let created = v1::CreateNamespaceRequest { namespace_id: "shop".into(), ..Default::default() };
    cluster.namespaces().create_namespace(by(created)).await.unwrap();
    let namespace = v1::Namespace { name: SHOP.into(), description: "a shop".into(), ..Default::default() };
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.into()] });
    let update = v1::UpdateNamespaceRequest { namespace: Some(namespace), update_mask: mask("description") };
    cluster.namespaces().update_namespace(by(update)).await.unwrap();
    let _worker = SimWorker::join(cluster, "w1").await;
    cluster
        .eventually("w1 has joined", async |cluster| {
            let listed = cluster.clusters().list_workers(v1::ListWorkersRequest::default()).await.unwrap();
            listed.into_inner().workers.len() == 1
        })
        .await;
    cluster.deployed(PAY, "one").await;
    cluster.deployed(PAY, "two").await;
    let back = v1::RollbackFunctionRequest { name: PAY.into(), version: 1, ..Default::default() };
    cluster.functions().rollback_function(by(back)).await.unwrap();
    let start = v1::StartRolloutRequest { function: PAY.into(), version: 2, ..Default::default() };
    cluster.aliases().start_rollout(by(start)).await.unwrap();
    let stop = v1::StopRolloutRequest { function: PAY.into(), promote: false };
    cluster.aliases().stop_rollout(by(stop)).await.unwrap();
    let list = v1::ListReleasesRequest { parent: SHOP.into(), page_size: 1, ..Default::default() };
    let newest = cluster.releases().list_releases(list).await.unwrap().into_inner().releases.remove(0).name;
    let back = v1::RollbackReleaseRequest { name: newest, ..Default::default() };
    cluster.releases().rollback_release(by(back)).await.unwrap();
    let function = Some(v1::Function { name: PAY.into(), disabled: true, ..Default::default() });
    let update = v1::UpdateFunctionRequest { function, update_mask: mask("disabled") };
    cluster.functions().update_function(by(update)).await.unwrap();
    let beta = format!("{PAY}/aliases/beta");
    let traffic = vec![v1::TrafficTarget { version: 1, percent: 100 }];
    let alias = Some(v1::Alias { name: beta.clone(), traffic, ..Default::default() });
    cluster.aliases().set_alias(by(v1::SetAliasRequest { alias, ..Default::default() })).await.unwrap();
    let promote = v1::PromoteAliasRequest { name: beta.clone(), version: 2, ..Default::default() };
    cluster.aliases().promote_alias(by(promote)).await.unwrap();
    cluster.aliases().delete_alias(by(v1::DeleteAliasRequest { name: beta })).await.unwrap();
    let rate = Some("10/s".parse::<dunlin_proto::model::Rate>().unwrap().into());
    let plan = Some(v1::Plan { name: named("plans/basic"), rate, ..Default::default() });
    cluster.plans().put_plan(by(v1::PutPlanRequest { plan })).await.unwrap();
    let create = v1::CreateKeyRequest { parent: SHOP.into(), ..Default::default() };
    let key = cluster.keys().create_key(by(create)).await.unwrap().into_inner().key.unwrap().name;
    let update = v1::UpdateKeyRequest { name: key.clone(), plan: "basic".into() };
    cluster.keys().update_key(by(update)).await.unwrap();
    let rotate = v1::RotateKeyRequest { name: key.clone(), ..Default::default() };
    cluster.keys().rotate_key(by(rotate)).await.unwrap();
    cluster.keys().revoke_key(by(v1::RevokeKeyRequest { name: key })).await.unwrap();
    cluster.plans().delete_plan(by(v1::DeletePlanRequest { name: named("plans/basic") })).await.unwrap();
    let calls = Some(v1::BudgetLimit { amount: 100, period: v1::QuotaPeriod::Month.into() });
    let budget = v1::Budget { name: named("budget"), calls, ..Default::default() };
    let set = v1::SetBudgetRequest { budget: Some(budget) };
    cluster.usage().set_budget(by(set)).await.unwrap();
    let delete = v1::DeleteBudgetRequest { name: named("budget") };
    cluster.usage().delete_budget(by(delete)).await.unwrap();
    let webhook = named("webhook");
    let set = v1::SetWebhookRequest { name: webhook.clone(), url: "https://example.com/".into() };
    cluster.namespaces().set_webhook(by(set)).await.unwrap();
    let rotate = v1::RotateWebhookSecretRequest { name: webhook.clone() };
    cluster.namespaces().rotate_webhook_secret(by(rotate)).await.unwrap();
    cluster.namespaces().test_webhook(by(v1::TestWebhookRequest { name: webhook.clone() })).await.unwrap();
    cluster.namespaces().delete_webhook(by(v1::DeleteWebhookRequest { name: webhook })).await.unwrap();
    let domain = v1::CreateDomainRequest { parent: SHOP.into(), domain: "shop.example".into(), tls: 2, vouch: true };
    cluster.domains().create_domain(by(domain)).await.unwrap();
    let delete = v1::DeleteDomainRequest { name: named("domains/shop.example") };
    cluster.domains().delete_domain(by(delete)).await.unwrap();
    let target = Some(v1::route::Target::Response(v1::StaticResponse::default()));
    let route =
        |name: &str| v1::Route { name: named(name), path: "/a".into(), target: target.clone(), ..Default::default() };
    let put = v1::PutRouteRequest { route: Some(route("routes/a")), replace: false };
    cluster.routes().put_route(by(put)).await.unwrap();
    let what = Some(v1::purge_cache_request::What::All(true));
    cluster.routes().purge_cache(by(v1::PurgeCacheRequest { parent: SHOP.into(), what })).await.unwrap();
    cluster.routes().delete_route(by(v1::DeleteRouteRequest { name: named("routes/a") })).await.unwrap();
    let routes = vec![route("routes/b")];
    let import = v1::ImportRoutesRequest { parent: SHOP.into(), api: "api".into(), routes, ..Default::default() };
    cluster.routes().import_routes(by(import)).await.unwrap();
    let functions = vec![v1::AppFunction { function: "pay".into(), version: 1 }];
    let routes = vec![v1::Route { path: "/c".into(), ..route("routes/c") }];
    let app = v1::ActivateAppRequest { name: named("apps/till"), functions, routes, ..Default::default() };
    cluster.releases().activate_app(by(app)).await.unwrap();
    let purpose = v1::TokenPurpose::Call.into();
    let token = v1::CreateTokenRequest { subject: "till".into(), purpose, parent: SHOP.into(), ..Default::default() };
    cluster.tokens().create_token(by(token)).await.unwrap();
    let drain = v1::DrainWorkerRequest { name: "workers/w1".into(), resume: false };
    cluster.clusters().drain_worker(by(drain)).await.unwrap();
    cluster
        .functions()
        .delete_function(by(v1::DeleteFunctionRequest { name: PAY.into(), ..Default::default() }))
        .await
        .unwrap();
    cluster.namespaces().delete_namespace(by(v1::DeleteNamespaceRequest { name: SHOP.into() })).await.unwrap();
}

#[tokio::test]
async fn every_method_that_changes_something_leaves_its_entry() {
    let cluster = Cluster::start().await;
    everything_is_asked_for(&cluster).await;
    let log = entries(&cluster, v1::ListAuditEntriesRequest { oldest_first: true, ..Default::default() }).await;
    let found: BTreeSet<_> = log.iter().map(|entry| entry.action.as_str()).collect();
    // Needs certificates: `trust.rs`.
    let expected = ACTIONS.iter().filter_map(|(_, action)| *action).filter(|action| *action != "join_token.create");
    assert_eq!(found, expected.chain(["version.activate"]).collect());
    let put = log.iter().find(|entry| entry.action == "route.put").unwrap();
    assert_eq!((put.subject.as_str(), put.role.as_str(), put.token_id.as_str()), ("zoe", "operator", "t-1"));
    assert_eq!((put.address.as_str(), put.gateway.as_str(), put.request_id.as_str()), ("192.0.2.7", "g1", "0198"));
    assert_eq!((put.namespace.as_str(), put.resource.as_str()), ("shop", "namespaces/shop/routes/a"));
    let token = log.iter().find(|entry| entry.action == "token.create").unwrap();
    assert!(token.namespace == "shop" && token.after.contains("till") && !token.after.contains("ey"), "{token:?}");
    let version = log.iter().find(|entry| entry.action == "version.create").unwrap();
    assert!(version.after.contains("capabilities") && version.after.contains("wasi:cli/stdout"), "{version:?}");
}

/// What the whole log is, as anybody finds who reads it.
async fn verified(cluster: &Cluster, saved: Option<&v1::GetAuditHeadResponse>) -> Result<u64, String> {
    let ends = audit(cluster).get_audit_head(v1::GetAuditHeadRequest {}).await.unwrap().into_inner();
    let log = entries(cluster, v1::ListAuditEntriesRequest { oldest_first: true, ..Default::default() }).await;
    let log: Vec<_> = log.into_iter().map(|entry| Entry::from_wire(entry).unwrap()).collect();
    let head = Head::from_wire(&ends.head.unwrap()).unwrap();
    let saved = saved.map(|saved| (Head::from_wire(saved.head.as_ref().unwrap()).unwrap(), &*saved.public_key));
    let chain = Chain::begin(head, None, &ends.public_key, saved).map_err(|error| error.to_string())?;
    verify(chain, &log).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_log_holds_over_restarts_and_from_a_head_that_was_saved() {
    let mut cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let saved = audit(&cluster).get_audit_head(v1::GetAuditHeadRequest {}).await.unwrap().into_inner();
    assert_eq!((saved.head.clone().unwrap().sequence, saved.public_key.len()), (2, 32));
    cluster.restart().await;
    cluster.namespace("bank").await;
    assert_eq!(verified(&cluster, Some(&saved)).await, Ok(3));
    let pages = v1::ListAuditEntriesRequest { page_size: 2, ..Default::default() };
    let first = audit(&cluster).list_audit_entries(pages.clone()).await.unwrap().into_inner();
    assert_eq!(first.entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [3, 2]);
    let next = v1::ListAuditEntriesRequest { page_token: first.next_page_token.clone(), ..pages.clone() };
    let second = audit(&cluster).list_audit_entries(next).await.unwrap().into_inner();
    assert_eq!((second.entries[0].sequence, second.next_page_token.as_str()), (1, ""));
    let turned = v1::ListAuditEntriesRequest { page_token: first.next_page_token, oldest_first: true, ..pages };
    refused(audit(&cluster).list_audit_entries(turned).await, ErrorCode::InvalidArgument);
    let of_bank = v1::ListAuditEntriesRequest { parent: "namespaces/bank".into(), ..Default::default() };
    assert_eq!(entries(&cluster, of_bank).await.len(), 1);
    let wrong = v1::ListAuditEntriesRequest { parent: "bank".into(), ..Default::default() };
    refused(audit(&cluster).list_audit_entries(wrong).await, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn gateways_note_what_they_refuse() {
    let cluster = Cluster::start().await;
    let mut notes = AuditNoteServiceClient::new(cluster.link());
    let attempt = Attempt {
        subject: "eve".into(),
        action: "route.put".into(),
        namespace: "shop".into(),
        count: 3,
        refused: true,
        ..Default::default()
    };
    let note = |attempts, more| NoteAttemptsRequest { gateway: "g1".into(), attempts, more };
    let sign_in = Attempt { action: "session.begin".into(), refused: false, count: 1, ..Default::default() };
    notes.note_attempts(note(vec![attempt.clone(), sign_in], 7)).await.unwrap();
    let log = entries(&cluster, v1::ListAuditEntriesRequest::default()).await;
    let told: Vec<_> = log.iter().take(3).map(|entry| (&*entry.action, entry.outcome(), &*entry.after)).collect();
    use v1::AuditOutcome::{Done, Refused};
    assert_eq!(
        told,
        [
            ("audit.more", Refused, r#"{"attempts":7}"#),
            ("session.begin", Done, r#"{"attempts":1}"#),
            ("route.put", Refused, r#"{"attempts":3}"#)
        ]
    );
    assert_eq!((log[2].subject.as_str(), log[2].gateway.as_str(), log[2].namespace.as_str()), ("eve", "g1", "shop"));
    let unknown = Attempt { action: "audit.distrust".into(), ..attempt.clone() };
    refused(notes.note_attempts(note(vec![unknown], 0)).await, ErrorCode::InvalidArgument);
    refused(notes.note_attempts(note(vec![attempt; 21], 0)).await, ErrorCode::InvalidArgument);
    assert_eq!(verified(&cluster, None).await, Ok(4));
}
