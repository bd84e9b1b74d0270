//! The line of one version: who waits for a sandbox, who is next, and who waits in vain. No clock, no effect: time is an
//! argument. How versions and namespaces share the worker is not known here.
//!
//! In good times the first to come is the first served. Where the oldest always waits too long (CoDel, RFC 8289), and more
//! have come than were served for longer than a burst lasts, so that the line has grown beyond all chance, the newest goes first,
//! whose caller is the likeliest to be there still, and the others are sent away soon. A burst that is being worked off is no
//! overload, nor are callers who always wait for their answers, as far as the line's length tells.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Invocations that may wait, for each that may run.
const WAITING_PER_RUNNING: usize = 10;
/// The shortest and the longest interval; between them it is twice the time that an invocation holds its sandbox.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Intervals for which more may be asked than can be served before it is no burst any more.
const BURST: u32 = 5;
/// The first of them: a line that is never as short any more as it was at most in these grows. Where the same callers come again
/// and again, their number here goes up and down with who has the processors.
const EARLY: u32 = 2;
/// Intervals without anybody to send away after which an overload is over.
const CALM: u32 = 10;
/// The part of the interval that the oldest may wait for ever: 5 ms of 100.
const TARGET: u32 = 20;
/// The part of the interval after which those are sent away in overload who have not had their turn: 12 ms of 100. Their
/// callers learn soon that they have to come again, and who is served was served at once.
const PATIENCE: u32 = 8;

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
    /// The CPU time that it will probably need, as far as is known.
    pub(super) expected: Option<Duration>,
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
        self.pressure.newest.asked += 1;
        if waiter.deadline <= now + self.expected_wait() {
            return Err(Refusal::Late);
        }
        if self.waiters.len() >= (self.max as usize).saturating_mul(WAITING_PER_RUNNING) {
            if !self.is_overloaded() {
                self.pressure.newest.sent_away += 1;
                return Err(Refusal::Full);
            }
            self.send_first(away);
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
                    self.pressure.newest.served += u32::from(next.is_some());
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

    /// Somebody who has just joined finds no room in the worker's queue.
    pub(super) fn turn_away(&mut self, ticket: u64, now: Instant) {
        self.pressure.newest.sent_away += 1;
        self.leave(ticket, now);
    }

    /// Gives up a place to another version: that of the one who would be served last.
    pub(super) fn give_up(&mut self) -> Option<T> {
        self.pressure.newest.sent_away += 1;
        let last = if self.is_overloaded() { self.waiters.pop_front() } else { self.waiters.pop_back() };
        last.map(|waiter| waiter.caller)
    }

    /// Sends those away who have waited for too long, where more is asked than can be served.
    fn send_away(&mut self, now: Instant, away: &mut Vec<T>) {
        self.look(now);
        let patience = self.interval() / PATIENCE;
        while self.is_overloaded() && self.oldest(now) > patience {
            self.send_first(away);
            self.look(now);
        }
    }

    fn send_first(&mut self, away: &mut Vec<T>) {
        self.pressure.newest.sent_away += 1;
        away.extend(self.waiters.pop_front().map(|first| first.caller));
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
    /// The beginning of the newest interval; the oldest has waited too long ever since there are intervals.
    since: Option<Instant>,
    /// What happened in it.
    newest: Counts,
    /// What happened before it, without the first interval: many who come at once and then wait for their answers are many
    /// only once.
    before: Counts,
    /// The fewest who waited in the newest interval, and the most in the early ones.
    fewest: Option<usize>,
    most: usize,
    intervals: u32,
    /// More was asked for longer than a burst lasts, and somebody was sent away lately.
    overloaded: bool,
    /// Intervals in a row in which nobody was.
    calm: u32,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    asked: u32,
    served: u32,
    sent_away: u32,
}

impl Pressure {
    /// Takes in how long the oldest has waited, and how many wait.
    fn look(&mut self, oldest: Duration, waiting: usize, interval: Duration, now: Instant) {
        let begun = self.overloaded || (waiting > 0 && oldest > interval / TARGET);
        let Some(since) = self.since.filter(|_| begun) else {
            *self = Self { since: begun.then_some(now), ..Self::default() };
            return;
        };
        self.fewest = Some(self.fewest.map_or(waiting, |fewest| fewest.min(waiting)));
        if self.intervals < EARLY {
            self.most = self.most.max(waiting);
        }
        let passed = now.saturating_duration_since(since);
        if passed >= interval {
            self.since = Some(now);
            self.turn(u32::try_from(passed.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX));
        }
    }

    /// So many intervals are over; where they are many, nothing has happened in most of them.
    fn turn(&mut self, passed: u32) {
        let (newest, fewest) = (std::mem::take(&mut self.newest), self.fewest.take().unwrap_or_default());
        self.intervals += 1;
        if self.overloaded {
            self.calm = if newest.sent_away == 0 { self.calm.saturating_add(passed) } else { 0 };
            if self.calm >= CALM {
                *self = Self::default();
            }
        } else if self.intervals > 1 {
            self.before.asked = self.before.asked.saturating_add(newest.asked);
            self.before.served = self.before.served.saturating_add(newest.served);
            // Where there is no room to grow, somebody is sent away instead.
            let grows = fewest > self.most || newest.sent_away > 0;
            let is_excess = newest.asked > newest.served && self.before.is_excess();
            self.overloaded = self.intervals >= BURST && grows && is_excess;
        }
    }
}

impl Counts {
    /// Whether more came than were served, by more than chance.
    fn is_excess(self) -> bool {
        let margin = (self.served / 20).max(2 * self.served.isqrt());
        self.asked > self.served.saturating_add(margin)
    }
}
