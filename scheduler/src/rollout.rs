//! Judges new versions by what gateways count: a rollout goes on step by step while no new version is worse than the old one of its
//! function, and a version that traps as soon as it has all calls is taken out of traffic.
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
    ids::{FunctionUid, GatewayId, RolloutId, VersionKey, VersionNumber},
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
    model::{RolloutPart, RolloutRecord, RolloutState, Time},
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
    courses: BTreeMap<RolloutId, Course>,
    fresh: BTreeMap<FunctionUid, Fresh>,
    /// The version of the catalog in which fresh versions were looked for, and who had all calls in it.
    seen: Option<(u64, BTreeMap<FunctionUid, VersionNumber>)>,
}

/// A step of a rollout.
#[derive(Debug)]
struct Course {
    /// Which one it is.
    step: usize,
    began: Instant,
    /// What had been counted by then, of the old version and of the new one.
    before: BTreeMap<FunctionUid, (Tally, Tally)>,
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

    /// What the old and the new version of each function did since the step began.
    pub(crate) fn progress(&self, rollout: &RolloutRecord) -> Vec<(Tally, Tally)> {
        match self.state().courses.get(&rollout.id).filter(|course| course.step == rollout.step) {
            Some(course) => course.since(rollout, &self.counted),
            None => rollout.parts.iter().map(|_| (Tally::default(), Tally::default())).collect(),
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
        state.courses.retain(|id, _| running.iter().any(|rollout| rollout.id == *id));
        state.look_for_fresh(&self.catalog.current(), now);
        self.watch(state.watched(running));
        let catalog = self.catalog.current();
        let moves = running.iter().filter_map(|rollout| {
            let begin = || Course::begin(rollout, &self.counted, now);
            let course = state.courses.entry(rollout.id).or_insert_with(begin);
            if course.step != rollout.step {
                *course = begin();
            }
            let since = now.saturating_duration_since(course.began);
            let step = Step { time: rollout.step_time, calls: rollout.step_calls };
            let verdict = judge::judge(&course.since(rollout, &self.counted), since, step);
            moved(rollout, verdict, is_superseded(rollout, &catalog)).map(|whither| (rollout, whither))
        });
        moves.collect()
    }

    /// The versions that have to go.
    fn trapping(&self, running: &[RolloutRecord], now: Instant) -> Vec<(FunctionRef, VersionNumber, String)> {
        let mut state = self.state();
        state.fresh.retain(|uid, fresh| fresh.until > now && running.iter().all(|rollout| !rollout.concerns(*uid)));
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
        let parts = running.iter().flat_map(|rollout| &rollout.parts);
        parts.flat_map(|part| <[_; 2]>::from(keys(part))).chain(fresh).collect()
    }
}

impl Course {
    fn begin(rollout: &RolloutRecord, counted: &Counted, now: Instant) -> Self {
        let before = rollout.parts.iter().map(|part| (part.uid, counts(part, counted))).collect();
        Self { step: rollout.step, began: now, before }
    }

    /// What has come since it began, in the order of the functions.
    fn since(&self, rollout: &RolloutRecord, counted: &Counted) -> Vec<(Tally, Tally)> {
        let since = |part: &RolloutPart| {
            let (old, new) = counts(part, counted);
            let (old_before, new_before) = self.before.get(&part.uid)?;
            Some((old.since(old_before), new.since(new_before)))
        };
        rollout.parts.iter().map(|part| since(part).unwrap_or_default()).collect()
    }
}

fn keys(part: &RolloutPart) -> (VersionKey, VersionKey) {
    let key = |number| VersionKey { function: part.uid, number };
    (key(part.old), key(part.new))
}

fn counts(part: &RolloutPart, counted: &Counted) -> (Tally, Tally) {
    let (old, new) = keys(part);
    (counted.of(&old), counted.of(&new))
}

/// Whether calls of one of its functions are divided in another way than the rollout has it. The store looks again.
fn is_superseded(rollout: &RolloutRecord, catalog: &Catalog) -> bool {
    rollout.parts.iter().any(|part| {
        let known = catalog.functions.get(&part.uid);
        known.is_some_and(|function| function.record.traffic != rollout.shares(part))
    })
}

fn moved(rollout: &RolloutRecord, verdict: Verdict, superseded: bool) -> Option<Move> {
    match verdict {
        Verdict::Back(at, worse) => {
            let reason = rollout.parts.get(at).map(|part| rollout.because_of(part, &worse.to_string()));
            Some(Move::Back(RolloutState::Back, reason.unwrap_or_default()))
        }
        Verdict::Advance => Some(Move::Advance),
        Verdict::Wait => superseded.then_some(Move::Look),
    }
}

fn say(rollout: &RolloutRecord) {
    let RolloutRecord { namespace, parts, state, reason, .. } = rollout;
    let functions: Vec<_> = parts.iter().map(|part| format!("{}@{}", part.function.function, part.new)).collect();
    let (functions, state) = (functions.join(","), state.as_str());
    tracing::info!(%namespace, functions, state, reason, step = rollout.step, "a rollout has moved");
}
