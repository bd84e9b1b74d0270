//! The line of one version: who waits for a sandbox, who is next, and who waits in vain. No clock, no effect: time is an
//! argument. How versions and namespaces share the worker is not known here.
//!
//! In good times the first to come is the first served. Where the oldest always waits too long (CoDel, RFC 8289), and more
//! have come than were served for longer than a burst lasts, the newest goes first, whose caller is the likeliest to be there still,
//! and who has waited for longer than the interval is sent away. A burst that is being worked off is no overload, nor are
//! callers who always wait for their answers, however many.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Invocations that may wait, for each that may run.
const WAITING_PER_RUNNING: usize = 10;
/// The shortest and the longest interval; between them it is twice the time that an invocation holds its sandbox.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long more may be asked than can be served before it is no burst any more.
const BURST: Duration = Duration::from_millis(800);
/// The part of the interval that the oldest may wait for ever: 5 ms of 100.
const TARGET: u32 = 20;

/// Why somebody who waits gets no sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many wait, or it has waited for too long while others came.
    Full,
    /// Its time is up, or will be before its turn.
    Late,
}

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    pub(super) ticket: u64,
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    /// How it learns what became of it.
    pub(super) caller: T,
}

/// Those who wait for a version, the oldest first, and how many of its invocations run.
#[derive(Debug)]
pub(super) struct Line<T> {
    max: u32,
    running: u32,
    /// How long an invocation holds its sandbox, on a moving average; zero before the first.
    hold: Duration,
    waiters: VecDeque<Waiter<T>>,
    pressure: Pressure,
}

impl<T> Line<T> {
    /// Nobody waits; `max` may run at once.
    pub(super) fn new(max: u32) -> Self {
        Self { max, running: 0, hold: Duration::ZERO, waiters: VecDeque::new(), pressure: Pressure::default() }
    }

    /// Whether one more may run.
    pub(super) fn has_room(&self) -> bool {
        self.running < self.max
    }

    /// Those who wait.
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// How long an invocation holds its sandbox.
    pub(super) fn hold(&self) -> Duration {
        self.hold
    }

    /// How long the first of those who wait has done so.
    pub(super) fn oldest(&self, now: Instant) -> Duration {
        self.waiters.front().map(|first| now.saturating_duration_since(first.since)).unwrap_or_default()
    }

    /// Whether more is asked than can be served.
    fn is_overloaded(&self) -> bool {
        self.pressure.overloaded
    }

    /// One more runs.
    pub(super) fn begin(&mut self) {
        self.running += 1;
    }

    /// One of those that ran, for so long, runs no more.
    pub(super) fn end(&mut self, held: Duration) {
        self.running = self.running.saturating_sub(1);
        self.hold = if self.hold.is_zero() { held } else { (self.hold * 7 + held) / 8 };
    }

    /// Lets somebody join at the end; who has waited for too long is sent away to make room.
    ///
    /// # Errors
    /// It would wait in vain.
    pub(super) fn join(&mut self, waiter: Waiter<T>, now: Instant, away: &mut Vec<T>) -> Result<(), Refusal> {
        self.send_away(now, away);
        self.pressure.counts.asked += 1;
        if waiter.deadline <= now + self.expected_wait() {
            return Err(Refusal::Late);
        }
        if self.waiters.len() >= (self.max as usize).saturating_mul(WAITING_PER_RUNNING) {
            if !self.is_overloaded() {
                return Err(Refusal::Full);
            }
            away.extend(self.waiters.pop_front().map(|oldest| oldest.caller));
        }
        self.waiters.push_back(waiter);
        self.look(now);
        Ok(())
    }

    /// The next one; in `late` those whose time was up before.
    pub(super) fn next(&mut self, now: Instant, away: &mut Vec<T>, late: &mut Vec<T>) -> Option<Waiter<T>> {
        self.send_away(now, away);
        loop {
            let next = if self.is_overloaded() { self.waiters.pop_back() } else { self.waiters.pop_front() };
            self.look(now);
            match next {
                Some(waiter) if waiter.deadline <= now => late.push(waiter.caller),
                next => {
                    self.pressure.counts.served += u32::from(next.is_some());
                    return next;
                }
            }
        }
    }

    /// Somebody leaves; says whether it still waited.
    pub(super) fn leave(&mut self, ticket: u64, now: Instant) -> bool {
        let found = self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket);
        let left = found.ok().and_then(|at| self.waiters.remove(at)).is_some();
        self.look(now);
        left
    }

    /// Gives up a place to another version: that of the one who would be served last.
    pub(super) fn give_up(&mut self) -> Option<T> {
        let last = if self.is_overloaded() { self.waiters.pop_front() } else { self.waiters.pop_back() };
        last.map(|waiter| waiter.caller)
    }

    /// Sends those away who have waited for the whole interval, where more was asked than could be served.
    fn send_away(&mut self, now: Instant, away: &mut Vec<T>) {
        self.look(now);
        let interval = self.interval();
        while self.pressure.sheds && self.oldest(now) > interval {
            away.extend(self.waiters.pop_front().map(|oldest| oldest.caller));
            self.look(now);
        }
    }

    /// How long one who joins now will wait: zero where nothing is known, and in overload, where the newest goes first.
    fn expected_wait(&self) -> Duration {
        if self.is_overloaded() || self.running == 0 {
            return Duration::ZERO;
        }
        self.hold.saturating_mul(u32::try_from(self.waiters.len()).unwrap_or(u32::MAX)) / self.running
    }

    fn interval(&self) -> Duration {
        (self.hold * 2).clamp(INTERVAL.0, INTERVAL.1)
    }

    fn look(&mut self, now: Instant) {
        let (oldest, interval) = (self.oldest(now), self.interval());
        self.pressure.look(oldest, self.waiters.len(), interval, now);
    }
}

/// Whether more is asked of a line than it can serve.
#[derive(Debug, Default)]
struct Pressure {
    /// Since when the oldest always waited too long, or it was last decided what that means.
    since: Option<Instant>,
    /// Who came and who was served since then, but for the newest interval.
    before: Counts,
    /// The beginning of the newest interval, and who came and who was served in it.
    recent: Option<Instant>,
    counts: Counts,
    /// More was asked than could be served.
    overloaded: bool,
    /// It was at some time since the oldest began to wait too long.
    sheds: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    asked: u32,
    served: u32,
}

impl Pressure {
    /// Takes in how long the oldest has waited, and how many wait.
    fn look(&mut self, oldest: Duration, waiting: usize, interval: Duration, now: Instant) {
        if waiting == 0 || oldest <= interval / TARGET {
            *self = Self::default();
            return;
        }
        let Some((since, recent)) = self.since.zip(self.recent) else {
            *self = Self { since: Some(now), recent: Some(now), ..Self::default() };
            return;
        };
        if now.saturating_duration_since(recent) < interval {
            return;
        }
        let newest = std::mem::take(&mut self.counts);
        self.before.asked += newest.asked;
        self.before.served += newest.served;
        self.recent = Some(now);
        if now.saturating_duration_since(since) >= interval.max(BURST) {
            self.decide(newest);
            (self.since, self.before) = (Some(now), Counts::default());
        }
    }

    /// More was asked if it was so on the whole, by a twentieth at least, and still is.
    fn decide(&mut self, newest: Counts) {
        let on_the_whole = u64::from(self.before.asked) * 20 > u64::from(self.before.served) * 21;
        self.overloaded = on_the_whole && newest.asked > newest.served;
        self.sheds |= self.overloaded;
    }
}
