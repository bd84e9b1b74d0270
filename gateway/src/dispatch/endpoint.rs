//! An endpoint of a worker: a few sessions that are kept open, and how much of this gateway's work is on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use dunlin_proto::{
    ids::{GatewayId, VersionKey},
    local::Local,
    trust::Trust,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    health::{Fault, Health},
    refusals::Refusals,
    session::{self, Session},
};

/// What keeping sessions open takes.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    /// Who opens them.
    pub(crate) gateway: GatewayId,
    /// Proves it.
    pub(crate) trust: Trust,
    /// The workers of this process, which are reached without a network.
    pub(crate) local: Local,
    /// Told whenever there is a session more or less.
    pub(crate) changed: watch::Sender<u64>,
}

/// Where sandboxes are reached. Without an open session nothing is sent there.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// `{worker}/{number}`.
    pub(crate) id: String,
    /// The same, for the records of its calls.
    pub(super) label: Arc<str>,
    /// The worker's name.
    pub(crate) worker: Arc<str>,
    /// Host and port.
    pub(crate) address: String,
    slots: Box<[ArcSwapOption<Session>]>,
    in_flight: Arc<AtomicU32>,
    /// What it refused lately.
    pub(super) refusals: Refusals,
    /// What became of the calls that it took.
    pub(super) health: Health,
    /// Ends its sessions once their calls are over: it is no longer placed.
    pub(super) gone: CancellationToken,
}

/// Counts an invocation on an endpoint for as long as it lives.
#[derive(Debug)]
pub(super) struct InFlight(Arc<AtomicU32>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint {
    pub(super) fn new(id: &str, worker: &str, address: &str, sessions: usize, gone: CancellationToken) -> Self {
        Self {
            id: id.to_owned(),
            label: id.into(),
            worker: worker.into(),
            address: address.to_owned(),
            slots: (0..sessions).map(|_| ArcSwapOption::empty()).collect(),
            in_flight: Arc::default(),
            refusals: Refusals::new(Instant::now()),
            health: Health::new(Instant::now()),
            gone,
        }
    }

    /// How much of this gateway's work is on it, and more where it takes none; nothing where it can't be reached now.
    pub(super) fn load(&self) -> Option<u32> {
        let open = self.slots.iter().any(|slot| slot.load().as_ref().is_some_and(|session| session.is_open()));
        let weight = || self.refusals.weight(Instant::now);
        open.then(|| self.in_flight.load(Ordering::Relaxed).saturating_add(weight()))
    }

    /// Whether calls go elsewhere where they can.
    pub(crate) fn is_out(&self) -> bool {
        self.health.is_out(Instant::now)
    }

    /// Its sessions that are open.
    pub(crate) fn open_sessions(&self) -> u64 {
        let open = |slot: &&ArcSwapOption<Session>| slot.load().as_ref().is_some_and(|session| session.is_open());
        self.slots.iter().filter(open).count() as u64
    }

    /// Notes that it failed a call of a version.
    pub(super) fn failed(&self, version: VersionKey, fault: Fault) {
        if let Some(out) = self.health.failed(version, fault, Instant::now()) {
            tracing::warn!(
                endpoint = self.id,
                ?fault,
                ?out,
                "a worker fails calls through no fault of theirs; leaving it out for a while"
            );
        }
    }

    /// Counts an invocation.
    pub(super) fn count(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.in_flight.clone())
    }

    /// Its open session with the fewest calls, one of this thread if there is any.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        let open = self.slots.iter().filter_map(|slot| slot.load_full().filter(|session| session.is_open()));
        let here = thread::current().id();
        open.min_by_key(|session| (session.is_far(here), session.load()))
    }

    /// Its sessions, one a slot.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Keeps the session of a slot open until the endpoint is gone.
    pub(super) async fn maintain(self: Arc<Self>, slot: usize, connector: Connector) {
        let mut backoff = Backoff::default();
        while !self.gone.is_cancelled() {
            let opening = session::open(&connector, &self);
            let opened = tokio::select! {
                opened = opening => opened,
                () = self.gone.cancelled() => return,
            };
            match opened {
                Ok((session, incoming)) => {
                    backoff = Backoff::default();
                    self.set(slot, Some(session.clone()), &connector);
                    if let Err(error) = session.run(incoming, &self.gone, &connector.changed).await {
                        tracing::info!(endpoint = self.id, error = format!("{error:#}"), "session with a worker ended");
                    }
                    self.set(slot, None, &connector);
                }
                Err(error) => {
                    tracing::debug!(endpoint = self.id, error = format!("{error:#}"), "cannot open a session");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next(rand::random())) => {}
                () = self.gone.cancelled() => return,
            }
        }
    }

    fn set(&self, slot: usize, session: Option<Arc<Session>>, connector: &Connector) {
        if let Some(slot) = self.slots.get(slot) {
            slot.store(session);
        }
        connector.changed.send_modify(|version| *version += 1);
    }
}

/// How long to wait before trying again: twice as long each time, one second at the most, with jitter.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// The next wait, for a random number.
    pub(crate) fn next(&mut self, random: u32) -> Duration {
        let whole = Duration::from_millis(25) * (1 << self.0);
        self.0 = (self.0 + 1).min(5);
        let whole = whole.min(Duration::from_secs(1));
        // From half of it to all of it.
        whole / 2 + whole / 2 * (random % 1_000) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_grows_to_a_second_and_no_further() {
        for random in [0, 499, u32::MAX] {
            let mut backoff = Backoff::default();
            let waits: Vec<_> = (0..10).map(|_| backoff.next(random)).collect();
            assert!(waits[0] >= Duration::from_millis(12) && waits[0] <= Duration::from_millis(25));
            assert!(waits[9] >= Duration::from_millis(400) && waits[9] <= Duration::from_secs(1), "{waits:?}");
        }
    }
}
