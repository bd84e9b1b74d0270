//! Rollouts move together with traffic, or not at all.

use std::{sync::Arc, time::Duration};

use dunlin_proto::{ErrorCode, ids::VersionKey, outcome::bucket};
use tokio::time::Instant;

use super::{Bench, conformance, deploy, function, number, refused};
use crate::{
    catalog::CatalogKeeper,
    model::{RolloutRecord, RolloutState, Share},
    rollout::{Counts, Rollouts, Tally},
    store::{AliasChange, Move, NewRollout},
};

conformance!(
    a_rollout_goes_step_by_step,
    a_rollout_ends_where_somebody_divides_the_calls_otherwise,
    a_rollout_needs_two_versions_and_one_that_has_all_calls,
    a_version_is_taken_out_in_favour_of_the_one_before_it,
    a_database_that_fails_is_no_answer_about_versions,
    what_is_worse_goes_back_and_what_is_not_goes_on,
    a_fresh_version_that_traps_is_quarantined,
    a_fresh_version_is_noticed_between_two_looks,
);

fn new(version: Option<u32>) -> NewRollout {
    NewRollout {
        namespace: "shop".parse().unwrap(),
        targets: vec![(function("shop", "till"), version.map(number))],
        steps: vec![10, 50],
        step_time: Duration::from_secs(60),
        routes: None,
        step_calls: 500,
        creator: "zoe".to_owned(),
    }
}

/// Versions 1 and 2, of which the first has all calls.
async fn two_versions(bench: &Bench) {
    let till = function("shop", "till");
    deploy(bench, &till).await;
    deploy(bench, &till).await;
    bench.store.function_roll_back(&till, Some(number(1)), None, "").await.unwrap();
}

async fn traffic(bench: &Bench) -> Vec<(u32, u32)> {
    let function = bench.store.function_fetch(&function("shop", "till")).await.unwrap();
    function.traffic.iter().map(|Share(version, percent)| (version.get(), *percent)).collect()
}

async fn running(bench: &Bench) -> Option<RolloutRecord> {
    bench.store.rollout_running().await.unwrap().pop()
}

async fn last(bench: &Bench) -> RolloutRecord {
    bench.store.rollout_fetch(&function("shop", "till")).await.unwrap().unwrap()
}

async fn a_rollout_goes_step_by_step(bench: &Bench) {
    two_versions(bench).await;
    let store = &bench.store;
    assert!(running(bench).await.is_none() && store.rollout_fetch(&function("shop", "till")).await.unwrap().is_none());
    let begun = store.rollout_start(&new(None)).await.unwrap();
    let part = &begun.parts[0];
    assert_eq!((part.old, part.new, begun.state), (number(1), number(2), RolloutState::Running));
    assert_eq!(traffic(bench).await, [(1, 90), (2, 10)]);
    assert_eq!(running(bench).await.as_ref(), Some(&begun));
    refused(store.rollout_start(&new(None)).await, ErrorCode::FailedPrecondition);
    assert_eq!(store.rollout_move(&begun, &Move::Look).await.unwrap(), None);
    let second = store.rollout_move(&begun, &Move::Advance).await.unwrap().unwrap();
    assert_eq!((second.step, traffic(bench).await), (1, vec![(1, 50), (2, 50)]));
    assert_eq!(store.rollout_move(&begun, &Move::Advance).await.unwrap(), None, "it has moved already");
    let done = store.rollout_move(&second, &Move::Advance).await.unwrap().unwrap();
    assert_eq!((done.state, traffic(bench).await), (RolloutState::Promoted, vec![(2, 100)]));
    assert!(running(bench).await.is_none() && last(bench).await == done);
    // Whoever goes back after it gets what had everything before.
    let (_, to) = store.function_roll_back(&function("shop", "till"), None, None, "").await.unwrap();
    assert_eq!(to, number(1));
    // The next one takes its place, and goes with its function.
    store.rollout_start(&new(Some(2))).await.unwrap();
    let back = Move::Back(RolloutState::Back, "it fails".to_owned());
    let back = store.rollout_move(&last(bench).await, &back).await.unwrap().unwrap();
    assert_eq!((back.reason.as_str(), traffic(bench).await), ("it fails", vec![(1, 100)]));
    store.function_delete(&function("shop", "till"), "").await.unwrap();
    deploy(bench, &function("shop", "till")).await;
    assert!(store.rollout_fetch(&function("shop", "till")).await.unwrap().is_none());
}

async fn a_rollout_ends_where_somebody_divides_the_calls_otherwise(bench: &Bench) {
    two_versions(bench).await;
    let begun = bench.store.rollout_start(&new(None)).await.unwrap();
    let shares = vec![Share(number(1), 70), Share(number(2), 30)];
    let live = function("shop", "till").alias("live".parse().unwrap());
    bench.store.alias_set(&live, "", &AliasChange { shares, sticky: None }).await.unwrap();
    let over = bench.store.rollout_move(&begun, &Move::Advance).await.unwrap().unwrap();
    assert_eq!((over.state, traffic(bench).await), (RolloutState::Superseded, vec![(1, 70), (2, 30)]));
    assert!(running(bench).await.is_none());
}

async fn a_rollout_needs_two_versions_and_one_that_has_all_calls(bench: &Bench) {
    refused(bench.store.rollout_start(&new(None)).await, ErrorCode::NotFound);
    deploy(bench, &function("shop", "till")).await;
    refused(bench.store.rollout_start(&new(None)).await, ErrorCode::FailedPrecondition);
    refused(bench.store.rollout_start(&new(Some(1))).await, ErrorCode::FailedPrecondition);
    refused(bench.store.rollout_start(&new(Some(7))).await, ErrorCode::NotFound);
    assert_eq!(traffic(bench).await, [(1, 100)]);
}

async fn a_version_is_taken_out_in_favour_of_the_one_before_it(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    deploy(bench, &till).await;
    assert_eq!(store.rollout_quarantine(&till, number(1), "it traps").await.unwrap(), None, "nothing was before it");
    deploy(bench, &till).await;
    assert_eq!(store.rollout_quarantine(&till, number(1), "it traps").await.unwrap(), None, "it has no calls");
    let taken = store.rollout_quarantine(&till, number(2), "it traps").await.unwrap().unwrap();
    let part = &taken.parts[0];
    assert_eq!((taken.state, part.old, part.new), (RolloutState::Quarantined, number(1), number(2)));
    assert_eq!((traffic(bench).await, last(bench).await), (vec![(1, 100)], taken));
    assert!(running(bench).await.is_none());
}

async fn a_database_that_fails_is_no_answer_about_versions(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    deploy(bench, &till).await;
    deploy(bench, &till).await;
    sqlx::query("ALTER TABLE versions RENAME TO elsewhere").execute(&store.pool).await.unwrap();
    assert!(store.rollout_quarantine(&till, number(2), "it traps").await.is_err());
    sqlx::query("ALTER TABLE elsewhere RENAME TO versions").execute(&store.pool).await.unwrap();
    assert!(store.rollout_quarantine(&till, number(2), "it traps").await.unwrap().is_some(), "it is tried again");
}

/// Judges what it is told.
struct Judge {
    rollouts: Rollouts,
    catalog: Arc<CatalogKeeper>,
    function: dunlin_proto::ids::FunctionUid,
}

impl Judge {
    async fn new(bench: &Bench) -> Self {
        let catalog = Arc::new(CatalogKeeper::load(bench.store.clone()).await.unwrap());
        let function = bench.store.function_fetch(&function("shop", "till")).await.unwrap().uid;
        Self { rollouts: Rollouts::new(&bench.store, catalog.clone()), catalog, function }
    }

    /// A gateway says how many calls the versions have had by now, of them so many failures, and of how many callers.
    fn report(&self, version: u32, calls: u64, failures: u64, callers: u64) {
        let version = VersionKey { function: self.function, number: number(version) };
        let durations = [(bucket(Duration::from_millis(3)), calls)].into();
        let tally = Tally { calls, failures, traps: failures, durations };
        self.rollouts
            .report(&("g".parse().unwrap(), 1), vec![Counts { version, tally, trapped: (0..callers).collect() }]);
    }

    async fn look(&self, now: Instant) {
        self.catalog.refresh().await;
        self.rollouts.look(now).await.unwrap();
    }
}

async fn what_is_worse_goes_back_and_what_is_not_goes_on(bench: &Bench) {
    two_versions(bench).await;
    let (judge, begin) = (Judge::new(bench).await, Instant::now());
    let begun = bench.store.rollout_start(&new(None)).await.unwrap();
    judge.look(begin).await;
    assert_eq!(judge.rollouts.watched().borrow().len(), 2, "both versions are counted");
    for version in [1, 2] {
        judge.report(version, 10, 0, 0);
    }
    judge.report(1, 5_010, 3, 0);
    judge.report(2, 509, 0, 0);
    let later = begin + Duration::from_secs(61);
    judge.look(later).await;
    assert_eq!((traffic(bench).await, judge.rollouts.progress(&begun)[0].1.calls), (vec![(1, 90), (2, 10)], 499));
    judge.report(2, 510, 0, 0);
    judge.look(later).await;
    assert_eq!(traffic(bench).await, [(1, 50), (2, 50)], "it goes on");
    judge.look(later).await;
    let second = last(bench).await;
    assert_eq!(judge.rollouts.progress(&second)[0].1, Tally::default(), "a step begins with nothing");
    judge.report(1, 5_110, 3, 0);
    judge.report(2, 610, 40, 1);
    judge.look(later + Duration::from_secs(2)).await;
    let back = last(bench).await;
    assert_eq!((back.state, traffic(bench).await), (RolloutState::Back, vec![(1, 100)]));
    assert!(back.reason.starts_with("40 of 100 calls of the new version failed (40.0 %)"), "{}", back.reason);
    judge.look(later).await;
    assert!(judge.rollouts.watched().borrow().is_empty());
}

async fn a_fresh_version_that_traps_is_quarantined(bench: &Bench) {
    let till = function("shop", "till");
    deploy(bench, &till).await;
    let (judge, begin) = (Judge::new(bench).await, Instant::now());
    judge.look(begin).await;
    assert!(judge.rollouts.watched().borrow().is_empty(), "nothing could stand in for it");
    deploy(bench, &till).await;
    judge.look(begin).await;
    judge.report(2, 0, 0, 0);
    judge.look(begin + Duration::from_secs(1)).await;
    judge.report(2, 900, 900, 2);
    judge.look(begin + Duration::from_secs(2)).await;
    assert_eq!(traffic(bench).await, [(2, 100)], "two callers can not bring it about");
    judge.report(2, 900, 900, 3);
    judge.look(begin + Duration::from_secs(3)).await;
    assert_eq!((traffic(bench).await, last(bench).await.state), (vec![(1, 100)], RolloutState::Quarantined));
    // What was gone back to is not judged, from divided calls either; what is promoted out of them is.
    judge.look(begin + Duration::from_secs(4)).await;
    assert!(judge.rollouts.watched().borrow().is_empty());
    let live = till.alias("live".parse().unwrap());
    for (shares, watched) in
        [(&[(1, 50), (2, 50)][..], 0), (&[(1, 100)], 0), (&[(1, 50), (2, 50)], 0), (&[(2, 100)], 1)]
    {
        let shares = shares.iter().map(|(version, percent)| Share(number(*version), *percent)).collect();
        bench.store.alias_set(&live, "", &AliasChange { shares, sticky: None }).await.unwrap();
        judge.look(begin + Duration::from_secs(5)).await;
        assert_eq!(judge.rollouts.watched().borrow().len(), watched);
    }
}

async fn a_fresh_version_is_noticed_between_two_looks(bench: &Bench) {
    deploy(bench, &function("shop", "other")).await;
    let till = function("shop", "till");
    let judge = Arc::new(CatalogKeeper::load(bench.store.clone()).await.unwrap());
    let rollouts = Rollouts::new(&bench.store, judge.clone());
    rollouts.look(Instant::now()).await.unwrap();
    deploy(bench, &till).await;
    deploy(bench, &till).await;
    judge.refresh().await;
    rollouts.look(Instant::now()).await.unwrap();
    assert_eq!(rollouts.watched().borrow().len(), 1);
}
