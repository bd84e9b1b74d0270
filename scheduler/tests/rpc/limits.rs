//! Limited rates over the wire: lent to gateways that ask, granted one by one where they are small, and known after a restart.

use dunlin_proto::{
    ErrorCode,
    internal::v1::{AdmitRequest, RateDemand, RateReport, SyncGatewayRequest, sync_gateway_request::Report},
    v1::{self, RateLimit, RatePeriod},
};

use crate::harness::{Cluster, SimGateway, refused};

const LIMIT: &str = "namespace/default";

async fn limit(cluster: &Cluster, rate: Option<RateLimit>) {
    let request = v1::UpdateNamespaceRequest {
        namespace: Some(v1::Namespace { name: "namespaces/default".into(), rate, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["rate".into()] }),
    };
    let changed = cluster.namespaces().update_namespace(request).await.unwrap().into_inner();
    assert_eq!(changed.namespace.unwrap().rate, rate);
}

fn rate(requests: u32, period: RatePeriod, burst: u32) -> Option<RateLimit> {
    Some(RateLimit { requests, period: period.into(), burst: Some(burst) })
}

async fn want(gateway: &SimGateway, wanted_per_second: f64, sequence: u64) {
    let demand = RateDemand { limit: LIMIT.into(), wanted_per_second, sequence, ..Default::default() };
    let report = Report::Rates(RateReport { demands: vec![demand], ..Default::default() });
    gateway.reports.send(SyncGatewayRequest { report: Some(report) }).await.unwrap();
}

/// Admissions a second that a gateway was told last, and the loan's number.
fn told(gateway: &SimGateway) -> (f64, u64) {
    gateway.received().loans.last().map_or((0.0, 0), |loan| (loan.per_second, loan.sequence))
}

#[tokio::test]
async fn a_part_goes_to_another_gateway_when_it_is_given_back() {
    let cluster = Cluster::start().await;
    limit(&cluster, rate(100, RatePeriod::Second, 50)).await;
    let (a, b) = (SimGateway::connect(&cluster, "g1").await, SimGateway::connect(&cluster, "g22").await);
    want(&a, 100.0, 0).await;
    a.eventually(&cluster, "nearly all", |g| told(g).0 > 98.0).await;
    want(&b, 100.0, 0).await;
    a.eventually(&cluster, "half is asked for", |g| told(g).0 < 51.0).await;
    assert!(told(&b).0 < 2.0, "nothing moves before it is given back: {:?}", told(&b));
    want(&a, 100.0, told(&a).1).await;
    b.eventually(&cluster, "half is lent", |g| told(g).0 > 49.0).await;
}

#[tokio::test]
async fn small_rates_are_granted_one_by_one() {
    let cluster = Cluster::start().await;
    let admit = async || cluster.sync().admit(AdmitRequest { limit: LIMIT.into() }).await;
    refused(admit().await, ErrorCode::NotFound);
    limit(&cluster, rate(1, RatePeriod::Minute, 1)).await;
    assert!(admit().await.unwrap().into_inner().admitted);
    let answer = admit().await.unwrap().into_inner();
    let wait = answer.retry_after.unwrap().seconds;
    assert!(!answer.admitted && (50..=60).contains(&wait), "{wait}");
    refused(cluster.sync().admit(AdmitRequest { limit: "x".into() }).await, ErrorCode::InvalidArgument);
    limit(&cluster, None).await;
    refused(admit().await, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_restart_lends_nothing_before_it_knows_who_holds_what() {
    let mut cluster = Cluster::start().await;
    limit(&cluster, rate(100, RatePeriod::Second, 50)).await;
    let (_a, b) = (SimGateway::connect(&cluster, "g1").await, SimGateway::connect(&cluster, "g22").await);
    want(&b, 100.0, 0).await;
    b.eventually(&cluster, "nearly all", |g| told(g).0 > 98.0).await;
    cluster.restart().await;
    let a = SimGateway::connect(&cluster, "g1").await;
    want(&a, 100.0, 0).await;
    a.eventually(&cluster, "an answer", |g| !g.received().loans.is_empty()).await;
    assert!(told(&a).0 < 0.001, "the other may hold all of it: {:?}", told(&a));
    // It holds nothing after all.
    let _b = SimGateway::connect(&cluster, "g22").await;
    want(&a, 100.0, 0).await;
    a.eventually(&cluster, "nearly all", |g| told(g).0 > 98.0).await;
}

/// Says how many calls are wanted at once, and how many run beyond the part.
async fn want_at_once(gateway: &SimGateway, calls: f64, uses: f64) {
    let demand = RateDemand {
        limit: "shared/default".into(),
        wanted_per_second: calls,
        sequence: told(gateway).1,
        uses,
        ..Default::default()
    };
    let report = Report::Rates(RateReport { demands: vec![demand], ..Default::default() });
    gateway.reports.send(SyncGatewayRequest { report: Some(report) }).await.unwrap();
}

/// The calls at once that a gateway was told last.
fn at_once(gateway: &SimGateway) -> Option<f64> {
    gateway.received().loans.last().map(|loan| loan.burst)
}

#[tokio::test]
async fn a_limit_of_one_call_at_once_goes_to_a_gateway_that_was_told_that_there_is_none() {
    let cluster = Cluster::start().await;
    let namespace = v1::Namespace { name: "namespaces/default".into(), max_concurrency: Some(1), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["max_concurrency".into()] });
    let request = v1::UpdateNamespaceRequest { namespace: Some(namespace), update_mask };
    cluster.namespaces().update_namespace(request).await.unwrap();
    let (a, b) = (SimGateway::connect(&cluster, "g1").await, SimGateway::connect(&cluster, "g22").await);
    want_at_once(&a, 1.0, 0.0).await;
    a.eventually(&cluster, "the one", |g| at_once(g) == Some(1.0)).await;
    want_at_once(&b, 1.0, 0.0).await;
    b.eventually(&cluster, "none now", |g| at_once(g) == Some(0.0)).await;
    // Its turn is over, but its call runs.
    a.eventually(&cluster, "it is asked for", |g| at_once(g) == Some(0.0)).await;
    want_at_once(&a, 1.0, 1.0).await;
    want_at_once(&b, 1.0, 0.0).await;
    assert_eq!(at_once(&b), Some(0.0));
    want_at_once(&a, 0.0, 0.0).await;
    b.eventually(&cluster, "told without asking", |g| at_once(g) == Some(1.0)).await;
    refused(cluster.sync().admit(AdmitRequest { limit: "shared/default".into() }).await, ErrorCode::NotFound);
}

#[tokio::test]
async fn what_was_lent_of_a_limit_that_is_removed_comes_back_before_it_is_lent_anew() {
    let cluster = Cluster::start().await;
    limit(&cluster, rate(100, RatePeriod::Second, 50)).await;
    let (a, b) = (SimGateway::connect(&cluster, "g1").await, SimGateway::connect(&cluster, "g22").await);
    want(&a, 100.0, 0).await;
    a.eventually(&cluster, "nearly all", |g| told(g).0 > 98.0).await;
    limit(&cluster, None).await;
    a.eventually(&cluster, "it is asked for", |g| told(g).0 < 0.001).await;
    limit(&cluster, rate(100, RatePeriod::Second, 50)).await;
    // The first one may never have noticed, and go on.
    want(&b, 100.0, 0).await;
    b.eventually(&cluster, "an answer", |g| !g.received().loans.is_empty()).await;
    assert!(told(&b).0 < 2.0, "nothing has come back yet: {:?}", told(&b));
    let gone = RateDemand { limit: LIMIT.into(), gone: true, ..Default::default() };
    let report = Report::Rates(RateReport { demands: vec![gone], ..Default::default() });
    a.reports.send(SyncGatewayRequest { report: Some(report) }).await.unwrap();
    b.eventually(&cluster, "nearly all", |g| told(g).0 > 98.0).await;
    // One that has had the limit anew since has nothing of what it was lent before, though it is told of that.
    let anew = RateDemand { limit: LIMIT.into(), wanted_per_second: 100.0, part: 7, ..Default::default() };
    let report = Report::Rates(RateReport { demands: vec![anew], ..Default::default() });
    a.reports.send(SyncGatewayRequest { report: Some(report) }).await.unwrap();
    b.eventually(&cluster, "half is asked for", |g| told(g).0 < 51.0).await;
    want(&b, 100.0, told(&b).1).await;
    a.eventually(&cluster, "half is lent", |g| told(g).0 > 49.0).await;
    let loan = a.received().loans.last().unwrap().clone();
    assert_eq!(loan.part, 7);
}
