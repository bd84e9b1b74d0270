//! Lines that wait until it is known with what status their calls ended, in bounded memory and for a bounded time. What waits in vain
//! is told as a gap. Pure: time is an argument, and who asks for statuses is `followed.rs`.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::RangeInclusive,
    time::Duration,
};

use dunlin_proto::{
    ids::InvocationId,
    internal::v1::LogPosition,
    v1::{LogGap, LogGapReason, LogLine},
};
use tokio::time::Instant;

/// How long a line waits.
pub(super) const HOLD: Duration = Duration::from_secs(60);
/// What waits at once, in bytes.
const MAX_BYTES: usize = 8 << 20;
/// Calls whose lines wait at once.
const MAX_CALLS: usize = 10_000;
/// Calls that have ended and are remembered: lines come a little later than their call's end.
const MAX_ENDED: usize = 10_000;
/// What a line costs besides its text.
const COST: usize = 256;

/// A call on a worker: one that was sent to several has lines on each.
type Place = (InvocationId, String);

/// The lines of a call on a worker.
#[derive(Debug)]
struct Waiting {
    /// They came in this order.
    number: u64,
    since: Instant,
    lines: Vec<LogLine>,
    bytes: usize,
    /// It was asked for among the records that are kept for long.
    is_searched: bool,
}

/// What waits, and what became of calls lately.
#[derive(Debug)]
pub(super) struct Held {
    wanted: RangeInclusive<u16>,
    calls: BTreeMap<Place, Waiting>,
    oldest: BTreeMap<u64, Place>,
    numbered: u64,
    bytes: usize,
    ended: HashMap<InvocationId, bool>,
    ended_first: VecDeque<InvocationId>,
}

impl Held {
    /// Lets lines pass of calls that end with such a status.
    pub(super) fn new(wanted: RangeInclusive<u16>) -> Self {
        let (calls, oldest, ended, ended_first) = Default::default();
        Self { wanted, calls, oldest, numbered: 0, bytes: 0, ended, ended_first }
    }

    /// Holds a line of a call; gives it back where the call is known to have ended with such a status.
    pub(super) fn hold(&mut self, call: InvocationId, line: LogLine, now: Instant) -> Option<LogLine> {
        if let Some(wanted) = self.ended.get(&call) {
            return Some(line).filter(|_| *wanted);
        }
        let (place, bytes) = ((call, line.worker.clone()), line.text.len() + COST);
        let waiting = self.calls.entry(place).or_insert_with_key(|place| {
            self.numbered += 1;
            self.oldest.insert(self.numbered, place.clone());
            Waiting { number: self.numbered, since: now, lines: Vec::new(), bytes: 0, is_searched: false }
        });
        waiting.lines.push(line);
        waiting.bytes += bytes;
        self.bytes += bytes;
        None
    }

    /// A call ended with this status; its lines, where that is wanted.
    pub(super) fn ended(&mut self, call: InvocationId, status: u16) -> Vec<LogLine> {
        let wanted = self.wanted.contains(&status);
        if self.ended.insert(call, wanted).is_none() {
            self.ended_first.push_back(call);
        }
        if self.ended_first.len() > MAX_ENDED
            && let Some(first) = self.ended_first.pop_front()
        {
            self.ended.remove(&first);
        }
        let workers: Vec<_> =
            self.calls.range((call, String::new())..).map_while(|(place, _)| of(place, call)).collect();
        let lines = workers.into_iter().filter_map(|place| self.remove(&place)).flat_map(|waiting| waiting.lines);
        let lines = lines.collect();
        if wanted { lines } else { Vec::new() }
    }

    /// Gives up what has waited for too long, and the oldest where too much waits.
    pub(super) fn give_up(&mut self, now: Instant) -> Vec<LogGap> {
        let mut gaps = Vec::new();
        while let Some(place) = self.oldest.first_key_value().map(|(_, place)| place.clone()) {
            let is_late =
                self.calls.get(&place).is_none_or(|waiting| now.saturating_duration_since(waiting.since) >= HOLD);
            if !is_late && self.bytes <= MAX_BYTES && self.calls.len() <= MAX_CALLS {
                break;
            }
            gaps.extend(self.give_up_oldest());
        }
        gaps
    }

    /// Gives up what has waited for the longest.
    pub(super) fn give_up_oldest(&mut self) -> Option<LogGap> {
        let (_, place) = self.oldest.first_key_value()?;
        let waiting = self.remove(&place.clone())?;
        let last = waiting.lines.last()?;
        Some(LogGap {
            time: last.time,
            worker: last.worker.clone(),
            lines: waiting.lines.len() as u64,
            reason: LogGapReason::Outcome.into(),
            boot: last.boot,
            sequence: last.sequence,
        })
    }

    fn remove(&mut self, place: &Place) -> Option<Waiting> {
        let waiting = self.calls.remove(place)?;
        self.oldest.remove(&waiting.number);
        self.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Calls that are waited for, the oldest first, and no more than so many.
    pub(super) fn calls(&self, most: usize) -> Vec<InvocationId> {
        self.oldest.values().take(most).map(|(call, _)| *call).collect()
    }

    /// Of these, those that began before this time and are asked for for the first time since: their records may be on disk alone.
    pub(super) fn search_old(&mut self, before: InvocationId, most: usize) -> Vec<InvocationId> {
        let is_new = |((call, _), waiting): &(&Place, &mut Waiting)| *call < before && !waiting.is_searched;
        let found = self.calls.iter_mut().filter(is_new).take(most);
        let search = |((call, _), waiting): (&Place, &mut Waiting)| {
            waiting.is_searched = true;
            *call
        };
        found.map(search).collect()
    }

    /// The first line that waits on each worker.
    pub(super) fn first(&self) -> BTreeMap<&str, LogPosition> {
        let mut first = BTreeMap::<&str, LogPosition>::new();
        for ((_, worker), waiting) in &self.calls {
            let Some(LogLine { boot, sequence, .. }) = waiting.lines.first() else { continue };
            let at = LogPosition { boot: *boot, sequence: *sequence };
            let known = first.entry(worker).or_insert(at);
            if super::cursor::key(at) < super::cursor::key(*known) {
                *known = at;
            }
        }
        first
    }
}

/// A place where it is of a call.
fn of(place: &Place, call: InvocationId) -> Option<Place> {
    Some(place).filter(|(of, _)| *of == call).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(worker: &str, sequence: u64, text: &str) -> LogLine {
        LogLine { worker: worker.to_owned(), boot: 1, sequence, text: text.to_owned(), ..Default::default() }
    }

    fn texts(lines: impl IntoIterator<Item = LogLine>) -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn lines_come_once_their_call_has_ended_and_later_ones_at_once() {
        let (mut held, now) = (Held::new(500..=599), Instant::now());
        let (good, bad) = (InvocationId::new(), InvocationId::new());
        for (call, worker, number, text) in
            [(bad, "w1", 1, "a"), (good, "w1", 2, "b"), (bad, "w2", 1, "c"), (bad, "w1", 3, "d")]
        {
            assert_eq!(held.hold(call, line(worker, number, text), now), None);
        }
        let first =
            |held: &Held| held.first().into_iter().map(|(w, at)| format!("{w} {}", at.sequence)).collect::<Vec<_>>();
        assert_eq!((first(&held), held.calls(9).len()), (vec!["w1 1".to_owned(), "w2 1".to_owned()], 3));
        assert_eq!(texts(held.ended(bad, 502)), ["a", "d", "c"]);
        assert_eq!(first(&held), ["w1 2"]);
        assert!(held.ended(good, 200).is_empty() && held.first().is_empty());
        assert_eq!(texts(held.hold(bad, line("w1", 4, "late"), now)), ["late"]);
        assert_eq!(held.hold(good, line("w1", 5, "late"), now), None);
        assert_eq!((held.calls(9).len(), held.bytes, held.oldest.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_too_long_is_told_and_its_call_may_still_end() {
        let (mut held, start) = (Held::new(500..=599), Instant::now());
        let call = InvocationId::new();
        (1..=3).for_each(|number| drop(held.hold(call, line("w1", number, "x"), start)));
        assert!(held.give_up(start + HOLD - Duration::from_millis(1)).is_empty());
        let gaps = held.give_up(start + HOLD);
        let told: Vec<_> =
            gaps.iter().map(|gap| (gap.worker.as_str(), gap.lines, gap.sequence, gap.reason())).collect();
        assert_eq!(told, [("w1", 3, 3, LogGapReason::Outcome)]);
        held.hold(call, line("w1", 4, "the last"), start + HOLD);
        assert_eq!(texts(held.ended(call, 500)), ["the last"]);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_by_bytes_and_by_calls() {
        let (mut held, now) = (Held::new(500..=599), Instant::now());
        let long = "x".repeat(1 << 20);
        (1..=10).for_each(|number| drop(held.hold(InvocationId::new(), line("w1", number, &long), now)));
        let gaps = held.give_up(now);
        assert_eq!(gaps.iter().map(|gap| gap.sequence).collect::<Vec<_>>(), [1, 2, 3], "the oldest");
        assert!(held.bytes <= MAX_BYTES);
        let mut held = Held::new(500..=599);
        for number in 0..MAX_CALLS as u64 + 5 {
            held.hold(InvocationId::new(), line("w1", number, ""), now);
        }
        assert_eq!((held.give_up(now).len(), held.calls.len()), (5, MAX_CALLS));
        for call in held.calls(usize::MAX).into_iter().chain((0..5).map(|_| InvocationId::new())) {
            held.ended(call, 200);
        }
        assert_eq!((held.calls.len(), held.ended.len(), held.ended_first.len()), (0, MAX_ENDED, MAX_ENDED));
    }

    #[tokio::test(start_paused = true)]
    async fn old_calls_are_searched_for_once() {
        let (mut held, now) = (Held::new(500..=599), Instant::now());
        let (old, new) = (InvocationId::first_at(std::time::SystemTime::UNIX_EPOCH), InvocationId::new());
        held.hold(old, line("w1", 1, "x"), now);
        held.hold(new, line("w1", 2, "x"), now);
        assert_eq!(held.search_old(new, 9), [old]);
        assert!(held.search_old(new, 9).is_empty());
        assert_eq!(held.calls(9), [old, new]);
        assert_eq!(held.calls(1), [old]);
    }
}
