//! Join tokens are used up once, whatever happens at the same time, and names belong to one key.

use dunlin_proto::trust::{Identity, Role};

use super::*;
use crate::tokens::JoinGrant;

conformance!(
    t47_a_join_token_is_used_up_by_one_key,
    t47_of_many_at_once_one_uses_the_token,
    t47_a_name_has_one_key,
    used_tokens_are_forgotten_once_they_have_expired
);

fn grant(id: &str, name: Option<&str>) -> JoinGrant {
    JoinGrant::new(id, Role::Worker, name, Time(1_000))
}

fn worker(id: &str) -> Identity {
    Identity::new(Role::Worker, id).unwrap()
}

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

async fn t47_a_join_token_is_used_up_by_one_key(bench: &Bench) {
    let (store, once) = (&bench.store, grant("one", None));
    store.member_join(&once, &worker("w-1"), key("a"), Time(1)).await.unwrap();
    // The answer was lost, and it asks again.
    store.member_join(&once, &worker("w-1"), key("a"), Time(2)).await.unwrap();
    for (id, by) in [("w-1", "b"), ("w-2", "a"), ("w-2", "b")] {
        refused(store.member_join(&once, &worker(id), key(by), Time(3)).await, ErrorCode::Unauthenticated);
    }
    assert_eq!(store.member_list().await.unwrap(), [(worker("w-1"), key("a"))].into());
}

async fn t47_of_many_at_once_one_uses_the_token(bench: &Bench) {
    let once = grant("one", None);
    let tries = (0..6).map(|number| {
        let (once, store) = (once.clone(), bench.store.clone());
        async move { store.member_join(&once, &worker(&format!("w-{number}")), key(&number.to_string()), Time(1)).await }
    });
    let done = futures::future::join_all(tries).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
    assert_eq!(bench.store.member_list().await.unwrap().len(), 1);
}

async fn t47_a_name_has_one_key(bench: &Bench) {
    let store = &bench.store;
    store.member_join(&grant("one", None), &worker("w-1"), key("a"), Time(1)).await.unwrap();
    let second = grant("two", None);
    refused(store.member_join(&second, &worker("w-1"), key("b"), Time(2)).await, ErrorCode::AlreadyExists);
    // It has not used up its token by that.
    store.member_join(&second, &worker("w-2"), key("b"), Time(3)).await.unwrap();
    store.member_join(&grant("three", Some("w-1")), &worker("w-1"), key("c"), Time(4)).await.unwrap();
    assert_eq!(store.member_list().await.unwrap()[&worker("w-1")], key("c"));
}

async fn used_tokens_are_forgotten_once_they_have_expired(bench: &Bench) {
    let store = &bench.store;
    store.member_join(&grant("one", None), &worker("w-1"), key("a"), Time(1)).await.unwrap();
    assert_eq!(store.join_token_expire(Time(1_000)).await.unwrap(), 0);
    assert_eq!(store.join_token_expire(Time(1_001)).await.unwrap(), 1);
}
