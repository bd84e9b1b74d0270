//! Puts what several workers tell into the order of time, in bounded memory, and keeps account of what has been handed out. Pure:
//! who waits how long is decided above. What one worker tells stays in its order, whatever its clock says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_proto::{
    internal::v1::LogPosition,
    v1::{LogGap, LogLine, ReadLogsResponse, read_logs_response},
};

use super::{cursor::Cursor, reader::Event};

/// What is held at once, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// What a line or gap costs besides its text.
const COST: usize = 256;
/// Up to so many workers each response has a cursor, beyond that the last one of those that come at once.
const SMALL_CURSOR: usize = 64;

/// Which lines stay where there are too many.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keep {
    /// The last so many.
    Last(usize),
    /// The first so many.
    First(usize),
    /// All: whoever pushes waits where it is full.
    All,
}

/// What waits to be put in order.
#[derive(Debug)]
pub(super) struct Merge {
    keep: Keep,
    items: VecDeque<Item>,
    lines: usize,
    bytes: usize,
    news: Vec<String>,
    /// Where the reader is once all items are handed out.
    reached: BTreeMap<String, LogPosition>,
    /// Workers of which something was left out at the end: what follows it must not come before.
    cut: BTreeSet<String>,
    cursor: Cursor,
}

#[derive(Debug)]
enum Item {
    Line(LogLine),
    Gap(LogGap),
}

impl Item {
    fn worker(&self) -> &str {
        match self {
            Self::Line(line) => &line.worker,
            Self::Gap(gap) => &gap.worker,
        }
    }

    fn moment(&self) -> (i64, i32) {
        let (Self::Line(LogLine { time, .. }) | Self::Gap(LogGap { time, .. })) = self;
        time.map(|time| (time.seconds, time.nanos)).unwrap_or_default()
    }

    fn place(&self) -> LogPosition {
        let (Self::Line(LogLine { boot, sequence, .. }) | Self::Gap(LogGap { boot, sequence, .. })) = self;
        LogPosition { boot: *boot, sequence: *sequence }
    }

    /// The place before it.
    fn before(&self) -> LogPosition {
        let LogPosition { boot, sequence } = self.place();
        let lines = if let Self::Gap(gap) = self { gap.lines } else { 1 };
        LogPosition { boot, sequence: sequence.saturating_sub(lines) }
    }

    fn is_line(&self) -> bool {
        matches!(self, Self::Line(_))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Line(line) => line.text.len() + COST,
            Self::Gap(_) => COST,
        }
    }
}

impl Merge {
    /// Goes on from a cursor.
    pub(super) fn new(keep: Keep, cursor: Cursor) -> Self {
        let (items, news, reached, cut) = (VecDeque::new(), Vec::new(), BTreeMap::new(), BTreeSet::new());
        Self { keep, items, lines: 0, bytes: 0, news, reached, cut, cursor }
    }

    /// From now on everything is kept.
    pub(super) fn unbound(&mut self) {
        self.keep = Keep::All;
    }

    /// Whether it is time to flush before anything else is taken.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    /// Takes in what a reader sent.
    pub(super) fn push(&mut self, event: Event) {
        match event {
            Event::Line(line) => self.insert(Item::Line(line)),
            Event::Gap(gap) => self.insert(Item::Gap(gap)),
            Event::Position(worker, position) => drop(self.reached.insert(worker, position)),
            Event::Unreachable(worker) => self.news.push(worker),
            Event::Ended(_) => {}
        }
    }

    /// What one worker tells comes in order, so that the place is nearly always the end.
    fn insert(&mut self, item: Item) {
        if self.cut.contains(item.worker()) {
            return;
        }
        self.bytes += item.bytes();
        self.lines += usize::from(item.is_line());
        let comes_before = |other: &Item| other.worker() == item.worker() || other.moment() <= item.moment();
        let place = self.items.iter().rev().position(comes_before);
        let place = place.map_or(0, |from_end| self.items.len() - from_end);
        self.items.insert(place, item);
        match self.keep {
            Keep::Last(keep) => self.drop_first(keep),
            Keep::First(keep) => self.drop_last(keep),
            Keep::All => {}
        }
    }

    fn drop_first(&mut self, keep: usize) {
        while self.lines > keep || self.bytes > MAX_BYTES {
            let Some(item) = self.items.pop_front() else { return };
            self.forget(&item);
            self.cursor.advance(item.worker(), item.place());
        }
    }

    fn drop_last(&mut self, keep: usize) {
        while self.lines > keep || self.bytes > MAX_BYTES {
            let Some(item) = self.items.pop_back() else { return };
            self.forget(&item);
            self.cut.insert(item.worker().to_owned());
        }
    }

    fn forget(&mut self, item: &Item) {
        self.bytes -= item.bytes();
        self.lines -= usize::from(item.is_line());
    }

    /// Everything that waits, in order; news about workers first.
    pub(super) fn flush(&mut self) -> Vec<ReadLogsResponse> {
        (self.bytes, self.lines) = (0, 0);
        let news: Vec<_> = self.news.drain(..).map(read_logs_response::Event::UnreachableWorker).collect();
        let mut responses: Vec<_> = news.into_iter().map(|event| self.response(event)).collect();
        self.place_all();
        for item in std::mem::take(&mut self.items) {
            self.cursor.advance(item.worker(), item.place());
            responses.push(self.response(match item {
                Item::Line(line) => read_logs_response::Event::Line(line),
                Item::Gap(gap) => read_logs_response::Event::Gap(gap),
            }));
        }
        for (worker, position) in std::mem::take(&mut self.reached) {
            if !self.cut.contains(&worker) {
                self.cursor.advance(&worker, position);
            }
        }
        if let Some(last) = responses.last_mut() {
            last.cursor = self.cursor.text();
        }
        responses
    }

    /// Places all workers that are new before what they tell, so that each response's cursor knows of lines that come after it.
    fn place_all(&mut self) {
        for item in &self.items {
            if self.cursor.place(item.worker()).is_none() {
                self.cursor.advance(item.worker(), item.before());
            }
        }
        for (worker, position) in &self.reached {
            if self.cursor.place(worker).is_none() && !self.cut.contains(worker) {
                self.cursor.advance(worker, *position);
            }
        }
    }

    fn response(&self, event: read_logs_response::Event) -> ReadLogsResponse {
        let small = self.cursor.workers() <= SMALL_CURSOR;
        let cursor = if small { self.cursor.text() } else { String::new() };
        ReadLogsResponse { event: Some(event), cursor }
    }

    /// A response that says nothing but where the reader is.
    pub(super) fn place(&self) -> ReadLogsResponse {
        ReadLogsResponse { event: None, cursor: self.cursor.text() }
    }
}

#[cfg(test)]
mod tests;
