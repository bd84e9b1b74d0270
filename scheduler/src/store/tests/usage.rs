//! Usage by the hour and budgets: that a report counts once, whatever happens, and what sums are made of.

use dunlin_proto::{
    ErrorCode,
    ids::{FunctionUid, Namespace, VersionKey},
    model::{Budget, BudgetLimit, QuotaPeriod},
    names::FunctionRef,
};

use super::{Bench, conformance, deploy, function, namespace, number, refused};
use crate::model::{Amounts, Grouping, HOUR, ReportId, UsageDelta, UsageSum};

conformance!(
    a_report_counts_once,
    reports_at_once_all_count,
    usage_is_told_apart_as_asked,
    pages_follow_each_other,
    usage_outlives_functions_and_ends_with_the_namespace,
    old_usage_is_forgotten,
    budgets_are_set_and_deleted,
);

const ALL: (i64, i64) = (0, 1_000 * HOUR);
const EVERYTHING: Grouping = Grouping { function: true, version: true, key: true, hour: true };
const PAGE: (i64, i64) = (0, 100);

fn shop() -> Namespace {
    "shop".parse().unwrap()
}

fn report(gateway: &str, boot: u64, sequence: u64) -> ReportId {
    ReportId { gateway: gateway.parse().unwrap(), boot, sequence }
}

fn used(function: &FunctionRef, version: VersionKey, key: Option<&str>, hour: i64) -> UsageDelta {
    let amounts = Amounts { invocations: 2, cpu_micros: 30, memory_byte_seconds: 400, bytes_in: 5, bytes_out: 60 };
    UsageDelta {
        function: function.clone(),
        version,
        key: key.map(|key| key.parse().unwrap()),
        hour: hour * HOUR,
        amounts,
    }
}

fn version(uid: FunctionUid, of: u32) -> VersionKey {
    VersionKey { function: uid, number: number(of) }
}

async fn calls(bench: &Bench) -> u64 {
    bench.store.usage_sum(&shop(), ALL).await.unwrap().invocations
}

async fn a_report_counts_once(bench: &Bench) {
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    let (pay, key) = (function("shop", "pay"), version(FunctionUid::new(), 1));
    let deltas = [used(&pay, key, None, 5), used(&pay, key, Some("keyAAAAAAAAA"), 5)];
    let store = &bench.store;
    for (report, new) in [
        (report("one", u64::MAX, 1), true),
        (report("one", u64::MAX, 1), false),
        (report("one", u64::MAX, 2), true),
        (report("one", u64::MAX, 1), false),
        (report("one", 7, 1), true),
        // What an earlier process left comes late, by way of the next one.
        (report("one", u64::MAX, 3), true),
        (report("one", u64::MAX, 3), false),
        (report("one", 7, 1), false),
        (report("two", 7, 1), true),
    ] {
        assert_eq!(store.usage_apply(&report, &deltas).await.unwrap(), new, "{report:?}");
    }
    let all = Amounts { invocations: 20, cpu_micros: 300, memory_byte_seconds: 4_000, bytes_in: 50, bytes_out: 600 };
    assert_eq!(store.usage_sum(&shop(), ALL).await.unwrap(), all);
    assert_eq!(store.usage_sum(&shop(), (5 * HOUR, 6 * HOUR)).await.unwrap(), all);
    for none in [(0, 5 * HOUR), (6 * HOUR, ALL.1)] {
        assert_eq!(store.usage_sum(&shop(), none).await.unwrap(), Amounts::default(), "an hour is in one span alone");
    }
}

async fn reports_at_once_all_count(bench: &Bench) {
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    let (pay, uid) = (function("shop", "pay"), FunctionUid::new());
    let mut deltas: Vec<_> = (1..=4).map(|number| used(&pay, version(uid, number), None, 5)).collect();
    let other: Vec<_> = deltas.iter().rev().cloned().collect();
    deltas.push(used(&pay, version(uid, 1), None, 6));
    // Each is sent twice at the same time, and gateways name the same rows in another order.
    let reports = (0..12_u64).map(|number| {
        let (sequence, gateway) = (number / 4 + 1, if number % 2 == 0 { "one" } else { "two" });
        let deltas = if number % 2 == 0 { &deltas } else { &other };
        let report = report(gateway, sequence, 1);
        async move { bench.store.usage_apply(&report, deltas).await.unwrap() }
    });
    let new = futures::future::join_all(reports).await.into_iter().filter(|new| *new).count();
    assert_eq!((new, calls(bench).await), (6, 3 * 10 + 3 * 8));
}

async fn usage_is_told_apart_as_asked(bench: &Bench) {
    for name in ["shop", "bank"] {
        bench.store.namespace_create(&namespace(name), None).await.unwrap();
    }
    let (pay, log, uid) = (function("shop", "pay"), function("shop", "log"), FunctionUid::new());
    let (first, second, other) = (version(uid, 1), version(uid, 2), version(FunctionUid::new(), 1));
    let key = Some("keyAAAAAAAAA");
    let deltas = [
        used(&pay, first, key, 5),
        used(&pay, first, key, 6),
        used(&pay, second, None, 5),
        used(&log, other, None, 6),
        used(&function("bank", "pay"), first, None, 5),
        used(&function("gone", "pay"), first, None, 5),
    ];
    bench.store.usage_apply(&report("one", 1, 1), &deltas).await.unwrap();
    let list = async |by| bench.store.usage_list(&shop(), ALL, by, PAGE).await.unwrap();
    let short = |sums: Vec<UsageSum>| -> Vec<_> {
        let short = |sum: UsageSum| {
            assert_eq!(sum.function.is_empty(), sum.function_uid.is_empty());
            format!("{} {}@{} {} {}", sum.hour / HOUR, sum.function, sum.version, sum.key, sum.amounts.invocations)
        };
        sums.into_iter().map(short).collect()
    };
    let none = Grouping::default();
    assert_eq!(short(list(Grouping { function: true, ..none }).await), ["0 log@0  2", "0 pay@0  6"]);
    assert_eq!(short(list(Grouping { version: true, ..none }).await), ["0 log@1  2", "0 pay@1  4", "0 pay@2  2"]);
    assert_eq!(short(list(Grouping { key: true, ..none }).await), ["0 @0  4", "0 @0 keyAAAAAAAAA 4"]);
    assert_eq!(short(list(Grouping { hour: true, ..none }).await), ["5 @0  4", "6 @0  4"]);
    assert_eq!(short(list(none).await), ["0 @0  8"]);
    let all = ["5 pay@1 keyAAAAAAAAA 2", "5 pay@2  2", "6 log@1  2", "6 pay@1 keyAAAAAAAAA 2"];
    assert_eq!(short(list(EVERYTHING).await), all);
    refused(bench.store.usage_list(&"gone".parse().unwrap(), ALL, none, PAGE).await, ErrorCode::NotFound);
}

async fn pages_follow_each_other(bench: &Bench) {
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    let (pay, key) = (function("shop", "pay"), version(FunctionUid::new(), 1));
    let deltas: Vec<_> = (0..7).map(|hour| used(&pay, key, None, hour)).collect();
    bench.store.usage_apply(&report("one", 1, 1), &deltas).await.unwrap();
    let mut hours = Vec::new();
    for skip in [0, 3, 6, 9] {
        let page = bench.store.usage_list(&shop(), ALL, EVERYTHING, (skip, 3)).await.unwrap();
        hours.extend(page.into_iter().map(|sum| sum.hour / HOUR));
    }
    assert_eq!(hours, [0, 1, 2, 3, 4, 5, 6]);
}

async fn usage_outlives_functions_and_ends_with_the_namespace(bench: &Bench) {
    let pay = function("shop", "pay");
    let made = deploy(bench, &pay).await;
    let key = VersionKey { function: made.uid, number: made.number };
    bench.store.usage_apply(&report("one", 1, 1), &[used(&pay, key, None, 5)]).await.unwrap();
    bench.store.function_delete(&pay, "").await.unwrap();
    assert_eq!(calls(bench).await, 2);
    bench.store.usage_apply(&report("one", 1, 2), &[used(&pay, key, None, 5)]).await.unwrap();
    assert_eq!(calls(bench).await, 4, "the last calls come later");
    bench.store.namespace_delete(&shop()).await.unwrap();
    bench.store.usage_apply(&report("one", 1, 3), &[used(&pay, key, None, 5)]).await.unwrap();
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    assert_eq!(calls(bench).await, 0, "whoever has the name next does not see it");
}

async fn old_usage_is_forgotten(bench: &Bench) {
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    let (pay, key) = (function("shop", "pay"), version(FunctionUid::new(), 1));
    let deltas = [used(&pay, key, None, 5), used(&pay, key, None, 6)];
    bench.store.usage_apply(&report("one", 1, 1), &deltas).await.unwrap();
    bench.store.usage_forget(6 * HOUR).await.unwrap();
    assert_eq!(calls(bench).await, 2);
    assert!(!bench.store.usage_apply(&report("one", 1, 1), &deltas).await.unwrap(), "it is known that it was counted");
}

async fn budgets_are_set_and_deleted(bench: &Bench) {
    let (store, shop) = (&bench.store, shop());
    let calls = Some(BudgetLimit { amount: 20, period: QuotaPeriod::Day });
    let budget = Budget { cpu: None, calls, warn_percent: 80, enforce: true };
    refused(store.budget_set(&shop, &budget).await, ErrorCode::NotFound);
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    refused(store.budget_fetch(&shop).await, ErrorCode::NotFound);
    store.budget_set(&shop, &budget).await.unwrap();
    let other = Budget { enforce: false, ..budget };
    store.budget_set(&shop, &other).await.unwrap();
    assert_eq!(store.budget_fetch(&shop).await.unwrap(), other);
    assert_eq!(store.budget_list().await.unwrap(), [(shop.clone(), other)]);
    store.budget_delete(&shop).await.unwrap();
    refused(store.budget_delete(&shop).await, ErrorCode::NotFound);
    store.budget_set(&shop, &budget).await.unwrap();
    store.namespace_delete(&shop).await.unwrap();
    assert!(store.budget_list().await.unwrap().is_empty());
}
