//! What calls count with: plain atomic numbers, spread over threads so that no two wait for each other, and read together at a
//! scrape. Counting takes no lock, looks nothing up and allocates nothing.

use std::{
    array,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How many threads count without touching each other's memory. More share.
const SHARDS: usize = 4;

/// The limits of buckets for how long a call takes, in nanoseconds.
pub const CALLS: &[u64] = &[
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// The limits of buckets for what should take no time, in nanoseconds.
pub const WAITS: &[u64] = &[
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// The limits of buckets for what takes a while, such as a deploy, in nanoseconds.
pub const TASKS: &[u64] = &[
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
];

/// One of each for a few threads, in memory that they do not share (two cache lines, since processors fetch pairs).
#[derive(Debug)]
struct Sharded<T>([Padded<T>; SHARDS]);

#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

thread_local! {
    /// Only its address counts: it differs from thread to thread.
    static HERE: u8 = const { 0 };
}

impl<T> Sharded<T> {
    fn of(make: impl Fn() -> T) -> Self {
        Self(array::from_fn(|_| Padded(make())))
    }

    /// This thread's.
    fn here(&self) -> &T {
        let address = HERE.with(|here| std::ptr::from_ref(here).addr() as u64);
        // The upper bits of such a product depend on all bits (Knuth, volume 3, 6.4).
        let spread = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let [first, ..] = &self.0;
        &self.0.get(spread as usize % SHARDS).unwrap_or(first).0
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

/// Counts a few kinds of what happens; which number is which kind is its user's business.
#[derive(Debug)]
pub struct Counters<const N: usize>(Sharded<[AtomicU64; N]>);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self(Sharded::of(|| array::from_fn(|_| AtomicU64::new(0))))
    }
}

impl<const N: usize> Counters<N> {
    /// So many more of a kind; nothing where there is no such kind.
    pub fn add(&self, kind: usize, count: u64) {
        if let Some(counter) = self.0.here().get(kind) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many there were of a kind.
    #[must_use]
    pub fn get(&self, kind: usize) -> u64 {
        self.0.all().filter_map(|part| part.get(kind)).map(|part| part.load(Ordering::Relaxed)).sum()
    }
}

/// Counts what happens.
#[derive(Debug, Default)]
pub struct Counter(Counters<1>);

impl Counter {
    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.add(0, count);
    }

    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get(0)
    }
}

/// Counts how often something took how long, and remembers for each bucket a call that did.
#[derive(Debug)]
pub struct Histogram {
    /// The largest value of each bucket but the last, in nanoseconds, in ascending order.
    limits: &'static [u64],
    shards: Sharded<Shard>,
    /// Of each bucket; made for the first one.
    exemplars: OnceLock<Box<[Mutex<Option<Exemplar>>]>>,
}

#[derive(Debug)]
struct Shard {
    buckets: Box<[AtomicU64]>,
    /// In nanoseconds.
    sum: AtomicU64,
}

/// A call that took so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// The id of its trace.
    pub trace: u128,
    /// How long it took.
    pub value: Duration,
    /// When that was, since 1970.
    pub at: Duration,
}

/// A bucket, without those below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The largest value in it, in nanoseconds; none for the last one.
    pub most: Option<u64>,
    /// How many are in it.
    pub count: u64,
}

/// What a histogram has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readout {
    /// From the smallest to the largest.
    pub buckets: Vec<(Bucket, Option<Exemplar>)>,
    /// Of all values.
    pub sum: Duration,
}

impl Readout {
    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(bucket, _)| bucket.count).sum()
    }
}

impl Histogram {
    /// One with these limits of buckets, in nanoseconds and ascending.
    #[must_use]
    pub fn new(limits: &'static [u64]) -> Self {
        let shard =
            || Shard { buckets: (0..=limits.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) };
        Self { limits, shards: Sharded::of(shard), exemplars: OnceLock::new() }
    }

    /// Counts something that took so long.
    pub fn observe(&self, value: Duration) {
        let (nanos, index) = self.place(value);
        let shard = self.shards.here();
        if let Some(bucket) = shard.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        shard.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Names the trace that recorded something which took so long and is counted already. Whoever finds another thread at it leaves
    /// it: any exemplar is as good.
    pub fn exemplify(&self, value: Duration, trace: u128) {
        let buckets = || (0..=self.limits.len()).map(|_| Mutex::default()).collect();
        let slot = self.exemplars.get_or_init(buckets).get(self.place(value).1);
        if let Some(mut slot) = slot.and_then(|slot| slot.try_lock().ok()) {
            *slot = Some(Exemplar { trace, value, at: since_epoch() });
        }
    }

    /// In nanoseconds, and in which bucket that is.
    fn place(&self, value: Duration) -> (u64, usize) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        (nanos, self.limits.partition_point(|most| *most < nanos))
    }

    /// Counts what another one with the same limits has counted.
    pub fn absorb(&self, other: &Readout) {
        let shard = self.shards.here();
        for (bucket, (counted, _)) in shard.buckets.iter().zip(&other.buckets) {
            bucket.fetch_add(counted.count, Ordering::Relaxed);
        }
        let nanos = u64::try_from(other.sum.as_nanos()).unwrap_or(u64::MAX);
        shard.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What it has counted.
    #[must_use]
    pub fn read(&self) -> Readout {
        let limits = self.limits.iter().copied().map(Some).chain([None]);
        let buckets =
            limits.enumerate().map(|(index, most)| (Bucket { most, count: self.count(index) }, self.seen(index)));
        let sum = self.shards.all().map(|shard| shard.sum.load(Ordering::Relaxed));
        Readout { buckets: buckets.collect(), sum: Duration::from_nanos(sum.fold(0, u64::wrapping_add)) }
    }

    fn count(&self, index: usize) -> u64 {
        let of = |shard: &Shard| shard.buckets.get(index).map_or(0, |bucket| bucket.load(Ordering::Relaxed));
        self.shards.all().map(of).sum()
    }

    fn seen(&self, index: usize) -> Option<Exemplar> {
        *self.exemplars.get()?.get(index)?.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn threads_count_together() {
        let (counter, histogram) = (Arc::new(Counter::default()), Arc::new(Histogram::new(WAITS)));
        let threads = (0..8).map(|_| {
            let (counter, histogram) = (counter.clone(), histogram.clone());
            thread::spawn(move || {
                for _ in 0..10_000 {
                    counter.increment();
                    histogram.observe(Duration::from_micros(100));
                    histogram.exemplify(Duration::from_micros(100), 7);
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let readout = histogram.read();
        assert_eq!((counter.get(), readout.count(), readout.sum), (80_000, 80_000, Duration::from_secs(8)));
    }

    #[test]
    fn a_value_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[10, 20]);
        for nanos in [0, 10, 11, 20, 21, u64::MAX / 2] {
            histogram.observe(Duration::from_nanos(nanos));
        }
        let counts: Vec<_> = histogram.read().buckets.iter().map(|(bucket, _)| (bucket.most, bucket.count)).collect();
        assert_eq!(counts, [(Some(10), 2), (Some(20), 2), (None, 2)]);
    }

    #[test]
    fn kinds_are_counted_apart() {
        let counters = Counters::<2>::default();
        counters.add(0, 3);
        counters.add(1, 4);
        counters.add(2, 5);
        assert_eq!([0, 1, 2].map(|kind| counters.get(kind)), [3, 4, 0]);
    }

    #[test]
    fn what_one_has_counted_another_can_take_over() {
        let (one, other) = (Histogram::new(&[10, 20]), Histogram::new(&[10, 20]));
        [5, 15, 25].into_iter().for_each(|nanos| one.observe(Duration::from_nanos(nanos)));
        other.observe(Duration::from_nanos(5));
        other.absorb(&one.read());
        let counts: Vec<_> = other.read().buckets.iter().map(|(bucket, _)| bucket.count).collect();
        assert_eq!((counts, other.read().sum), (vec![2, 1, 1], Duration::from_nanos(50)));
    }

    #[test]
    fn limits_ascend() {
        for limits in [CALLS, WAITS, TASKS] {
            assert!(limits.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn each_bucket_remembers_the_last_call_with_a_trace() {
        let histogram = Histogram::new(&[10]);
        assert!(histogram.read().buckets.iter().all(|(_, exemplar)| exemplar.is_none()));
        histogram.observe(Duration::from_nanos(5));
        histogram.exemplify(Duration::from_nanos(5), 1);
        histogram.observe(Duration::from_nanos(6));
        histogram.exemplify(Duration::from_nanos(6), 2);
        histogram.observe(Duration::from_nanos(7));
        let seen = histogram.read().buckets[0].1.unwrap();
        assert_eq!((seen.trace, seen.value), (2, Duration::from_nanos(6)));
    }
}
