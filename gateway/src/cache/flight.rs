//! Requests for what is not stored, at the same time: one goes to the function, the others wait for what it brings.
//!
//! Nobody waits for an answer that will not be of use to others, nor long for one that comes slowly.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dunlin_proto::ids::VersionKey;
use tokio::sync::watch;

use super::Address;

/// How long the others wait for an answer's body once its head is there: its caller may read slowly.
const RECORDING: Duration = Duration::from_secs(1);

/// What is asked for.
pub(crate) type Wanted = (Address, VersionKey);

/// How far the one that goes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asking,
    /// What it brings will be stored.
    Recording,
    /// What it brings is of no use to others.
    Alone,
}

/// All that are on their way. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<Wanted, watch::Receiver<Stage>>>>);

/// What a request has to do.
#[derive(Debug)]
pub(crate) enum Part {
    /// It goes.
    Lead(Lead),
    /// It waits.
    Follow(Following),
}

/// The one that goes. Dropped, others may look for what it has brought, or go themselves.
#[derive(Debug)]
pub(crate) struct Lead {
    flights: Flights,
    wanted: Wanted,
    stage: watch::Sender<Stage>,
}

/// One that waits.
#[derive(Debug)]
pub(crate) struct Following(watch::Receiver<Stage>);

/// What one that has waited does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It looks again.
    Look,
    /// It asks the function itself, and nobody waits for it.
    Go,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Wanted, watch::Receiver<Stage>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins those that want the same.
    pub(crate) fn join(&self, wanted: Wanted) -> Part {
        match self.lock().entry(wanted) {
            Entry::Occupied(known) => Part::Follow(Following(known.get().clone())),
            Entry::Vacant(place) => {
                let wanted = place.key().clone();
                let (stage, watched) = watch::channel(Stage::Asking);
                place.insert(watched);
                Part::Lead(Lead { flights: self.clone(), wanted, stage })
            }
        }
    }
}

impl Lead {
    /// What is coming will be stored; it is for others where they `will_use` it.
    pub(crate) fn records(self, will_use: bool) -> Option<Self> {
        if !will_use {
            self.goes_alone();
            return None;
        }
        self.stage.send_replace(Stage::Recording);
        Some(self)
    }

    /// What is coming is of no use to others.
    pub(crate) fn goes_alone(self) {
        self.stage.send_replace(Stage::Alone);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.wanted);
    }
}

impl Following {
    /// Waits until it is clear what to do. Cancel-safe.
    pub(crate) async fn next(mut self) -> Next {
        let Ok(stage) = self.0.wait_for(|stage| *stage != Stage::Asking).await.map(|stage| *stage) else {
            return Next::Look;
        };
        if stage == Stage::Alone {
            return Next::Go;
        }
        let alone = self.0.wait_for(|stage| *stage == Stage::Alone);
        match tokio::time::timeout(RECORDING, alone).await {
            // Gone, with what it has stored.
            Ok(Err(_)) => Next::Look,
            Ok(Ok(_)) | Err(_) => Next::Go,
        }
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::ids::FunctionUid;

    use super::*;

    fn wanted() -> Wanted {
        let namespace = "shop".parse().unwrap();
        let key = VersionKey { function: FunctionUid::new(), number: 1.try_into().unwrap() };
        (Address::new(&namespace, "http", "a.example", "/", None), key)
    }

    fn lead(flights: &Flights, wanted: &Wanted) -> Lead {
        match flights.join(wanted.clone()) {
            Part::Lead(lead) => lead,
            Part::Follow(_) => panic!("somebody goes already"),
        }
    }

    fn follow(flights: &Flights, wanted: &Wanted) -> Following {
        match flights.join(wanted.clone()) {
            Part::Follow(following) => following,
            Part::Lead(_) => panic!("nobody goes"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_goes_and_the_others_wait_for_what_it_brings() {
        let (flights, wanted) = (Flights::default(), wanted());
        let first = lead(&flights, &wanted);
        let waiting = follow(&flights, &wanted);
        drop(first.records(true));
        assert_eq!(waiting.next().await, Next::Look);
        let cancelled = lead(&flights, &wanted);
        let waiting = follow(&flights, &wanted);
        drop(cancelled);
        assert_eq!(waiting.next().await, Next::Look, "another one may go");
        drop(lead(&flights, &wanted));
        assert!(flights.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_what_is_of_no_use_or_comes_slowly() {
        let (flights, wanted) = (Flights::default(), wanted());
        let first = lead(&flights, &wanted);
        let (early, late) = (follow(&flights, &wanted), follow(&flights, &wanted));
        first.goes_alone();
        assert_eq!((early.next().await, late.next().await), (Next::Go, Next::Go));
        let slow = lead(&flights, &wanted);
        let waiting = follow(&flights, &wanted);
        let slow = slow.records(true);
        assert_eq!(waiting.next().await, Next::Go);
        let waiting = follow(&flights, &wanted);
        assert!(slow.is_some_and(|slow| slow.records(false).is_none()));
        assert_eq!(waiting.next().await, Next::Go);
    }
}
