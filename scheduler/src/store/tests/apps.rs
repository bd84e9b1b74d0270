//! Functions that move together: all of them in one transaction, or none.

use std::{sync::Arc, time::Duration};

use dunlin_proto::{
    ErrorCode,
    ids::{FunctionUid, VersionKey},
    outcome::bucket,
};
use tokio::time::Instant;

use super::{Bench, conformance, deploy, function, number, refused};
use crate::{
    catalog::CatalogKeeper,
    model::{RolloutRecord, RolloutState, Share},
    rollout::{Counts, Rollouts, Tally},
    store::{AliasChange, Move, NewRollout, Target},
};

conformance!(
    functions_move_together_in_one_release_each_step,
    all_newer_versions_move_together,
    what_can_not_move_together_is_refused_whole,
    one_that_is_divided_by_hand_ends_it_for_all,
    one_that_is_deleted_drops_out,
    one_that_is_worse_takes_all_back,
    one_that_traps_takes_with_it_what_was_released_with_it,
);

fn new(targets: &[(&str, Option<u32>)]) -> NewRollout {
    let target = |(name, version): &(&str, Option<u32>)| -> Target { (function("shop", name), version.map(number)) };
    NewRollout {
        namespace: "shop".parse().unwrap(),
        targets: targets.iter().map(target).collect(),
        steps: vec![10, 50],
        step_time: Duration::from_secs(60),
        routes: None,
        step_calls: 500,
        creator: "zoe".to_owned(),
    }
}

/// Two versions of each, of which the first has all calls.
async fn two_versions(bench: &Bench, names: &[&str]) {
    for name in names {
        let name = function("shop", name);
        deploy(bench, &name).await;
        deploy(bench, &name).await;
        bench.store.function_roll_back(&name, Some(number(1)), None, "").await.unwrap();
    }
}

async fn traffic(bench: &Bench, name: &str) -> Vec<(u32, u32)> {
    let function = bench.store.function_fetch(&function("shop", name)).await.unwrap();
    function.traffic.iter().map(|Share(version, percent)| (version.get(), *percent)).collect()
}

async fn divide(bench: &Bench, name: &str, shares: &[(u32, u32)]) {
    let live = function("shop", name).alias("live".parse().unwrap());
    let shares = shares.iter().map(|(version, percent)| Share(number(*version), *percent)).collect();
    bench.store.alias_set(&live, "", &AliasChange { shares, sticky: None }).await.unwrap();
}

async fn last(bench: &Bench, name: &str) -> RolloutRecord {
    bench.store.rollout_fetch(&function("shop", name)).await.unwrap().unwrap()
}

async fn releases(bench: &Bench) -> Vec<String> {
    let found = bench.store.release_list(&"shop".parse().unwrap(), i64::MAX, 100).await.unwrap();
    found.into_iter().map(|release| release.cause).collect()
}

async fn functions_move_together_in_one_release_each_step(bench: &Bench) {
    two_versions(bench, &["till", "mail"]).await;
    let before = releases(bench).await.len();
    let begun = bench.store.rollout_start(&new(&[("till", None), ("mail", Some(2))])).await.unwrap();
    let names: Vec<_> = begun.parts.iter().map(|part| part.function.function.as_str()).collect();
    assert_eq!(names, ["mail", "till"]);
    assert_eq!((last(bench, "till").await, last(bench, "mail").await), (begun.clone(), begun.clone()));
    assert_eq!(bench.store.rollout_running().await.unwrap(), std::slice::from_ref(&begun));
    let seeds = async || {
        let seed = async |name| bench.store.function_fetch(&function("shop", name)).await.unwrap().seed;
        (seed("till").await, seed("mail").await)
    };
    assert_eq!(seeds().await, (Some(begun.id), Some(begun.id)), "callers have the same places");
    let second = bench.store.rollout_move(&begun, &Move::Advance).await.unwrap().unwrap();
    assert_eq!(seeds().await, (Some(begun.id), Some(begun.id)), "a step moves nobody back");
    for name in ["till", "mail"] {
        assert_eq!(traffic(bench, name).await, [(1, 50), (2, 50)]);
    }
    let done = bench.store.rollout_move(&second, &Move::Advance).await.unwrap().unwrap();
    assert_eq!(
        (done.state, done.reason.as_str()),
        (RolloutState::Promoted, "the new versions were no worse in any step")
    );
    let made = releases(bench).await;
    assert_eq!(made.len(), before + 3, "{made:?}");
    assert_eq!(
        made[..3],
        ["promote mail@2, till@2", "roll out mail@2, till@2 to 50%", "roll out mail@2, till@2 to 10%"]
    );
    divide(bench, "till", &[(1, 50), (2, 50)]).await;
    assert_eq!(seeds().await.0, None, "a division by hand is another one");
}

async fn all_newer_versions_move_together(bench: &Bench) {
    refused(
        bench.store.rollout_start(&NewRollout { namespace: "none".parse().unwrap(), ..new(&[]) }).await,
        ErrorCode::NotFound,
    );
    two_versions(bench, &["till", "mail"]).await;
    deploy(bench, &function("shop", "quiet")).await;
    let begun = bench.store.rollout_start(&new(&[])).await.unwrap();
    assert_eq!(begun.parts.len(), 2);
    refused(bench.store.rollout_start(&new(&[])).await, ErrorCode::FailedPrecondition);
    bench.store.rollout_move(&begun, &Move::Promote(RolloutState::Stopped, "zoe ended it".into())).await.unwrap();
    assert_eq!((traffic(bench, "till").await, traffic(bench, "mail").await), (vec![(2, 100)], vec![(2, 100)]));
    let message = refused(bench.store.rollout_start(&new(&[])).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("no function"), "{message}");
}

async fn what_can_not_move_together_is_refused_whole(bench: &Bench) {
    two_versions(bench, &["till", "mail", "old"]).await;
    bench.store.function_roll_back(&function("shop", "old"), Some(number(2)), None, "").await.unwrap();
    for (other, code) in [
        (("none", None), ErrorCode::NotFound),
        (("mail", Some(7)), ErrorCode::NotFound),
        (("mail", Some(1)), ErrorCode::FailedPrecondition),
        (("old", Some(1)), ErrorCode::FailedPrecondition),
    ] {
        refused(bench.store.rollout_start(&new(&[("till", None), other])).await, code);
        assert_eq!(traffic(bench, "till").await, [(1, 100)], "nothing is half-applied: {other:?}");
    }
    divide(bench, "mail", &[(1, 90), (2, 10)]).await;
    refused(bench.store.rollout_start(&new(&[("till", None), ("mail", None)])).await, ErrorCode::FailedPrecondition);
    assert!(bench.store.rollout_running().await.unwrap().is_empty());
    // One alone may move to an older version.
    bench.store.rollout_start(&new(&[("old", Some(1))])).await.unwrap();
}

async fn one_that_is_divided_by_hand_ends_it_for_all(bench: &Bench) {
    two_versions(bench, &["till", "mail"]).await;
    let begun = bench.store.rollout_start(&new(&[("till", None), ("mail", None)])).await.unwrap();
    divide(bench, "till", &[(1, 30), (2, 70)]).await;
    let over = bench.store.rollout_move(&begun, &Move::Advance).await.unwrap().unwrap();
    assert_eq!((over.state, over.step), (RolloutState::Superseded, 0));
    assert_eq!(over.reason, "the calls of till were divided in another way");
    assert_eq!((traffic(bench, "till").await, traffic(bench, "mail").await), (vec![(1, 30), (2, 70)], vec![(1, 100)]));
    assert_eq!(releases(bench).await[0], "roll back mail@1");
    assert_eq!(bench.store.rollout_move(&begun, &Move::Advance).await.unwrap(), None, "it is over");
}

async fn one_that_is_deleted_drops_out(bench: &Bench) {
    two_versions(bench, &["till", "mail"]).await;
    let begun = bench.store.rollout_start(&new(&[("till", None), ("mail", None)])).await.unwrap();
    bench.store.function_delete(&function("shop", "mail"), "").await.unwrap();
    let second = bench.store.rollout_move(&begun, &Move::Advance).await.unwrap().unwrap();
    assert_eq!((second.parts.len(), traffic(bench, "till").await), (1, vec![(1, 50), (2, 50)]));
    bench.store.function_delete(&function("shop", "till"), "").await.unwrap();
    assert_eq!(bench.store.rollout_move(&second, &Move::Advance).await.unwrap(), None);
    assert!(bench.store.rollout_running().await.unwrap().is_empty());
    bench.store.namespace_delete(&"shop".parse().unwrap()).await.unwrap();
}

/// Judges what it is told of.
struct Judge {
    rollouts: Rollouts,
    catalog: Arc<CatalogKeeper>,
}

impl Judge {
    async fn new(bench: &Bench) -> Self {
        let catalog = Arc::new(CatalogKeeper::load(bench.store.clone()).await.unwrap());
        Self { rollouts: Rollouts::new(&bench.store, catalog.clone()), catalog }
    }

    fn report(&self, uid: FunctionUid, version: u32, calls: u64, failures: u64) {
        let durations = [(bucket(Duration::from_millis(3)), calls)].into();
        let tally = Tally { calls, failures, traps: failures, durations };
        let version = VersionKey { function: uid, number: number(version) };
        let counts = Counts { version, tally, trapped: (0..failures.min(3)).collect() };
        self.rollouts.report(&("g".parse().unwrap(), 1), vec![counts]);
    }

    async fn look(&self, now: Instant) {
        self.catalog.refresh().await;
        self.rollouts.look(now).await.unwrap();
    }
}

async fn uid(bench: &Bench, name: &str) -> FunctionUid {
    bench.store.function_fetch(&function("shop", name)).await.unwrap().uid
}

async fn one_that_is_worse_takes_all_back(bench: &Bench) {
    two_versions(bench, &["till", "mail"]).await;
    let (judge, begin) = (Judge::new(bench).await, Instant::now());
    let (till, mail) = (uid(bench, "till").await, uid(bench, "mail").await);
    let begun = bench.store.rollout_start(&new(&[])).await.unwrap();
    judge.look(begin).await;
    assert_eq!(judge.rollouts.watched().borrow().len(), 4, "all versions are counted");
    for (uid, version) in [(till, 1), (till, 2), (mail, 1), (mail, 2)] {
        judge.report(uid, version, 0, 0);
        judge.report(uid, version, if version == 1 { 5_000 } else { 250 }, 0);
    }
    judge.look(begin + Duration::from_secs(59)).await;
    assert_eq!(judge.rollouts.progress(&begun).iter().map(|(_, new)| new.calls).sum::<u64>(), 500);
    judge.look(begin + Duration::from_secs(61)).await;
    assert_eq!(
        (traffic(bench, "till").await, traffic(bench, "mail").await),
        (vec![(1, 50), (2, 50)], vec![(1, 50), (2, 50)])
    );
    judge.look(begin + Duration::from_secs(61)).await;
    judge.report(till, 2, 5_000, 0);
    judge.report(mail, 1, 5_100, 0);
    judge.report(mail, 2, 350, 60);
    judge.look(begin + Duration::from_secs(62)).await;
    let back = last(bench, "till").await;
    assert_eq!((back.state, &back), (RolloutState::Back, &last(bench, "mail").await));
    assert!(back.reason.starts_with("mail: 60 of 100 calls of the new version failed"), "{}", back.reason);
    assert_eq!((traffic(bench, "till").await, traffic(bench, "mail").await), (vec![(1, 100)], vec![(1, 100)]));
    assert_eq!(releases(bench).await[0], "take mail@2, till@2 back");
}

async fn one_that_traps_takes_with_it_what_was_released_with_it(bench: &Bench) {
    two_versions(bench, &["till", "mail", "news"]).await;
    let (judge, begin) = (Judge::new(bench).await, Instant::now());
    judge.look(begin).await;
    let begun = bench.store.rollout_start(&new(&[])).await.unwrap();
    judge.look(begin).await;
    bench.store.rollout_move(&begun, &Move::Promote(RolloutState::Promoted, "good".into())).await.unwrap();
    // What somebody has changed since is left alone.
    divide(bench, "news", &[(1, 50), (2, 50)]).await;
    judge.look(begin + Duration::from_secs(1)).await;
    let till = uid(bench, "till").await;
    judge.report(till, 2, 0, 0);
    judge.look(begin + Duration::from_secs(2)).await;
    judge.report(till, 2, 900, 900);
    judge.look(begin + Duration::from_secs(3)).await;
    let taken = last(bench, "mail").await;
    assert_eq!((taken.state, taken.parts.len()), (RolloutState::Quarantined, 2));
    assert!(taken.reason.starts_with("till: "), "{}", taken.reason);
    assert_eq!((traffic(bench, "till").await, traffic(bench, "mail").await), (vec![(1, 100)], vec![(1, 100)]));
    assert_eq!(traffic(bench, "news").await, [(1, 50), (2, 50)]);
    assert_eq!(last(bench, "news").await.state, RolloutState::Promoted);
}
