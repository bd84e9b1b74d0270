//! Judges new versions by what gateways count: a rollout goes on step by step while the new version is no worse than the old one,
//! and a version that traps as soon as it has all calls is taken out of traffic.
//!
//! Whether a version is worse is decided by pure functions (`rollout/judge.rs`, `rollout/quarantine.rs`), over what
//! `rollout/tally.rs` has put together. What moves is the store's to write, in one transaction with the traffic. Where a step
//! began is not durable: after a restart of the scheduler it begins anew.

mod judge;
mod quarantine;
mod tally;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ids::{FunctionUid, GatewayId, VersionKey, VersionNumber},
    names::FunctionRef,
};
use tokio::{sync::watch, time::Instant};

pub(crate) use self::tally::{Counter, Counts, Tally};
use self::{
    judge::{Step, Verdict},
    quarantine::{FRESH, Recent},
    tally::Counted,
};
use crate::{
    catalog::{Catalog, CatalogFunction, CatalogKeeper},
    error::Error,
    model::{RolloutRecord, RolloutState, Time},
    store::{Move, Store},
};

/// Who moves rollouts, as releases say it.
const ACTOR: &str = "dunlin";

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Judges, for as long as the scheduler runs.
#[derive(Debug)]
pub(crate) struct Rollouts {
    store: Store,
    catalog: Arc<CatalogKeeper>,
    counted: Counted,
    watched: watch::Sender<Arc<BTreeSet<VersionKey>>>,
    state: Mutex<State>,
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
struct State {
    courses: BTreeMap<FunctionUid, Course>,
    fresh: BTreeMap<FunctionUid, Fresh>,
    /// The version of the catalog in which fresh versions were looked for, and who had all calls in it.
    seen: Option<(u64, BTreeMap<FunctionUid, VersionNumber>)>,
}

/// A step of a rollout.
#[derive(Debug)]
struct Course {
    /// Which rollout, and which of its steps.
    of: (Time, usize),
    began: Instant,
    /// What had been counted by then.
    old: Tally,
    new: Tally,
}

/// A version that got all calls lately.
#[derive(Debug)]
struct Fresh {
    function: FunctionRef,
    version: VersionNumber,
    until: Instant,
    recent: Recent,
}

impl Rollouts {
    pub(crate) fn new(store: &Store, catalog: Arc<CatalogKeeper>) -> Self {
        let (counted, watched) = (Counted::default(), watch::Sender::default());
        let store = store.acting(ACTOR);
        Self { store, catalog, counted, watched, state: Mutex::default() }
    }

    /// Follows which versions gateways shall count the calls of.
    pub(crate) fn watched(&self) -> watch::Receiver<Arc<BTreeSet<VersionKey>>> {
        self.watched.subscribe()
    }

    /// A gateway says what it has counted.
    pub(crate) fn report(&self, counter: &Counter, counts: Vec<Counts>) {
        self.counted.report(counter, counts);
    }

    /// A gateway is no longer heard.
    pub(crate) fn leave(&self, gateway: &GatewayId) {
        self.counted.leave(gateway);
    }

    /// What the old and the new version did since the step began.
    pub(crate) fn progress(&self, rollout: &RolloutRecord) -> (Tally, Tally) {
        let (old, new) = keys(rollout);
        match self.state().courses.get(&rollout.uid).filter(|course| course.is_of(rollout)) {
            Some(course) => (self.counted.of(&old).since(&course.old), self.counted.of(&new).since(&course.new)),
            None => (Tally::default(), Tally::default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until the shutdown begins.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = shutdown.begun() => return,
            }
            if let Err(error) = self.look(Instant::now()).await {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(cause, "rollouts can't be judged for now");
            }
        }
    }

    /// Looks at everything once.
    pub(crate) async fn look(&self, now: Instant) -> Result<(), Error> {
        let running = self.store.rollout_running().await?;
        let moves = self.judged(&running, now);
        let bad = self.trapping(&running, now);
        let changed = !moves.is_empty() || !bad.is_empty();
        for (rollout, whither) in moves {
            if let Some(moved) = self.store.rollout_move(rollout, &whither).await? {
                say(&moved);
            }
        }
        for (function, version, reason) in bad {
            if let Some(taken) = self.store.rollout_quarantine(&function, version, &reason).await? {
                say(&taken);
            }
        }
        if changed {
            self.catalog.refresh().await;
        }
        Ok(())
    }

    /// Where each rollout goes that goes anywhere.
    fn judged<'r>(&self, running: &'r [RolloutRecord], now: Instant) -> Vec<(&'r RolloutRecord, Move)> {
        let mut state = self.state();
        state.courses.retain(|uid, _| running.iter().any(|rollout| rollout.uid == *uid));
        state.look_for_fresh(&self.catalog.current(), now);
        self.watch(state.watched(running));
        let catalog = self.catalog.current();
        let moves = running.iter().filter_map(|rollout| {
            let (old, new) = keys(rollout);
            let (old, new) = (self.counted.of(&old), self.counted.of(&new));
            let course = state.courses.entry(rollout.uid).or_insert_with(|| Course::begin(rollout, &old, &new, now));
            if !course.is_of(rollout) {
                *course = Course::begin(rollout, &old, &new, now);
            }
            let since = now.saturating_duration_since(course.began);
            let step = Step { time: rollout.step_time, calls: rollout.step_calls };
            let verdict = judge::judge(&old.since(&course.old), &new.since(&course.new), since, step);
            moved(verdict, is_superseded(rollout, &catalog)).map(|whither| (rollout, whither))
        });
        moves.collect()
    }

    /// The versions that have to go.
    fn trapping(&self, running: &[RolloutRecord], now: Instant) -> Vec<(FunctionRef, VersionNumber, String)> {
        let mut state = self.state();
        state.fresh.retain(|uid, fresh| fresh.until > now && running.iter().all(|rollout| rollout.uid != *uid));
        let bad = state.fresh.iter_mut().filter_map(|(uid, fresh)| {
            let key = VersionKey { function: *uid, number: fresh.version };
            let recent = fresh.recent.look(&self.counted.of(&key), now);
            let reason = quarantine::decide(recent, self.counted.trapped_callers(&key))?;
            Some((fresh.function.clone(), fresh.version, reason))
        });
        bad.collect()
    }

    fn watch(&self, versions: BTreeSet<VersionKey>) {
        self.watched.send_if_modified(|known| {
            let changed = **known != versions;
            if changed {
                self.counted.watch(&versions);
                *known = Arc::new(versions);
            }
            changed
        });
    }
}

impl State {
    /// Looks who has got all calls since the last time. At the first look, whoever may have got them within the hour counts.
    fn look_for_fresh(&mut self, catalog: &Catalog, now: Instant) {
        if self.seen.as_ref().is_some_and(|(version, _)| *version == catalog.version) {
            return;
        }
        let before = self.seen.take().map(|(_, before)| before);
        let had = |uid: &FunctionUid| before.as_ref().and_then(|before| before.get(uid)).copied();
        // While calls are divided, whoever had all of them before counts on.
        let full = |(uid, function): (&FunctionUid, &CatalogFunction)| {
            Some((*uid, function.record.full().or_else(|| had(uid))?))
        };
        let after: BTreeMap<_, _> = catalog.functions.iter().filter_map(full).collect();
        self.fresh.retain(|uid, fresh| after.get(uid) == Some(&fresh.version));
        let wall = Time::now();
        for (uid, version) in &after {
            let Some(function) = catalog.functions.get(uid) else { continue };
            let new = match before {
                Some(_) => had(uid).is_none_or(|was| was < *version),
                None => function.record.update_time.after(FRESH) > wall,
            };
            // Without one before it, nothing can stand in for it.
            if new && function.record.previous().is_some_and(|good| good < *version) {
                let function = function.record.reference();
                let fresh = Fresh { function, version: *version, until: now + FRESH, recent: Recent::default() };
                self.fresh.insert(*uid, fresh);
            }
        }
        self.seen = Some((catalog.version, after));
    }

    /// The versions of which calls are counted.
    fn watched(&self, running: &[RolloutRecord]) -> BTreeSet<VersionKey> {
        let fresh = self.fresh.iter().map(|(uid, fresh)| VersionKey { function: *uid, number: fresh.version });
        running.iter().flat_map(|rollout| <[_; 2]>::from(keys(rollout))).chain(fresh).collect()
    }
}

impl Course {
    fn begin(rollout: &RolloutRecord, old: &Tally, new: &Tally, now: Instant) -> Self {
        Self { of: (rollout.create_time, rollout.step), began: now, old: old.clone(), new: new.clone() }
    }

    fn is_of(&self, rollout: &RolloutRecord) -> bool {
        self.of == (rollout.create_time, rollout.step)
    }
}

fn keys(rollout: &RolloutRecord) -> (VersionKey, VersionKey) {
    let key = |number| VersionKey { function: rollout.uid, number };
    (key(rollout.old), key(rollout.new))
}

/// Whether calls are divided in another way than the rollout has it. The store looks again.
fn is_superseded(rollout: &RolloutRecord, catalog: &Catalog) -> bool {
    catalog.functions.get(&rollout.uid).is_some_and(|function| function.record.traffic != rollout.shares())
}

fn moved(verdict: Verdict, superseded: bool) -> Option<Move> {
    match verdict {
        Verdict::Back(worse) => Some(Move::Back(RolloutState::Back, worse.to_string())),
        Verdict::Advance => Some(Move::Advance),
        Verdict::Wait => superseded.then_some(Move::Look),
    }
}

fn say(rollout: &RolloutRecord) {
    let RolloutRecord { function: FunctionRef { namespace, function }, old, new, state, reason, .. } = rollout;
    let (old, new, state) = (old.get(), new.get(), state.as_str());
    tracing::info!(%namespace, %function, old, new, state, reason, step = rollout.step, "a rollout has moved");
}
