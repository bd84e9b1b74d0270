//! What became of calls over time, in windows by the moment at which each call was due; `done` alone counts answers when they
//! came.

use std::time::Duration;

use serde_json::{Value, json};

/// One window after the other.
pub struct Series {
    width: Duration,
    windows: Vec<Window>,
}

#[derive(Default)]
struct Window {
    due: u64,
    refused: u64,
    failed: u64,
    skipped: u64,
    /// Answers with status 200 that came in this window, whenever they were due.
    done: u64,
    /// Latencies of answers with status 200, in microseconds.
    answered: Vec<u32>,
}

impl Series {
    /// Nothing yet.
    pub fn new(width: Duration) -> Self {
        Self { width, windows: Vec::new() }
    }

    /// A call is due so long after the beginning; its window.
    pub fn due(&mut self, after: Duration) -> usize {
        let window = self.window(after);
        self.windows[window].due += 1;
        window
    }

    /// An answer with status 200 has come so long after the beginning.
    pub fn done(&mut self, after: Duration) {
        let window = self.window(after);
        self.windows[window].done += 1;
    }

    fn window(&mut self, after: Duration) -> usize {
        let window = (after.as_nanos() / self.width.as_nanos().max(1)) as usize;
        if self.windows.len() <= window {
            self.windows.resize_with(window + 1, Window::default);
        }
        window
    }

    /// It was answered.
    pub fn answered(&mut self, window: usize, status: u16, after: Duration) {
        match status {
            200 => self.windows[window].answered.push(u32::try_from(after.as_micros()).unwrap_or(u32::MAX)),
            _ => self.windows[window].refused += 1,
        }
    }

    /// It had no answer.
    pub fn failed(&mut self, window: usize) {
        self.windows[window].failed += 1;
    }

    /// It was not sent.
    pub fn skipped(&mut self, window: usize) {
        self.windows[window].skipped += 1;
    }

    /// One list for each figure; a percentile of a window without answers is null.
    pub fn json(&self) -> Value {
        let list = |figure: fn(&Window) -> Value| self.windows.iter().map(figure).collect::<Vec<_>>();
        json!({
            "window_ms": self.width.as_millis() as u64,
            "due": list(|window| json!(window.due)),
            "done": list(|window| json!(window.done)),
            "ok": list(|window| json!(window.answered.len())),
            "refused": list(|window| json!(window.refused)),
            "failed": list(|window| json!(window.failed)),
            "skipped": list(|window| json!(window.skipped)),
            "p50_us": list(|window| json!(window.quantile(0.5))),
            "p99_us": list(|window| json!(window.quantile(0.99))),
        })
    }
}

impl Window {
    fn quantile(&self, quantile: f64) -> Option<u32> {
        let mut sorted = self.answered.clone();
        sorted.sort_unstable();
        sorted.get(((sorted.len() as f64 * quantile).ceil() as usize).max(1) - 1).copied()
    }
}
