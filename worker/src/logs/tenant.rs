//! One namespace's way into the logs: its rate, its queue, and those who follow it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use dunlin_process::metrics::count::Counters;
use dunlin_proto::ids::Namespace;
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};

use super::{
    LogLimits,
    bucket::Bucket,
    line::{Entry, Line, Mark, Position, Source, Why, micros},
    writer::Order,
};
use crate::sandbox::LogRecord;

/// What a line costs besides its text, so that a flood of empty lines is bounded too.
const LINE_COST: u64 = 128;
/// Lines that may wait for the writer, by their cost, or what a namespace may write in an eighth of a second where that is more.
const QUEUE_BYTES: u64 = 1 << 20;
/// Lines that a follower may lag behind.
const FOLLOWER_LINES: usize = 512;

/// A namespace's lines on their way to the writer.
#[derive(Debug)]
pub(crate) struct Tenant {
    namespace: Namespace,
    /// Whether lines are kept at all.
    keeps: bool,
    queue: Mutex<Queue>,
    orders: mpsc::Sender<Order>,
    live: OnceLock<broadcast::Sender<Arc<Entry>>>,
    /// Lines taken, lines dropped, bytes lost.
    counted: Arc<Counters<3>>,
}

#[derive(Debug)]
struct Queue {
    bucket: Bucket,
    /// How many bytes may wait.
    most: u64,
    entries: VecDeque<Entry>,
    bytes: u64,
    /// The place after all that was offered.
    position: Position,
    last_time: u64,
    /// The writer knows that there are lines.
    announced: bool,
}

impl Tenant {
    pub(super) fn new(
        namespace: Namespace,
        limits: LogLimits,
        boot: u64,
        orders: mpsc::Sender<Order>,
        counted: Arc<Counters<3>>,
    ) -> Self {
        let queue = Queue {
            bucket: Bucket::new(limits.rate_bytes),
            most: QUEUE_BYTES.max(limits.rate_bytes / 8),
            entries: VecDeque::new(),
            bytes: 0,
            position: Position { boot, sequence: 0 },
            last_time: 0,
            announced: false,
        };
        let keeps = limits.rate_bytes > 0;
        Self { namespace, keeps, queue: Mutex::new(queue), orders, live: OnceLock::new(), counted }
    }

    /// Whether lines are kept at all.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Queues a line. Never waits; over the tenant's rate, and where too much waits for the disk, a mark takes its place.
    pub(crate) fn offer(self: &Arc<Self>, source: &Source, record: LogRecord) {
        let announce = {
            let mut queue = self.lock();
            let taken = queue.push(source, record, Instant::now());
            self.counted.add(usize::from(!taken), 1);
            !std::mem::replace(&mut queue.announced, true)
        };
        if announce && self.orders.try_send(Order::Write(self.clone())).is_err() {
            // The next line announces it again.
            self.lock().announced = false;
        }
    }

    /// Takes what is waiting.
    pub(super) fn take(&self) -> Vec<Entry> {
        let mut queue = self.lock();
        queue.announced = false;
        queue.bytes = 0;
        std::mem::take(&mut queue.entries).into()
    }

    /// The place after all that was offered.
    pub(super) fn position(&self) -> Position {
        self.lock().position
    }

    /// Counts bytes that could not be written.
    pub(super) fn lost(&self, bytes: u64) {
        self.counted.add(2, bytes);
    }

    /// Passes on to followers what is written.
    pub(super) fn publish(&self, entry: Entry) {
        if let Some(live) = self.live.get() {
            // Nobody may be there just now.
            let _ = live.send(Arc::new(entry));
        }
    }

    /// The lines from now on. Whoever reads too slowly misses some, and learns how many.
    pub(super) fn follow(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.live.get_or_init(|| broadcast::channel(FOLLOWER_LINES).0).subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether the line was taken.
    fn push(&mut self, source: &Source, record: LogRecord, now: Instant) -> bool {
        // Never less than before, so that the lines of a namespace are in the order of time.
        self.last_time = micros(record.time).max(self.last_time + 1);
        self.position.sequence += 1;
        let cost = record.text.len() as u64 + source.request_id.len() as u64 + LINE_COST;
        if !self.bucket.take(cost, now) {
            self.miss(Why::Rate);
            return false;
        }
        // The writer is behind: its disk is slow.
        if self.bytes + cost > self.most {
            self.miss(Why::Disk);
            return false;
        }
        self.bytes += cost;
        self.entries.push_back(Entry::Line(Line::new(source, record, self.last_time, self.position)));
        true
    }

    /// Marks that the line is missing. Marks have no cost: there is one between two lines at the most, with the reason of the first.
    fn miss(&mut self, why: Why) {
        let Position { boot, sequence } = self.position;
        if let Some(Entry::Mark(mark)) = self.entries.back_mut() {
            mark.lines += 1;
            mark.sequence = sequence;
            return;
        }
        let mark = Mark { time: self.last_time, boot, sequence, lines: 1, why };
        self.entries.push_back(Entry::Mark(mark));
    }
}
