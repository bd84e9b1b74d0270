//! How much there is to compute: the guests that could run now, and the CPU time that each of them will probably need. A
//! worker that takes in more than its processors can do soon only makes all of them late.
//!
//! A guest that waits, for its caller or for another server, is not counted until it is woken. Nothing is decided here but
//! whether there is room for one more; who gets it is decided by the pool.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// CPU time that guests may have before them, for each thread, before others have to wait.
const AHEAD: Duration = Duration::from_millis(6);
/// Guests for each thread that compute in any case, however long they take.
const LEAST: u32 = 2;
/// Linear memory from which on a guest stays on its call's own thread in any case.
const LARGE: u64 = 4 << 20;
/// CPU time up to which a guest runs on its call's own thread.
const SHORT: Duration = Duration::from_micros(300);
/// What a guest needs of which nothing is known yet.
const UNKNOWN: Duration = Duration::from_millis(1);

/// The guests that could run now.
pub(crate) struct Backlog {
    guests: AtomicU32,
    micros: AtomicU64,
    least: u32,
    most: u64,
    /// Somebody waits for room.
    wanted: AtomicBool,
    /// What to do when there is some.
    room: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").field("guests", &self.guests).field("micros", &self.micros).finish_non_exhaustive()
    }
}

impl Backlog {
    /// For so many threads; `room` is called when there is room for somebody who waits.
    pub(crate) fn new(threads: u32, room: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            guests: AtomicU32::new(0),
            micros: AtomicU64::new(0),
            least: threads.saturating_mul(LEAST),
            most: micros(AHEAD).saturating_mul(u64::from(threads)),
            wanted: AtomicBool::new(false),
            room: Box::new(room),
        }
    }

    /// Whether one more may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.guests.load(SeqCst) < self.least || self.micros.load(SeqCst) < self.most
    }

    /// Whether somebody waits for room.
    pub(crate) fn want(&self, wanted: bool) {
        self.wanted.store(wanted, SeqCst);
    }

    fn add(&self, micros: u64) {
        self.guests.fetch_add(1, SeqCst);
        self.micros.fetch_add(micros, SeqCst);
    }

    fn remove(&self, micros: u64) {
        self.guests.fetch_sub(1, SeqCst);
        self.micros.fetch_sub(micros, SeqCst);
        if self.wanted.load(SeqCst) && self.has_room() {
            (self.room)();
        }
    }
}

/// Where a guest begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// On the thread of its call: handing it over would cost as much as it does.
    Home,
    /// On a thread for guests, so that whoever waits for the network on the call's thread does not wait for it.
    Guests,
}

/// What a call of a program takes.
#[derive(Debug, Default)]
pub(super) struct Usual {
    /// CPU time, on a moving average.
    micros: AtomicU64,
    /// The memory of the last one.
    bytes: AtomicU64,
}

impl Usual {
    /// CPU time; nothing before the first call.
    pub(super) fn cpu(&self) -> Option<Duration> {
        Some(self.micros.load(SeqCst)).filter(|micros| *micros > 0).map(Duration::from_micros)
    }

    /// A call took so much. Of two that end at the same time one may not count.
    pub(super) fn note(&self, cpu: Duration, bytes: u64) {
        let (before, newest) = (self.micros.load(SeqCst), micros(cpu).max(1));
        self.micros.store(if before == 0 { newest } else { (before * 7 + newest) / 8 }, SeqCst);
        self.bytes.store(bytes, SeqCst);
    }

    /// Where the next call begins. Guests with much memory, such as interpreters, take many page faults, and each of them costs
    /// several times as much while another thread of the process runs.
    pub(super) fn lane(&self) -> Lane {
        let computes = self.cpu().is_some_and(|cpu| cpu >= SHORT) && self.bytes.load(SeqCst) < LARGE;
        if computes { Lane::Guests } else { Lane::Home }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What one guest takes of a backlog while it can run. Counted from the beginning, and gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Effort {
    backlog: Arc<Backlog>,
    micros: u64,
    counted: AtomicBool,
}

impl Effort {
    /// Of a guest that will need so much CPU time; nothing where none is known.
    pub(crate) fn begin(backlog: &Arc<Backlog>, expected: Option<Duration>) -> Self {
        let micros = micros(expected.unwrap_or(UNKNOWN));
        backlog.add(micros);
        Self { backlog: backlog.clone(), micros, counted: AtomicBool::new(true) }
    }

    /// The guest can run.
    pub(super) fn awake(&self) {
        if !self.counted.swap(true, SeqCst) {
            self.backlog.add(self.micros);
        }
    }

    /// The guest waits for somebody else.
    pub(super) fn asleep(&self) {
        if self.counted.swap(false, SeqCst) {
            self.backlog.remove(self.micros);
        }
    }
}

impl Drop for Effort {
    fn drop(&mut self) {
        self.asleep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_guests_and_large_ones_stay_at_home() {
        let usual = Usual::default();
        assert_eq!((usual.cpu(), usual.lane()), (None, Lane::Home));
        usual.note(Duration::from_micros(50), 1 << 20);
        assert_eq!((usual.cpu(), usual.lane()), (Some(Duration::from_micros(50)), Lane::Home));
        (0..20).for_each(|_| usual.note(Duration::from_millis(2), 1 << 20));
        assert_eq!(usual.lane(), Lane::Guests);
        usual.note(Duration::from_millis(2), 8 << 20);
        assert_eq!(usual.lane(), Lane::Home);
    }

    fn backlog(room: Arc<AtomicU32>) -> Arc<Backlog> {
        Arc::new(Backlog::new(1, move || _ = room.fetch_add(1, SeqCst)))
    }

    #[test]
    fn as_many_may_run_as_are_done_soon_and_two_in_any_case() {
        for (each, most) in
            [(Duration::from_millis(100), 2), (Duration::from_millis(1), 6), (Duration::from_micros(50), 120)]
        {
            let backlog = backlog(Arc::default());
            let mut running = Vec::new();
            while backlog.has_room() {
                running.push(Effort::begin(&backlog, Some(each)));
            }
            assert_eq!(running.len(), most, "{each:?}");
        }
    }

    #[test]
    fn a_guest_that_waits_makes_room_for_another() {
        let rooms = Arc::<AtomicU32>::default();
        let backlog = backlog(rooms.clone());
        let guests: Vec<_> = (0..2).map(|_| Effort::begin(&backlog, Some(Duration::from_secs(1)))).collect();
        assert!(!backlog.has_room());
        guests[0].asleep();
        guests[0].asleep();
        assert!(backlog.has_room());
        assert_eq!(rooms.load(SeqCst), 0, "nobody wanted it");
        guests[0].awake();
        guests[0].awake();
        assert!(!backlog.has_room());
        backlog.want(true);
        drop(guests);
        assert!(backlog.has_room());
        assert_eq!(rooms.load(SeqCst), 2);
    }
}
