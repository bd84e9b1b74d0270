//! Idempotency keys: one change a key whoever tries, one answer for a day, and no change of an attempt that has lost its key.

use std::time::Duration;

use dunlin_proto::{
    ErrorCode,
    idempotency::{Hold, KeyId},
    ids::{Digest, RequestId},
};

use super::{Bench, conformance, namespace, refused};
use crate::{
    error::Error,
    model::Time,
    store::{Begun, NamespaceChange, Store},
};

conformance!(
    a_key_has_the_answer_of_its_first_attempt_for_a_day,
    of_many_attempts_at_once_one_holds_the_key,
    an_attempt_that_changed_nothing_leaves_its_key_free,
    a_restart_frees_the_keys_of_attempts_that_changed_nothing,
    what_was_changed_is_not_changed_again_though_its_answer_is_lost,
    an_attempt_that_lost_its_key_changes_nothing,
    the_keys_of_a_token_are_bounded,
);

fn hold(key: &str) -> Hold {
    hold_of("me", key)
}

fn hold_of(who: &str, key: &str) -> Hold {
    let id = KeyId { scope: Digest::of(who.as_bytes()), key: Digest::of(key.as_bytes()) };
    Hold { id, attempt: RequestId::new() }
}

/// Begins an attempt at a request of the namespace `shop`.
async fn begin(store: &Store, hold: &Hold, request: &str, now: Time) -> Result<Begun, Error> {
    store.idempotency_begin(hold, &Digest::of(request.as_bytes()), "shop", now).await
}

async fn make(store: &Store, hold: &Hold, name: &str) -> Result<(), Error> {
    store.clone().holding(Some(*hold)).namespace_create(&namespace(name), None).await.map(drop)
}

const MINUTE: Duration = Duration::from_secs(60);

async fn a_key_has_the_answer_of_its_first_attempt_for_a_day(bench: &Bench) {
    let (store, now, first) = (&bench.store, Time::now(), hold("a"));
    assert_eq!(begin(store, &first, "make", now).await.unwrap(), Begun::Held);
    refused(begin(store, &hold("a"), "make", now).await, ErrorCode::FailedPrecondition);
    refused(begin(store, &hold("a"), "other", now).await, ErrorCode::KeyReused);
    make(store, &first, "shop").await.unwrap();
    store.idempotency_answer(&first, "sealed").await.unwrap();
    let answered = Begun::Answered("sealed".to_owned());
    assert_eq!(begin(store, &hold("a"), "make", now).await.unwrap(), answered);
    assert_eq!(begin(store, &hold("a"), "make", now.after(MINUTE * 1_439)).await.unwrap(), answered);
    refused(begin(store, &hold("a"), "other", now.after(MINUTE * 2)).await, ErrorCode::KeyReused);
    assert_eq!(begin(store, &hold_of("you", "a"), "make", now).await.unwrap(), Begun::Held, "it is another's key");
    assert_eq!(store.idempotency_expire(now).await.unwrap(), 0);
    let tomorrow = now.after(MINUTE * 1_441);
    assert_eq!(begin(store, &hold("a"), "other", tomorrow).await.unwrap(), Begun::Held);
    assert_eq!(store.idempotency_expire(tomorrow).await.unwrap(), 1);
}

async fn of_many_attempts_at_once_one_holds_the_key(bench: &Bench) {
    let (store, now) = (&bench.store, Time::now());
    let attempts = (0..8).map(|_| async move {
        let hold = hold("a");
        let begun = begin(store, &hold, "make", now).await;
        match begun {
            Ok(Begun::Held) => make(store, &hold, "shop").await.map(|()| true),
            Ok(Begun::Answered(_)) => unreachable!("nobody has answered"),
            Err(error) => {
                assert_eq!(error.into_api().code, ErrorCode::FailedPrecondition);
                Ok(false)
            }
        }
    });
    let done = futures::future::join_all(attempts).await;
    assert_eq!(done.into_iter().filter(|done| *done.as_ref().unwrap()).count(), 1);
}

async fn an_attempt_that_changed_nothing_leaves_its_key_free(bench: &Bench) {
    let (store, now, first) = (&bench.store, Time::now(), hold("a"));
    begin(store, &first, "make", now).await.unwrap();
    store.idempotency_release(&first).await.unwrap();
    let second = hold("a");
    assert_eq!(begin(store, &second, "make", now).await.unwrap(), Begun::Held);
    // Nothing is heard of it any more.
    refused(begin(store, &hold("a"), "make", now.after(MINUTE / 2)).await, ErrorCode::FailedPrecondition);
    assert_eq!(begin(store, &hold("a"), "make", now.after(MINUTE * 2)).await.unwrap(), Begun::Held);
}

async fn a_restart_frees_the_keys_of_attempts_that_changed_nothing(bench: &Bench) {
    let (store, now, first, changed) = (&bench.store, Time::now(), hold("a"), hold("b"));
    begin(store, &first, "make", now).await.unwrap();
    begin(store, &changed, "make", now).await.unwrap();
    make(store, &changed, "bank").await.unwrap();
    store.epoch_begin().await.unwrap();
    // Its answer may be on its way.
    refused(begin(store, &hold("b"), "make", now).await, ErrorCode::FailedPrecondition);
    let second = hold("a");
    assert_eq!(begin(store, &second, "make", now).await.unwrap(), Begun::Held);
    refused(make(store, &first, "shop").await, ErrorCode::FailedPrecondition);
    make(store, &second, "shop").await.unwrap();
}

async fn what_was_changed_is_not_changed_again_though_its_answer_is_lost(bench: &Bench) {
    let (store, now, first) = (&bench.store, Time::now(), hold("a"));
    begin(store, &first, "make", now).await.unwrap();
    make(store, &first, "shop").await.unwrap();
    // As after a kill -9 between the commit and the answer.
    let message = refused(begin(store, &hold("a"), "make", now.after(MINUTE * 2)).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("has been made"), "{message}");
    // And as where the gateway gave up before the scheduler was done.
    let second = hold("b");
    begin(store, &second, "make", now).await.unwrap();
    make(store, &second, "bank").await.unwrap();
    store.idempotency_release(&second).await.unwrap();
    let message = refused(begin(store, &hold("b"), "make", now).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("has been made"), "{message}");
}

async fn an_attempt_that_lost_its_key_changes_nothing(bench: &Bench) {
    let (store, now, first) = (&bench.store, Time::now(), hold("a"));
    begin(store, &first, "make", now).await.unwrap();
    let second = hold("a");
    begin(store, &second, "make", now.after(MINUTE * 2)).await.unwrap();
    refused(make(store, &first, "shop").await, ErrorCode::FailedPrecondition);
    refused(store.namespace_fetch(&"shop".parse().unwrap()).await, ErrorCode::NotFound);
    make(store, &second, "shop").await.unwrap();
    store.idempotency_answer(&first, "of the first").await.unwrap();
    store.idempotency_answer(&second, "of the second").await.unwrap();
    assert_eq!(begin(store, &hold("a"), "make", now).await.unwrap(), Begun::Answered("of the second".to_owned()));
    // What turns out to be no change is answered all the same.
    let third = hold("c");
    begin(store, &third, "nothing", now).await.unwrap();
    let keyed = store.clone().holding(Some(third));
    keyed.namespace_update(&"shop".parse().unwrap(), &NamespaceChange::default()).await.unwrap();
    store.idempotency_answer(&third, "same").await.unwrap();
    assert_eq!(begin(store, &hold("c"), "nothing", now).await.unwrap(), Begun::Answered("same".to_owned()));
}

async fn the_keys_of_a_token_are_bounded(bench: &Bench) {
    let (store, now) = (&bench.store, Time::now());
    for key in 0..1_000 {
        begin(store, &hold(&key.to_string()), "make", now).await.unwrap();
    }
    refused(begin(store, &hold("one more"), "make", now).await, ErrorCode::TooManyRequests);
    begin(store, &hold_of("you", "one more"), "make", now).await.unwrap();
}
