//! Puts lines of several workers into the order of time, in bounded memory. Pure: who waits how long is decided above.

use std::collections::VecDeque;

use dunlin_proto::v1::{LogLine, ReadLogsResponse, read_logs_response};

use super::reader::Event;

/// Text that is held at once, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// Lines that wait to be put in order.
#[derive(Debug)]
pub(super) struct Merge {
    /// Beyond so many lines the oldest is dropped; nothing where none may be.
    keep: Option<usize>,
    lines: VecDeque<LogLine>,
    news: Vec<String>,
    bytes: usize,
}

impl Merge {
    /// Keeps the last so many lines.
    pub(super) fn new(keep: usize) -> Self {
        Self { keep: Some(keep), lines: VecDeque::new(), news: Vec::new(), bytes: 0 }
    }

    /// From now on every line is kept.
    pub(super) fn unbound(&mut self) {
        self.keep = None;
    }

    /// Whether it is time to flush before anything else is taken.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    /// Takes in what a reader sent.
    pub(super) fn push(&mut self, event: Event) {
        match event {
            Event::Line(line) => self.insert(line),
            Event::Unreachable(worker) => self.news.push(worker),
            Event::CaughtUp(_) | Event::Ended(_) => {}
        }
    }

    /// Lines of one worker come in order, so that the place is nearly always the end.
    fn insert(&mut self, line: LogLine) {
        self.bytes += line.text.len();
        let place = self.lines.iter().rev().position(|before| moment(before) <= moment(&line));
        let place = place.map_or(0, |from_end| self.lines.len() - from_end);
        self.lines.insert(place, line);
        let Some(keep) = self.keep else { return };
        while self.lines.len() > keep || self.bytes > MAX_BYTES {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.text.len();
        }
    }

    /// Everything that waits, in order; news about workers first.
    pub(super) fn flush(&mut self) -> Vec<ReadLogsResponse> {
        self.bytes = 0;
        let news = self.news.drain(..).map(read_logs_response::Event::UnreachableWorker);
        let lines = self.lines.drain(..).map(read_logs_response::Event::Line);
        news.chain(lines).map(|event| ReadLogsResponse { event: Some(event) }).collect()
    }
}

fn moment(line: &LogLine) -> (i64, i32) {
    line.time.map(|time| (time.seconds, time.nanos)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seconds: i64, text: &str) -> Event {
        let time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        Event::Line(LogLine { time, text: text.to_owned(), ..Default::default() })
    }

    fn texts(merge: &mut Merge) -> Vec<String> {
        let text = |response: ReadLogsResponse| match response.event.unwrap() {
            read_logs_response::Event::Line(line) => line.text,
            read_logs_response::Event::UnreachableWorker(worker) => format!("!{worker}"),
        };
        merge.flush().into_iter().map(text).collect()
    }

    #[test]
    fn lines_of_several_workers_come_out_in_order_and_only_the_last() {
        let mut merge = Merge::new(4);
        for event in [line(1, "a"), line(3, "c"), line(5, "e"), line(2, "b"), line(5, "f"), line(4, "d")] {
            merge.push(event);
        }
        merge.push(Event::Unreachable("w2".to_owned()));
        assert_eq!(texts(&mut merge), ["!w2", "c", "d", "e", "f"]);
        assert!(texts(&mut merge).is_empty());
    }

    #[test]
    fn memory_is_bounded_whether_lines_may_be_dropped_or_not() {
        let long = "x".repeat(1 << 20);
        let mut merge = Merge::new(10_000);
        (0..40).for_each(|second| merge.push(line(second, &long)));
        assert_eq!(merge.flush().len(), 16);
        merge.unbound();
        let mut pushed = 0;
        while !merge.is_full() {
            merge.push(line(1, &long));
            pushed += 1;
        }
        assert_eq!((pushed, merge.flush().len()), (16, 16));
    }
}
