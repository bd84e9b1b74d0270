//! Webhooks and their outbox: an event is there with what it tells or not at all, and is sent until it is over.

use dunlin_proto::{
    ErrorCode,
    ids::Namespace,
    model::{BudgetLimit, QuotaPeriod},
};

use super::{Bench, conformance, deploy, function, namespace, number, refused};
use crate::{
    model::{Attempt, DeliveryRecord, DeliveryState, DomainRecord, DomainTls, DueDelivery, Issued, ProofKind, Time},
    webhooks::{BudgetUse, Event},
};

conformance!(
    a_webhook_is_set_changed_and_deleted,
    an_old_secret_signs_for_a_while,
    an_event_is_due_until_it_is_over,
    namespaces_do_not_wait_for_each_other,
    a_receiver_that_is_gone_is_told_nothing_more,
    what_waits_is_bounded_and_what_is_over_is_forgotten,
    what_happens_once_is_told_once,
    rollbacks_are_told_with_their_change,
    failed_certificates_are_told_after_a_while,
    what_stands_is_told_to_whoever_does_not_know,
    the_last_failure_is_known_until_it_is_made_good,
);

const URL: &str = "https://example.com/hook";
const LATER: Time = Time(i64::MAX);

fn shop() -> Namespace {
    "shop".parse().unwrap()
}

async fn set(bench: &Bench, namespace_id: &str) -> Namespace {
    let shop: Namespace = namespace_id.parse().unwrap();
    bench.store.namespace_create(&namespace(namespace_id), None).await.unwrap();
    bench.store.webhook_set(&shop, URL, b"one").await.unwrap();
    shop
}

async fn due(bench: &Bench) -> Vec<DueDelivery> {
    bench.store.webhook_due(LATER, 100).await.unwrap()
}

async fn deliveries(bench: &Bench) -> Vec<DeliveryRecord> {
    bench.store.webhook_fetch(&shop(), 10_000).await.unwrap().deliveries
}

async fn told(bench: &Bench) -> Vec<(String, serde_json::Value)> {
    let mut told = Vec::new();
    while let Some(next) = due(bench).await.pop() {
        let body: serde_json::Value = serde_json::from_str(&next.body).unwrap();
        assert_eq!(body["id"], next.record.id);
        told.push((next.record.kind.clone(), body["data"].clone()));
        bench.store.webhook_note(&next.record, &attempt(DeliveryState::Delivered, 0)).await.unwrap();
    }
    told
}

fn attempt(state: DeliveryState, next: i64) -> Attempt {
    let (status, error) = if state == DeliveryState::Delivered { (204, "") } else { (500, "no\0") };
    Attempt { state, time: Time(5), next: Time(next), status, error: error.to_owned() }
}

async fn a_webhook_is_set_changed_and_deleted(bench: &Bench) {
    let (store, shop) = (&bench.store, shop());
    refused(store.webhook_set(&shop, URL, b"one").await, ErrorCode::NotFound);
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    refused(store.webhook_fetch(&shop, 10).await, ErrorCode::NotFound);
    refused(store.webhook_test(&shop).await, ErrorCode::NotFound);
    refused(store.webhook_rotate(&shop, b"x", Time(1)).await, ErrorCode::NotFound);
    refused(store.webhook_delete(&shop).await, ErrorCode::NotFound);
    let (made, is_new) = store.acting("ada").webhook_set(&shop, URL, b"one").await.unwrap();
    assert!(is_new && made.creator == "ada");
    let (changed, is_new) = store.acting("bob").webhook_set(&shop, "https://example.com/other", b"two").await.unwrap();
    assert!(!is_new && changed.creator == "ada" && changed.create_time == made.create_time);
    store.webhook_test(&shop).await.unwrap();
    let next = due(bench).await.pop().unwrap();
    assert_eq!((next.url.as_str(), next.sealed), ("https://example.com/other", vec![b"one".to_vec()]));
    store.webhook_delete(&shop).await.unwrap();
    assert!(due(bench).await.is_empty());
    store.webhook_set(&shop, URL, b"three").await.unwrap();
    assert!(deliveries(bench).await.is_empty(), "what an earlier webhook was told is gone with it");
    store.namespace_delete(&shop).await.unwrap();
}

async fn an_old_secret_signs_for_a_while(bench: &Bench) {
    let shop = set(bench, "shop").await;
    bench.store.webhook_test(&shop).await.unwrap();
    let now = Time::now();
    bench.store.webhook_rotate(&shop, b"two", Time(now.0 + 1_000_000)).await.unwrap();
    let sealed = async |now| bench.store.webhook_due(now, 9).await.unwrap().pop().unwrap().sealed;
    assert_eq!(sealed(now.after(std::time::Duration::from_millis(500))).await, [b"two".to_vec(), b"one".to_vec()]);
    assert_eq!(sealed(LATER).await, [b"two".to_vec()]);
}

async fn an_event_is_due_until_it_is_over(bench: &Bench) {
    let shop = set(bench, "shop").await;
    let id = bench.store.webhook_test(&shop).await.unwrap();
    let next = due(bench).await.pop().unwrap();
    assert_eq!((&next.record.id, next.record.tries, next.record.kind.as_str()), (&id, 0, "dev.dunlin.test"));
    let soon = Time::now().0 + 1_000_000_000;
    bench.store.webhook_note(&next.record, &attempt(DeliveryState::Pending, soon)).await.unwrap();
    assert!(bench.store.webhook_due(Time::now(), 9).await.unwrap().is_empty(), "it is not its time");
    let again = due(bench).await.pop().unwrap();
    assert_eq!((again.record.tries, again.record.status, again.record.error.as_str()), (1, 500, "no"));
    assert_eq!((again.body, again.record.next), (next.body, Time(soon)), "it is sent as it was");
    bench.store.webhook_note(&next.record, &attempt(DeliveryState::Delivered, 0)).await.unwrap();
    assert!(due(bench).await.is_empty());
    // Somebody who comes late changes nothing.
    bench.store.webhook_note(&next.record, &attempt(DeliveryState::Pending, 1)).await.unwrap();
    let found = deliveries(bench).await.pop().unwrap();
    assert_eq!((found.state, found.tries, found.status), (DeliveryState::Delivered, 2, 204));
}

async fn namespaces_do_not_wait_for_each_other(bench: &Bench) {
    for id in ["shop", "bank"] {
        let namespace = set(bench, id).await;
        for _ in 0..3 {
            bench.store.webhook_test(&namespace).await.unwrap();
        }
    }
    let names: Vec<_> = due(bench).await.iter().map(|due| due.record.namespace.to_string()).collect();
    assert_eq!(names, ["shop", "bank"]);
    assert_eq!(bench.store.webhook_due(LATER, 1).await.unwrap().len(), 1);
}

async fn a_receiver_that_is_gone_is_told_nothing_more(bench: &Bench) {
    let (store, shop) = (&bench.store, set(bench, "shop").await);
    store.webhook_test(&shop).await.unwrap();
    store.webhook_gone(&shop, "https://example.com/another", Time(9)).await.unwrap();
    assert_eq!(due(bench).await.len(), 1, "it was another one");
    store.webhook_gone(&shop, URL, Time(9)).await.unwrap();
    assert!(due(bench).await.is_empty());
    assert_eq!(deliveries(bench).await[0].state, DeliveryState::GivenUp);
    refused(store.webhook_test(&shop).await, ErrorCode::FailedPrecondition);
    store.webhook_tell(&Event::test(&shop, "ada")).await.unwrap();
    assert!(due(bench).await.is_empty());
    let (set, _) = store.webhook_set(&shop, URL, b"x").await.unwrap();
    assert_eq!(set.gone, None);
    store.webhook_test(&shop).await.unwrap();
    assert_eq!(due(bench).await.len(), 1);
}

async fn what_waits_is_bounded_and_what_is_over_is_forgotten(bench: &Bench) {
    let (store, shop) = (&bench.store, set(bench, "shop").await);
    for _ in 0..205 {
        store.webhook_tell(&Event::test(&shop, "ada")).await.unwrap();
        told(bench).await;
    }
    assert!((200..=202).contains(&deliveries(bench).await.len()));
    for _ in 0..1_002 {
        store.webhook_tell(&Event::test(&shop, "ada")).await.unwrap();
    }
    refused(store.webhook_test(&shop).await, ErrorCode::FailedPrecondition);
    let shown = store.webhook_fetch(&shop, 10_000).await.unwrap();
    assert_eq!((shown.webhook.dropped, shown.pending, store.webhook_pending().await.unwrap()), (2, 1_000, 1_000));
    assert_eq!(shown.deliveries.iter().filter(|delivery| delivery.state == DeliveryState::Pending).count(), 1_000);
    store.webhook_forget(LATER).await.unwrap();
    assert_eq!(deliveries(bench).await.len(), 1_000, "what waits is not forgotten");
}

async fn what_happens_once_is_told_once(bench: &Bench) {
    let (store, shop) = (&bench.store, set(bench, "shop").await);
    let limit = BudgetLimit { amount: 20, period: QuotaPeriod::Day };
    let spent = BudgetUse { cpu: false, limit, used: 17, period: (0, 86_400), all: false, enforce: true };
    for used in [17, 18] {
        store.webhook_tell(&Event::budget(&shop, &BudgetUse { used, ..spent })).await.unwrap();
    }
    let first = told(bench).await;
    assert_eq!((first.len(), first[0].0.as_str(), &first[0].1["used"]), (1, "dev.dunlin.budget.warning", &17.into()));
    // Not even after it was delivered.
    store.webhook_tell(&Event::budget(&shop, &spent)).await.unwrap();
    store.webhook_tell(&Event::budget(&shop, &BudgetUse { all: true, ..spent })).await.unwrap();
    let second = told(bench).await;
    assert_eq!((second.len(), second[0].0.as_str()), (1, "dev.dunlin.budget.used_up"));
}

async fn rollbacks_are_told_with_their_change(bench: &Bench) {
    let (store, till) = (bench.store.acting("ada"), function("shop", "till"));
    deploy(bench, &till).await;
    deploy(bench, &till).await;
    store.webhook_set(&shop(), URL, b"one").await.unwrap();
    store.function_roll_back(&till, Some(number(1)), None, "it is slow").await.unwrap();
    store.function_roll_back(&till, Some(number(9)), None, "").await.unwrap_err();
    let told_of = told(bench).await;
    let expected = serde_json::json!({
        "automatic": false, "by": "ada", "reason": "it is slow",
        "functions": [{ "function": "till", "from": 2, "to": 1 }],
    });
    assert_eq!(told_of, [("dev.dunlin.rollback".to_owned(), expected)]);
    store.function_roll_back(&till, Some(number(2)), None, "").await.unwrap();
    store.acting("dunlin").rollout_quarantine(&till, number(2), "it trapped").await.unwrap();
    let kinds: Vec<_> = told(bench).await.into_iter().map(|(kind, data)| (kind, data["automatic"].clone())).collect();
    assert_eq!(
        kinds,
        [("dev.dunlin.rollback".to_owned(), false.into()), ("dev.dunlin.quarantine".to_owned(), true.into())]
    );
}

async fn failed_certificates_are_told_after_a_while(bench: &Bench) {
    let (store, _) = (&bench.store, set(bench, "shop").await);
    let name = "namespaces/shop/domains/a.example".parse().unwrap();
    let (tls, proof) = (DomainTls::Acme, ProofKind::Vouched);
    store
        .domain_create(&DomainRecord { name, creator: String::new(), create_time: Time(1), tls, proof })
        .await
        .unwrap();
    let domain = "a.example".parse().unwrap();
    for _ in 0..2 {
        store.certificate_fail(&domain, ("no", "do this"), Time(50)).await.unwrap();
    }
    assert!(due(bench).await.is_empty());
    for _ in 0..3 {
        store.certificate_fail(&domain, ("no", "do this"), Time(50)).await.unwrap();
    }
    let told_of = told(bench).await;
    let expected = serde_json::json!({ "domain": "a.example", "error": "no", "hint": "do this", "expire_time": null });
    assert_eq!(told_of, [("dev.dunlin.certificate.failed".to_owned(), expected)]);
    store.certificate_fail(&"gone.example".parse().unwrap(), ("no", ""), Time(50)).await.unwrap();
}

/// A domain of the shop's whose certificate ends in a minute and can't be renewed.
async fn ending_certificate(bench: &Bench) {
    let name = "namespaces/shop/domains/a.example".parse().unwrap();
    let (tls, proof) = (DomainTls::Acme, ProofKind::Vouched);
    let record = DomainRecord { name, creator: String::new(), create_time: Time(1), tls, proof };
    bench.store.domain_create(&record).await.unwrap();
    let (domain, now) = ("a.example".parse().unwrap(), Time::now());
    let issued = Issued {
        chain: "chain".into(),
        sealed_key: b"key".to_vec(),
        issuer: "issuer".into(),
        start: Time(0),
        expire: now.after(std::time::Duration::from_secs(60)),
    };
    bench.store.certificate_issue(&domain, &issued, now).await.unwrap();
    for _ in 0..3 {
        bench.store.certificate_fail(&domain, ("no", "do this"), now).await.unwrap();
    }
}

async fn what_stands_is_told_to_whoever_does_not_know(bench: &Bench) {
    let (store, shop, other) = (&bench.store, shop(), "https://example.com/other");
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    ending_certificate(bench).await;
    let kinds = async || told(bench).await.into_iter().map(|(kind, _)| kind).collect::<std::collections::BTreeSet<_>>();
    let both: std::collections::BTreeSet<_> =
        ["dev.dunlin.certificate.expiring".to_owned(), "dev.dunlin.certificate.failed".to_owned()].into();
    store.webhook_set(&shop, URL, b"one").await.unwrap();
    assert_eq!(kinds().await, both, "it was there before the webhook");
    store.webhook_set(&shop, URL, b"one").await.unwrap();
    assert!(kinds().await.is_empty(), "its receiver knows");
    store.webhook_set(&shop, other, b"one").await.unwrap();
    assert_eq!(due(bench).await.len(), 1, "another one does not");
    store.webhook_set(&shop, URL, b"one").await.unwrap();
    assert_eq!(kinds().await, both, "what waits is told once, wherever it goes");
    store.webhook_set(&shop, other, b"one").await.unwrap();
    store.webhook_gone(&shop, other, Time(9)).await.unwrap();
    assert!(kinds().await.is_empty());
    store.webhook_set(&shop, other, b"one").await.unwrap();
    assert_eq!(kinds().await, both, "what was given up is told once more");
}

async fn the_last_failure_is_known_until_it_is_made_good(bench: &Bench) {
    let (store, shop) = (&bench.store, set(bench, "shop").await);
    let status = async || store.webhook_fetch(&shop, 1).await.unwrap();
    let failure = async || status().await.last_failure.map(|failure| failure.id);
    let (first, second) = (store.webhook_test(&shop).await.unwrap(), store.webhook_test(&shop).await.unwrap());
    assert_eq!((status().await.pending, failure().await), (2, None));
    let note = async |id: &str, state: DeliveryState, after: u64| {
        let delivery = deliveries(bench).await.into_iter().find(|delivery| delivery.id == id).unwrap();
        let time = Time::now().after(std::time::Duration::from_secs(after));
        store.webhook_note(&delivery, &Attempt { time, ..attempt(state, 0) }).await.unwrap();
    };
    note(&first, DeliveryState::Pending, 1).await;
    note(&second, DeliveryState::Pending, 2).await;
    assert_eq!((failure().await, status().await.deliveries.len()), (Some(second.clone()), 1));
    note(&second, DeliveryState::Delivered, 3).await;
    assert_eq!((failure().await, status().await.pending), (Some(first.clone()), 1));
    note(&first, DeliveryState::GivenUp, 4).await;
    assert_eq!((failure().await, status().await.pending), (Some(first), 0));
}
