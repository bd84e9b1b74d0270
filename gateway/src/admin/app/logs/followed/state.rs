//! What a follower of a status knows: what there was, what is held, what comes next and where it goes on. Pure: time is an argument.

use std::{
    collections::{BTreeMap, HashSet},
    ops::RangeInclusive,
    time::SystemTime,
};

use dunlin_proto::{
    ids::InvocationId,
    internal::v1::LogPosition,
    v1::{LogGapReason, LogLine, ReadLogsResponse, read_logs_response},
};
use tokio::time::Instant;

use super::super::{
    cursor::{Cursor, key},
    held::Held,
    merge::{Keep, Merge},
    reader::Event,
};

/// Calls that a cursor may name, so that it fits into a header. Where there are more, what holds it back is given up.
const MOST_CALLS: usize = 64;

/// Lines of calls that had ended before.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// What is followed begins here.
    since: Option<SystemTime>,
    /// Gateways that did not answer.
    silent: Vec<String>,
    lines: Vec<ReadLogsResponse>,
    /// The calls whose lines are there as far as they are asked for, on each worker up to a place.
    calls: HashSet<InvocationId>,
    read: Cursor,
}

impl Past {
    /// A past before what is followed from then on.
    pub(super) fn new(since: SystemTime, silent: Vec<String>) -> Self {
        Self { since: Some(since), silent, ..Self::default() }
    }

    /// It consists of these lines of these calls.
    pub(super) fn read(&mut self, calls: HashSet<InvocationId>, lines: Vec<ReadLogsResponse>) {
        let last = lines.iter().rev().find(|response| !response.cursor.is_empty());
        self.read = last.and_then(|last| Cursor::parse(&last.cursor).ok()).unwrap_or_default();
        (self.calls, self.lines) = (calls, lines);
    }

    /// Whether a line that is read again is among them, or was not asked for.
    fn has(&self, worker: &str, call: InvocationId, at: LogPosition) -> bool {
        self.calls.contains(&call) && self.read.place(worker).is_some_and(|read| key(at) <= key(read))
    }

    /// Whether something that was told at that time comes again.
    fn comes_again(&self, time: Option<prost_types::Timestamp>) -> bool {
        let time = time.and_then(|time| SystemTime::try_from(time).ok());
        time.zip(self.since).is_some_and(|(time, since)| time >= since)
    }
}

/// A follower's state.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) held: Held,
    merge: Merge,
    cursor: Cursor,
    /// Up to where each worker was read.
    read: BTreeMap<String, LogPosition>,
    past: Past,
}

impl Following {
    /// One that goes on from a cursor.
    pub(super) fn new(wanted: RangeInclusive<u16>, cursor: Cursor) -> Self {
        let merge = Merge::new(Keep::All, Cursor::default());
        Self { held: Held::new(wanted), merge, cursor, read: BTreeMap::new(), past: Past::default() }
    }

    /// Whether it is time to flush before anything else is taken.
    pub(super) fn is_full(&self) -> bool {
        self.merge.is_full()
    }

    /// Takes in what a reader sent.
    pub(super) fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Line(line) => self.line(line, now),
            Event::Gap(gap) => {
                let at = self.is_at(&gap.worker, gap.boot, gap.sequence);
                if !self.cursor.has_handed_out(&gap.worker, None, at) {
                    self.merge.push(Event::Gap(gap));
                }
            }
            Event::Position(worker, position) => drop(self.is_at(&worker, position.boot, position.sequence)),
            event @ Event::Unreachable(_) => self.merge.push(event),
            Event::Ended(_) => {}
        }
    }

    fn line(&mut self, line: LogLine, now: Instant) {
        let at = self.is_at(&line.worker, line.boot, line.sequence);
        // A line of no call is of none with a status.
        let Ok(call) = line.invocation.parse() else { return };
        if self.past.has(&line.worker, call, at) || self.cursor.has_handed_out(&line.worker, Some(call), at) {
            return;
        }
        if let Some(line) = self.held.hold(call, line, now) {
            self.merge.push(Event::Line(line));
        }
    }

    fn is_at(&mut self, worker: &str, boot: u64, sequence: u64) -> LogPosition {
        let at = LogPosition { boot, sequence };
        self.read.insert(worker.to_owned(), at);
        at
    }

    /// A process does not answer.
    pub(super) fn unreachable(&mut self, process: String) {
        self.merge.push(Event::Unreachable(process));
    }

    /// Calls ended, each with a status.
    pub(super) fn ended(&mut self, calls: Vec<(InvocationId, u16)>) {
        let held = &mut self.held;
        let mut lines: Vec<_> = calls.into_iter().flat_map(|(call, status)| held.ended(call, status)).collect();
        // In the order of each worker, as the merge expects them.
        lines.sort_by(|a, b| (&a.worker, a.boot, a.sequence).cmp(&(&b.worker, b.boot, b.sequence)));
        lines.into_iter().for_each(|line| self.merge.push(Event::Line(line)));
    }

    /// Hands out what there was. What is followed has some of that, too, and leaves it out.
    pub(super) fn past(&mut self, mut past: Past) -> Vec<ReadLogsResponse> {
        let silent = std::mem::take(&mut past.silent).into_iter().map(read_logs_response::Event::UnreachableWorker);
        let lines = std::mem::take(&mut past.lines).into_iter().filter_map(|response| response.event);
        let told = lines.filter(|event| match event {
            read_logs_response::Event::Line(_) => true,
            read_logs_response::Event::Gap(gap) => !past.comes_again(gap.time),
            // Who does not answer is asked again.
            read_logs_response::Event::UnreachableWorker(_) => false,
        });
        let responses = silent.chain(told).collect::<Vec<_>>().into_iter().map(|event| match &event {
            read_logs_response::Event::Line(line) if !past.comes_again(line.time) => self.response(event),
            _ => self.handed_out(event),
        });
        let responses = responses.collect();
        self.past = past;
        responses
    }

    /// What comes next, in order.
    pub(super) fn flush(&mut self, now: Instant) -> Vec<ReadLogsResponse> {
        for gap in self.held.give_up(now) {
            self.merge.push(Event::Gap(gap));
        }
        let events = self.merge.flush().into_iter().filter_map(|response| response.event);
        let mut responses: Vec<_> =
            events.collect::<Vec<_>>().into_iter().map(|event| self.handed_out(event)).collect();
        self.settle();
        while self.cursor.calls() > MOST_CALLS
            && let Some(gap) = self.held.give_up_oldest()
        {
            responses.push(self.response(read_logs_response::Event::Gap(gap)));
            self.settle();
        }
        if let Some(last) = responses.last_mut() {
            last.cursor = self.cursor.text();
        }
        responses
    }

    /// A response that says nothing but where the follower is, so that one who hears nothing for long need not begin anew.
    pub(super) fn place(&self) -> ReadLogsResponse {
        ReadLogsResponse { event: None, cursor: self.cursor.text() }
    }

    /// Up to the first line that waits, all is settled.
    fn settle(&mut self) {
        let waiting = self.held.first();
        for (worker, read) in &self.read {
            let before = |at: LogPosition| LogPosition { sequence: at.sequence.saturating_sub(1), ..at };
            self.cursor.advance(worker, waiting.get(worker.as_str()).map_or(*read, |first| before(*first)));
        }
    }

    fn handed_out(&mut self, event: read_logs_response::Event) -> ReadLogsResponse {
        match &event {
            read_logs_response::Event::Line(LogLine { worker, invocation, boot, sequence, .. }) => {
                let at = LogPosition { boot: *boot, sequence: *sequence };
                self.cursor.hand_out(worker, invocation.parse().ok(), at);
            }
            read_logs_response::Event::Gap(gap) if gap.reason() != LogGapReason::Outcome => {
                let at = LogPosition { boot: gap.boot, sequence: gap.sequence };
                self.cursor.hand_out(&gap.worker, None, at);
            }
            _ => {}
        }
        self.response(event)
    }

    /// A response with a cursor, as long as that is small.
    fn response(&self, event: read_logs_response::Event) -> ReadLogsResponse {
        let cursor = if self.cursor.calls() <= MOST_CALLS { self.cursor.text() } else { String::new() };
        ReadLogsResponse { event: Some(event), cursor }
    }
}

#[cfg(test)]
mod tests;
