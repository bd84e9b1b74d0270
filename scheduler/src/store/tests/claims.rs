//! Domains that namespaces ask for: several may ask, one gets it, and the others hear of it.

use dunlin_proto::ErrorCode;

use super::{Bench, config_version, conformance, namespace, refused};
use crate::model::{ClaimRecord, DomainTls, Held, ProofKind, Time};

conformance!(
    the_first_that_proves_a_domain_has_it,
    of_namespaces_that_prove_at_once_one_gets_the_domain,
    a_claim_is_looked_for_until_it_is_given_up_and_begins_anew_when_asked_again,
    what_lies_below_a_domain_needs_no_proof_and_an_operator_vouches,
    claims_are_bounded_and_go_with_their_namespace,
);

fn claim(namespace: &str, domain: &str) -> ClaimRecord {
    ClaimRecord {
        name: format!("namespaces/{namespace}/domains/{domain}").parse().unwrap(),
        creator: "zoe".into(),
        create_time: Time(1),
        tls: DomainTls::Acme,
        attempts: 0,
        error: String::new(),
        hint: String::new(),
        attempt: Some(Time(1)),
        expire: Time(100),
    }
}

async fn namespaces(bench: &Bench, names: &[&str]) {
    for name in names {
        bench.store.namespace_create(&namespace(name), None).await.unwrap();
    }
}

/// The claims that are due, with whether they are in vain.
async fn due(bench: &Bench, now: i64) -> Vec<(String, bool)> {
    let found = bench.store.claims_due(Time(now), 99).await.unwrap().due;
    let named = |(claim, taken): (ClaimRecord, bool)| (claim.name.to_string(), taken);
    let mut named: Vec<_> = found.into_iter().map(named).collect();
    named.sort();
    named
}

async fn the_first_that_proves_a_domain_has_it(bench: &Bench) {
    let store = &bench.store;
    refused(store.domain_claim(&claim("shop", "a.example")).await, ErrorCode::NotFound);
    namespaces(bench, &["shop", "bank", "till"]).await;
    let before = config_version(bench).await;
    let (shop, bank, till) = (claim("shop", "a.example"), claim("bank", "a.example"), claim("till", "x.a.example"));
    for wanted in [&shop, &bank, &till] {
        assert_eq!(store.domain_claim(wanted).await.unwrap(), Held::Claimed(wanted.clone()));
    }
    assert_eq!(config_version(bench).await, before, "gateways have nothing to learn");
    assert!(store.certificate_wanted().await.unwrap().is_empty(), "no certificate is asked for");
    for wanted in [&shop, &bank, &till] {
        store.claim_fail(wanted, ("none", ""), Some(Time(50))).await.unwrap();
    }
    let given = store.domain_prove(&bank.name, Time(9)).await.unwrap();
    assert_eq!((given.proof, given.create_time, config_version(bench).await), (ProofKind::Dns, Time(9), before + 1));
    assert_eq!(store.domain_list(&bank.name.namespace, "", 9).await.unwrap(), [given]);
    assert!(store.claim_list(&bank.name.namespace, "", 9).await.unwrap().is_empty());
    // The others hear of it at once, and can neither prove it any more nor ask for it anew.
    assert_eq!(due(bench, 9).await, [(shop.name.to_string(), true), (till.name.to_string(), true)]);
    for wanted in [&shop, &till] {
        refused(store.domain_prove(&wanted.name, Time(9)).await, ErrorCode::AlreadyExists);
        let message = refused(store.domain_claim(wanted).await, ErrorCode::AlreadyExists);
        assert!(!message.contains("bank"), "{message}");
    }
    refused(store.domain_prove(&bank.name, Time(9)).await, ErrorCode::NotFound);
    // Given back, it is free again.
    store.domain_delete(&bank.name).await.unwrap();
    assert_eq!(due(bench, Time::now().0).await, [(shop.name.to_string(), false), (till.name.to_string(), false)]);
    store.domain_prove(&shop.name, Time(10)).await.unwrap();
}

async fn of_namespaces_that_prove_at_once_one_gets_the_domain(bench: &Bench) {
    let names = ["one", "two", "three", "four"];
    namespaces(bench, &names).await;
    let wanted: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(at, name)| claim(name, if at % 2 == 0 { "a.example" } else { "x.a.example" }))
        .collect();
    for wanted in &wanted {
        bench.store.domain_claim(wanted).await.unwrap();
    }
    let proved = futures::future::join_all(wanted.iter().map(|it| bench.store.domain_prove(&it.name, Time(5)))).await;
    assert_eq!(proved.iter().filter(|proved| proved.is_ok()).count(), 1, "{proved:?}");
}

async fn a_claim_is_looked_for_until_it_is_given_up_and_begins_anew_when_asked_again(bench: &Bench) {
    namespaces(bench, &["shop"]).await;
    let (store, wanted) = (&bench.store, claim("shop", "a.example"));
    store.domain_claim(&wanted).await.unwrap();
    assert!(due(bench, 0).await.is_empty());
    assert_eq!(store.claims_due(Time(0), 9).await.unwrap().next, Some(Time(1)));
    assert_eq!(due(bench, 1).await.len(), 1);
    store.claim_fail(&wanted, ("none", "make it"), Some(Time(20))).await.unwrap();
    let list = async || store.claim_list(&wanted.name.namespace, "", 9).await.unwrap();
    let failed = ClaimRecord {
        attempts: 1,
        error: "none".into(),
        hint: "make it".into(),
        attempt: Some(Time(20)),
        ..wanted.clone()
    };
    assert_eq!((list().await, due(bench, 19).await.len()), (vec![failed], 0));
    store.claim_fail(&wanted, ("none", ""), None).await.unwrap();
    assert_eq!((list().await[0].attempt, due(bench, i64::MAX - 1).await.len()), (None, 0), "given up");
    let again = ClaimRecord { create_time: Time(200), attempt: Some(Time(200)), expire: Time(300), ..wanted.clone() };
    store.domain_claim(&again).await.unwrap();
    // What a look says that began before that is nothing of it.
    store.claim_fail(&wanted, ("late", ""), None).await.unwrap();
    assert_eq!(list().await, [again]);
    store.domain_delete(&wanted.name).await.unwrap();
    refused(store.domain_delete(&wanted.name).await, ErrorCode::NotFound);
}

async fn what_lies_below_a_domain_needs_no_proof_and_an_operator_vouches(bench: &Bench) {
    namespaces(bench, &["shop", "bank"]).await;
    let (store, wanted) = (&bench.store, claim("shop", "a.example"));
    store.domain_claim(&wanted).await.unwrap();
    let vouched = wanted.given(ProofKind::Vouched, Time(2));
    store.domain_create(&vouched).await.unwrap();
    assert!(store.claim_list(&wanted.name.namespace, "", 9).await.unwrap().is_empty());
    let below = claim("shop", "x.a.example");
    assert_eq!(store.domain_claim(&below).await.unwrap(), Held::Owned(below.given(ProofKind::Parent, Time(1))));
    // What it is a part of is not proved by that.
    assert!(matches!(store.domain_claim(&claim("shop", "example.org")).await.unwrap(), Held::Claimed(_)));
    refused(store.domain_claim(&claim("bank", "y.a.example")).await, ErrorCode::AlreadyExists);
}

async fn claims_are_bounded_and_go_with_their_namespace(bench: &Bench) {
    namespaces(bench, &["shop"]).await;
    for number in 0..100 {
        bench.store.domain_claim(&claim("shop", &format!("d{number}.example"))).await.unwrap();
    }
    refused(bench.store.domain_claim(&claim("shop", "more.example")).await, ErrorCode::FailedPrecondition);
    // One that is there may be asked for again.
    bench.store.domain_claim(&claim("shop", "d1.example")).await.unwrap();
    bench.store.namespace_delete(&"shop".parse().unwrap()).await.unwrap();
    assert!(due(bench, 1).await.is_empty());
}
