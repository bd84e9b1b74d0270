//! Usage plans over the wire: what gateways hear of them, and quotas that are lent.

use dunlin_proto::{
    ErrorCode,
    internal::v1::{
        BorrowQuotaRequest, GatewayLoad, QuotaLeft, RateReport, SyncGatewayRequest, sync_gateway_request::Report,
    },
    v1::{self, OnUnknown, QuotaLimit, QuotaPeriod},
};

use crate::harness::{Cluster, SimGateway, refused};

const BASIC: &str = "namespaces/default/plans/basic";

fn plan(requests: u64) -> v1::PutPlanRequest {
    let quota = QuotaLimit { requests, period: QuotaPeriod::Day.into(), on_unknown: 0 };
    v1::PutPlanRequest { plan: Some(v1::Plan { name: BASIC.into(), quota: Some(quota), ..Default::default() }) }
}

async fn key(cluster: &Cluster, plan: &str) -> v1::Key {
    let parent = "namespaces/default".to_owned();
    let request = v1::CreateKeyRequest { parent, plan: plan.into(), ..Default::default() };
    cluster.keys().create_key(request).await.unwrap().into_inner().key.unwrap()
}

async fn usage(cluster: &Cluster, key: &v1::Key) -> (u64, u64) {
    let asked = v1::GetKeyUsageRequest { name: key.name.clone() };
    let usage = cluster.keys().get_key_usage(asked).await.unwrap().into_inner();
    let (begins, ends) = (usage.period_start.unwrap().seconds, usage.period_end.unwrap().seconds);
    assert_eq!((begins % 86_400, ends - begins), (0, 86_400));
    (usage.used, usage.lent)
}

#[tokio::test]
async fn a_quota_is_lent_in_parts_and_its_use_is_told() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    cluster.plans().put_plan(plan(1_000)).await.unwrap();
    let key = key(&cluster, "basic").await;
    let id = key.name.rsplit('/').next().unwrap().to_owned();
    let told = |g: &SimGateway| g.received().config.keys.first().and_then(|key| key.quota).map(|quota| quota.requests);
    gateway.eventually(&cluster, "the quota", |g| told(g) == Some(1_000)).await;
    let borrow = async |wanted, left| {
        let by = BorrowQuotaRequest { gateway: "g1".into(), boot: 7, ..Default::default() };
        let request = BorrowQuotaRequest { key: id.clone(), wanted, left, ..by };
        cluster.sync().borrow_quota(request).await
    };
    let loan = borrow(100, 0).await.unwrap().into_inner();
    let valid = loan.valid_for.unwrap().seconds;
    assert!(loan.granted == 100 && loan.period_start % 86_400 == 0 && (0..=86_400).contains(&valid), "{loan:?}");
    assert_eq!(usage(&cluster, &key).await, (0, 100));
    let left = QuotaLeft { key: id.clone(), period_start: loan.period_start, left: 58, ..Default::default() };
    let report = Report::Rates(RateReport { lefts: vec![left], ..Default::default() });
    gateway.reports.send(SyncGatewayRequest { report: Some(report) }).await.unwrap();
    cluster.eventually("42 are used", async |cluster| usage(cluster, &key).await == (42, 58)).await;
    assert_eq!(borrow(0, 58).await.unwrap().into_inner().granted, 0, "it only gives back");
    assert_eq!(usage(&cluster, &key).await, (42, 0));
    // A change reaches gateways, and what is beyond it is lent to nobody.
    cluster.plans().put_plan(plan(10)).await.unwrap();
    gateway.eventually(&cluster, "the change", |g| told(g) == Some(10)).await;
    let refusal = borrow(100, 0).await.unwrap().into_inner();
    assert!(refusal.granted == 0 && refusal.gone == 42 && refusal.retry_after.unwrap().seconds > 0, "{refusal:?}");
}

#[tokio::test]
async fn what_a_gateway_promised_not_to_use_goes_back_once_its_process_is_gone() {
    let cluster = Cluster::start().await;
    let (dead, other) = (SimGateway::connect(&cluster, "g1").await, SimGateway::connect(&cluster, "g22").await);
    cluster.plans().put_plan(plan(1_000)).await.unwrap();
    let key = key(&cluster, "basic").await;
    let id = key.name.rsplit('/').next().unwrap().to_owned();
    let told = |g: &SimGateway| g.received().config.keys.first().and_then(|key| key.quota).is_some();
    other.eventually(&cluster, "the quota", told).await;
    let borrow = async |gateway: &str, loan, left| {
        let (key, gateway) = (id.clone(), gateway.to_owned());
        let sizes = BorrowQuotaRequest { wanted: 100, window: 20, ..Default::default() };
        let request = BorrowQuotaRequest { key, gateway, boot: 7, loan, left, ..sizes };
        cluster.sync().borrow_quota(request).await.unwrap().into_inner()
    };
    let loan = borrow("g1", 1, 0).await;
    assert_eq!((loan.granted, loan.floor), (100, 80));
    let left = QuotaLeft {
        key: id.clone(),
        period_start: loan.period_start,
        left: 90,
        loan: 1,
        floor: 70,
        ..Default::default()
    };
    let load = GatewayLoad { lefts: vec![left], lefts_sequence: 3, ..Default::default() };
    dead.reports.send(SyncGatewayRequest { report: Some(Report::Load(load)) }).await.unwrap();
    dead.eventually(&cluster, "it is known", |g| g.received().noted == 3).await;
    assert_eq!(usage(&cluster, &key).await, (10, 90));
    let mut number = 0;
    let refusal = loop {
        number += 1;
        let loan = borrow("g22", number, 0).await;
        if loan.granted == 0 {
            break loan;
        }
    };
    assert_eq!((refusal.gone, refusal.retry_after.unwrap().seconds), (1_000, 1), "there may be some again");
    drop(dead);
    let again = async || {
        let loan = borrow("g22", u64::from(u32::MAX), 0).await;
        (loan.granted == 0).then(|| loan.retry_after.unwrap().seconds)
    };
    assert_eq!(again().await, Some(1), "it may be alive");
    cluster.eventually("it is back", async |cluster| usage(cluster, &key).await == (930, 0)).await;
    // What it says now has gone back already.
    assert_eq!(borrow("g1", 2, 90).await.floor, 0);
    assert!(usage(&cluster, &key).await.0 > 930, "it is lent, and nothing else");
}

#[tokio::test]
async fn a_namespaces_quota_is_lent_by_its_name_and_its_use_is_told() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let quota =
        Some(QuotaLimit { requests: 1_000, period: QuotaPeriod::Day.into(), on_unknown: OnUnknown::Allow.into() });
    let name = "namespaces/default".to_owned();
    let namespace = Some(v1::Namespace { name: name.clone(), quota, ..Default::default() });
    let update_mask = Some(prost_types::FieldMask { paths: vec!["quota".into()] });
    let request = v1::UpdateNamespaceRequest { namespace, update_mask };
    let changed = cluster.namespaces().update_namespace(request).await.unwrap().into_inner().namespace.unwrap();
    assert_eq!(changed.quota, quota);
    let told = |g: &SimGateway| {
        let quotas = g.received().config.limits.unwrap_or_default().quotas;
        quotas.iter().map(|told| (told.namespace.clone(), told.quota)).collect::<Vec<_>>()
    };
    gateway.eventually(&cluster, "the quota", |g| told(g) == [("default".to_owned(), quota)]).await;
    let borrow = async |limit: &str| {
        let by = BorrowQuotaRequest { gateway: "g1".into(), boot: 7, ..Default::default() };
        let request = BorrowQuotaRequest { limit: limit.into(), wanted: 100, ..by };
        cluster.sync().borrow_quota(request).await
    };
    assert_eq!(borrow("namespace/default").await.unwrap().into_inner().granted, 100);
    refused(borrow("namespace/bank").await, ErrorCode::NotFound);
    refused(borrow("shared/default").await, ErrorCode::NotFound);
    refused(borrow("plan/default").await, ErrorCode::InvalidArgument);
    let asked = v1::GetNamespaceRequest { name };
    let shown = cluster.namespaces().get_namespace(asked).await.unwrap().into_inner().namespace.unwrap();
    let usage = shown.quota_usage.unwrap();
    assert_eq!((usage.used, usage.lent, usage.period_end.unwrap().seconds % 86_400), (0, 100, 0));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let cluster = Cluster::start().await;
    let put = async |plan| cluster.plans().put_plan(v1::PutPlanRequest { plan }).await;
    refused(put(None).await, ErrorCode::InvalidArgument);
    let empty = v1::Plan { name: BASIC.into(), ..Default::default() };
    refused(put(Some(empty)).await, ErrorCode::InvalidArgument);
    refused(cluster.plans().put_plan(plan(0)).await, ErrorCode::InvalidArgument);
    let none = v1::Plan { name: BASIC.into(), max_concurrency: Some(0), ..Default::default() };
    assert!(refused(put(Some(none)).await, ErrorCode::InvalidArgument).message.contains("max_concurrency is 0"));
    let borrow = async |key: &str| {
        let request = BorrowQuotaRequest { key: key.into(), wanted: 1, gateway: "g1".into(), ..Default::default() };
        cluster.sync().borrow_quota(request).await
    };
    refused(borrow("x").await, ErrorCode::InvalidArgument);
    refused(borrow("abcdefghijkl").await, ErrorCode::NotFound);
    let free = key(&cluster, "").await;
    refused(borrow(free.name.rsplit('/').next().unwrap()).await, ErrorCode::NotFound);
    let asked = v1::GetKeyUsageRequest { name: free.name.clone() };
    assert_eq!(cluster.keys().get_key_usage(asked).await.unwrap().into_inner(), v1::GetKeyUsageResponse::default());
    let under = v1::UpdateKeyRequest { name: free.name.clone(), plan: "basic".into() };
    refused(cluster.keys().update_key(under.clone()).await, ErrorCode::NotFound);
    cluster.plans().put_plan(plan(5)).await.unwrap();
    assert_eq!(cluster.keys().update_key(under).await.unwrap().into_inner().key.unwrap().plan, "basic");
    let deleted = cluster.plans().delete_plan(v1::DeletePlanRequest { name: BASIC.into() }).await;
    refused(deleted, ErrorCode::FailedPrecondition);
    let listed = cluster.plans().list_plans(v1::ListPlansRequest { parent: "namespaces/default".into() }).await;
    assert_eq!(listed.unwrap().into_inner().plans[0].keys, 1);
}
