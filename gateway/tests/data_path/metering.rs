//! What invocations use is counted once and reported, whatever becomes of answers; namespaces that have used up their budget are
//! refused.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use dunlin_proto::internal::v1::{SpentBudget, SpentBudgets, UsageDelta};

use tokio::io::AsyncWriteExt;

use crate::harness::{Cluster, KEYS, PRIVATE, connect, eventually, get, key, send};

/// What was reported, each report once.
fn counted(cluster: &Cluster) -> Vec<UsageDelta> {
    let reports = cluster.scheduler.seen.usage.lock().unwrap();
    let by_sequence: BTreeMap<_, _> = reports.iter().map(|report| (report.sequence, report.clone())).collect();
    assert!(reports.iter().all(|report| by_sequence[&report.sequence] == *report), "a report never changes");
    by_sequence.into_values().flat_map(|report| report.deltas).collect()
}

#[tokio::test]
async fn every_call_is_reported_and_a_report_is_repeated_as_it_was() {
    let cluster = Cluster::start().await;
    let calls = |wanted: Option<&str>| -> u64 {
        let deltas = counted(&cluster).into_iter().filter(|delta| wanted.is_none_or(|key| delta.key == key));
        deltas.map(|delta| delta.invocations).sum()
    };
    for _ in 0..3 {
        assert_eq!(get(cluster.functions(), "/shop/open/").await.status, 200);
    }
    eventually("a report", async || calls(None) > 0).await;
    let secret = key(KEYS[0]);
    for _ in 0..4 {
        let answer =
            send(cluster.functions(), "GET", &format!("/shop/{PRIVATE}/"), &[("x-api-key", &secret)], "").await;
        assert_eq!(answer.status, 200);
    }
    // Nobody's call.
    assert_eq!(send(cluster.functions(), "GET", &format!("/shop/{PRIVATE}/"), &[], "").await.status, 401);
    eventually("the calls", async || calls(None) == 7).await;
    assert_eq!((calls(Some("")), calls(Some(KEYS[0]))), (3, 4));
    let deltas = counted(&cluster);
    assert_eq!(deltas.iter().map(|delta| delta.cpu_micros).sum::<u64>(), 7 * 4_000);
    assert!(deltas.iter().all(|delta| delta.hour % 3_600 == 0 && delta.namespace == "shop"));
    let reports = cluster.scheduler.seen.usage.lock().unwrap().clone();
    assert_eq!((reports[0].sequence, &reports[0]), (1, &reports[1]), "its answer was lost");
    assert_ne!(reports[0].boot, 0);
}

#[tokio::test]
async fn what_a_call_used_counts_also_where_its_caller_leaves_before_the_head() {
    let cluster = Cluster::start().await;
    let mut stream = connect(cluster.functions()).await;
    stream.write_all(b"GET /shop/open/hang HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    eventually("the call", async || cluster.workers[0].begins().len() == 1).await;
    drop(stream);
    eventually("its record", async || !cluster.records().await.is_empty()).await;
    let records = cluster.records().await;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record.outcome.as_str(), record.status), ("cancelled", 0));
    assert!(record.error.contains("the caller left"), "{}", record.error);
    eventually("its cost", async || counted(&cluster).iter().map(|delta| delta.cpu_micros).sum::<u64>() == 4_000).await;
    assert_eq!(counted(&cluster).iter().map(|delta| delta.invocations).sum::<u64>(), 1);
}

#[tokio::test]
async fn a_namespace_that_has_used_up_its_budget_is_refused_until_it_has_another() {
    let cluster = Cluster::start().await;
    assert!(cluster.scheduler.seen.hellos.lock().unwrap().iter().all(|hello| hello.budgets));
    let call = async || get(cluster.functions(), "/shop/open/").await;
    assert_eq!(call().await.status, 200);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let begun = now - 100;
    let budget = SpentBudget {
        namespace: "shop".into(),
        cpu: false,
        used: 21,
        allowed: 20,
        period_start: begun,
        period_end: begun + 86_400,
    };
    cluster.scheduler.spent.send(SpentBudgets { budgets: vec![budget.clone()] }).unwrap();
    eventually("a refusal", async || call().await.status == 429).await;
    let answer = call().await;
    assert_eq!(answer.code(), "too_many_requests");
    let wait: i64 = answer.header("retry-after").parse().unwrap();
    assert!((86_400 - 100 - 60..=86_400 - 100).contains(&wait), "{wait}");
    let json: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    let expected = serde_json::json!({
        "kind": "budget", "of": "namespace shop", "current": 21, "allowed": 20, "period_seconds": 86_400,
    });
    assert_eq!(json["error"]["limit"], expected);
    assert!(json["error"]["hint"].as_str().unwrap().contains("dunlin budget set"));
    // A period that has ended refuses nobody.
    let over = SpentBudget { period_start: begun - 86_400, period_end: begun, ..budget.clone() };
    cluster.scheduler.spent.send(SpentBudgets { budgets: vec![over] }).unwrap();
    eventually("the next period", async || call().await.status == 200).await;
    cluster.scheduler.spent.send(SpentBudgets { budgets: vec![budget] }).unwrap();
    eventually("a refusal", async || call().await.status == 429).await;
    cluster.scheduler.spent.send(SpentBudgets::default()).unwrap();
    eventually("no budget", async || call().await.status == 200).await;
}
