//! Usage and budgets over the wire: what gateways report is shown, and what is used up they are told.

use std::time::{SystemTime, UNIX_EPOCH};

use dunlin_proto::{
    ErrorCode,
    ids::FunctionUid,
    internal::v1::{ReportUsageRequest, UsageDelta, VersionRef},
    v1,
};

use crate::harness::{Cluster, SimGateway, refused};

const PARENT: &str = "namespaces/default";
const BUDGET: &str = "namespaces/default/budget";

fn used(uid: FunctionUid, key: &str, invocations: u64) -> UsageDelta {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    UsageDelta {
        version: Some(VersionRef { function_uid: uid.to_string(), number: 1 }),
        namespace: "default".into(),
        function: "pay".into(),
        key: key.into(),
        hour: i64::try_from(now - now % 3_600).unwrap(),
        invocations,
        cpu_micros: 1_500_000,
        memory_byte_seconds: 1 << 20,
        bytes_in: 1,
        bytes_out: 2,
    }
}

async fn report(cluster: &Cluster, sequence: u64, deltas: Vec<UsageDelta>) {
    let request = ReportUsageRequest { gateway: "g1".into(), boot: 7, sequence, deltas };
    cluster.sync().report_usage(request).await.unwrap();
}

fn budget(calls: u64, enforce: bool) -> v1::SetBudgetRequest {
    let calls = Some(v1::BudgetLimit { amount: calls, period: v1::QuotaPeriod::Month.into() });
    let name = BUDGET.into();
    v1::SetBudgetRequest { budget: Some(v1::Budget { name, calls, enforce, ..Default::default() }) }
}

async fn calls(cluster: &Cluster) -> (u64, v1::BudgetState) {
    let found = cluster.usage().get_budget(v1::GetBudgetRequest { name: BUDGET.into() }).await.unwrap().into_inner();
    let calls = found.calls.unwrap();
    (calls.used, calls.state())
}

#[tokio::test]
async fn what_is_reported_is_shown_once_and_in_pages() {
    let cluster = Cluster::start().await;
    let uid = FunctionUid::new();
    let deltas = vec![used(uid, "", 2), used(uid, "keyAAAAAAAAA", 3)];
    for _ in 0..2 {
        report(&cluster, 1, deltas.clone()).await;
    }
    let list = async |group: v1::UsageGroup, page_size, page_token: String| {
        let request = v1::ListUsageRequest {
            parent: PARENT.into(),
            group_by: vec![group.into()],
            page_size,
            page_token,
            ..Default::default()
        };
        cluster.usage().list_usage(request).await.unwrap().into_inner()
    };
    let all = list(v1::UsageGroup::Function, 0, String::new()).await;
    let line = &all.usage[0];
    assert_eq!((all.usage.len(), line.function.as_str(), line.invocations, line.bytes_out), (1, "pay", 5, 4));
    assert_eq!((line.cpu_time.unwrap().seconds, line.function_uid.clone()), (3, uid.to_string()));
    assert_eq!(all.to.unwrap().seconds - all.from.unwrap().seconds, 24 * 3_600);
    let first = list(v1::UsageGroup::Key, 1, String::new()).await;
    assert_eq!((first.usage.len(), first.usage[0].key.as_str(), first.usage[0].invocations), (1, "", 2));
    let second = list(v1::UsageGroup::Key, 1, first.next_page_token).await;
    assert_eq!((second.usage[0].invocations, second.next_page_token.as_str()), (3, ""));
    let unknown = v1::ListUsageRequest { parent: "namespaces/none".into(), ..Default::default() };
    refused(cluster.usage().list_usage(unknown).await, ErrorCode::NotFound);
    let nonsense = v1::ListUsageRequest { parent: PARENT.into(), group_by: vec![0], ..Default::default() };
    refused(cluster.usage().list_usage(nonsense).await, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn gateways_are_told_of_budgets_that_are_used_up_and_of_no_others() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let told = |g: &SimGateway| g.received().spent.last().map(|spent| spent.budgets.len());
    gateway.eventually(&cluster, "none is used up", |g| told(g) == Some(0)).await;
    refused(cluster.usage().get_budget(v1::GetBudgetRequest { name: BUDGET.into() }).await, ErrorCode::NotFound);
    refused(cluster.usage().set_budget(budget(0, true)).await, ErrorCode::InvalidArgument);
    let uid = FunctionUid::new();
    report(&cluster, 1, vec![used(uid, "", 7)]).await;
    let set = cluster.usage().set_budget(budget(10, true)).await.unwrap().into_inner();
    assert_eq!(set.budget.unwrap().warn_percent, 80);
    assert_eq!(calls(&cluster).await, (7, v1::BudgetState::Ok), "what was used before counts");
    report(&cluster, 2, vec![used(uid, "", 1)]).await;
    assert_eq!(calls(&cluster).await, (8, v1::BudgetState::Warning));
    report(&cluster, 3, vec![used(uid, "", 3)]).await;
    report(&cluster, 3, vec![used(uid, "", 3)]).await;
    assert_eq!(calls(&cluster).await, (11, v1::BudgetState::UsedUp));
    gateway.eventually(&cluster, "it is used up", |g| told(g) == Some(1)).await;
    let spent = gateway.received().spent.last().unwrap().budgets[0].clone();
    assert_eq!((spent.namespace.as_str(), spent.used, spent.allowed, spent.cpu), ("default", 11, 10, false));
    // Whoever connects later hears of it, too.
    let late = SimGateway::connect(&cluster, "g2").await;
    late.eventually(&cluster, "it is used up", |g| told(g) == Some(1)).await;
    cluster.usage().set_budget(budget(10, false)).await.unwrap();
    gateway.eventually(&cluster, "it only warns", |g| told(g) == Some(0)).await;
    cluster.usage().set_budget(budget(10, true)).await.unwrap();
    gateway.eventually(&cluster, "it refuses", |g| told(g) == Some(1)).await;
    cluster.usage().delete_budget(v1::DeleteBudgetRequest { name: BUDGET.into() }).await.unwrap();
    gateway.eventually(&cluster, "it is gone", |g| told(g) == Some(0)).await;
    refused(cluster.usage().get_budget(v1::GetBudgetRequest { name: BUDGET.into() }).await, ErrorCode::NotFound);
}
