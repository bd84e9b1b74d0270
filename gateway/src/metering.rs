//! What invocations use, counted for each version and key from every receipt, and namespaces that have used up their budget.
//!
//! Counts are in memory for a second at the most; then the scheduler has them (`metering/report.rs`), or they wait until it can be
//! reached (`metering/outbox.rs`), on disk as well (`metering/kept.rs`). Records have no part in this: they may be dropped, counts may
//! not. What a budget is, and whether it is used up, the scheduler decides.

mod budgets;
mod kept;
mod outbox;
pub(crate) mod report;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use dashmap::DashMap;
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::VersionKey,
    internal::v1::SpentBudgets,
    names::{FunctionRef, KeyId},
};

use crate::{
    auth::CallerIdentity,
    dispatch::CalledBy,
    records::{Receipt, Record},
};
use budgets::Budgets;
use outbox::{Line, Outbox};

/// Keys of a version that are counted apart within a second; what more of them use counts as used without a key.
const MOST_KEYS: usize = 1_000;

/// What was used, to be added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    invocations: u64,
    cpu_micros: u64,
    /// Peak bytes times run microseconds: short calls add up, too.
    memory_byte_micros: u128,
    bytes_in: u64,
    bytes_out: u64,
}

/// What a version's calls used.
#[derive(Debug)]
struct OfVersion {
    function: FunctionRef,
    /// By calls without a key, and those of keys beyond the most.
    others: Totals,
    keys: HashMap<KeyId, Totals>,
}

/// Counts what invocations use. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metering {
    counted: Arc<DashMap<VersionKey, OfVersion>>,
    budgets: Budgets,
}

/// Where one invocation is counted.
#[derive(Debug)]
pub(crate) struct Meter {
    metering: Metering,
    version: VersionKey,
    key: Option<KeyId>,
}

impl Totals {
    fn of(receipt: &Receipt) -> Self {
        Self {
            invocations: 1,
            cpu_micros: u64::try_from(receipt.cpu.as_micros()).unwrap_or(u64::MAX),
            memory_byte_micros: u128::from(receipt.peak_memory_bytes).saturating_mul(receipt.run.as_micros()),
            bytes_in: receipt.bytes_in,
            bytes_out: receipt.bytes_out,
        }
    }

    fn add(&mut self, other: Self) {
        self.invocations = self.invocations.saturating_add(other.invocations);
        self.cpu_micros = self.cpu_micros.saturating_add(other.cpu_micros);
        self.memory_byte_micros = self.memory_byte_micros.saturating_add(other.memory_byte_micros);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
    }
}

impl OfVersion {
    fn new(function: FunctionRef) -> Self {
        Self { function, others: Totals::default(), keys: HashMap::new() }
    }

    fn add(&mut self, key: Option<&KeyId>, totals: Totals) {
        let full = self.keys.len() >= MOST_KEYS;
        match key.map(|key| (self.keys.get_mut(key), key)) {
            Some((Some(known), _)) => known.add(totals),
            Some((None, key)) if !full => {
                self.keys.insert(key.clone(), totals);
            }
            Some((None, _)) | None => self.others.add(totals),
        }
    }
}

/// Whether a worker began it. What all workers refused is no invocation, whatever it waited for.
fn began(record: &Record) -> bool {
    !record.worker.is_empty() && record.outcome != ErrorCode::Unavailable.as_str()
}

impl Metering {
    /// Where an invocation of a version's is counted.
    pub(crate) fn meter(&self, version: VersionKey, by: Option<&CalledBy>) -> Meter {
        let key = match by.and_then(|by| by.identity.as_ref()) {
            Some(CallerIdentity::Key(key)) => Some(key.clone()),
            _ => None,
        };
        Meter { metering: self.clone(), version, key }
    }

    /// Refuses a call of a namespace that has used up its budget.
    ///
    /// # Errors
    /// `TooManyRequests`, until the period ends.
    pub(crate) fn check(&self, function: &FunctionRef) -> Result<(), ApiError> {
        self.budgets.check(&function.namespace, seconds)
    }

    /// Learns which budgets are used up: these and no others.
    pub(crate) fn refuse(&self, spent: SpentBudgets) {
        self.budgets.set(spent);
    }

    fn add(&self, version: VersionKey, key: Option<&KeyId>, function: &FunctionRef, totals: Totals) {
        if let Some(mut known) = self.counted.get_mut(&version) {
            known.add(key, totals);
            return;
        }
        let mut entry = self.counted.entry(version).or_insert_with(|| OfVersion::new(function.clone()));
        entry.add(key, totals);
    }

    /// Moves what has been counted into the outbox, as used within this hour.
    fn drain(&self, outbox: &mut Outbox, hour: i64) {
        self.counted.retain(|version, of| {
            let line = |key| Line { function: of.function.clone(), version: *version, key, hour };
            if of.others.invocations > 0 {
                outbox.add(line(None), of.others);
            }
            for (key, totals) in std::mem::take(&mut of.keys) {
                outbox.add(line(Some(key)), totals);
            }
            false
        });
    }
}

impl Meter {
    /// Counts the invocation, which has ended.
    pub(crate) fn count(&self, record: &Record) {
        if began(record) {
            self.metering.add(self.version, self.key.as_ref(), &record.function, Totals::of(&record.receipt));
        }
    }
}

/// Seconds since 1970.
fn seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dunlin_proto::ids::{FunctionUid, InvocationId, VersionNumber};

    use super::*;

    fn record(worker: &str, outcome: &str) -> Record {
        Record {
            id: InvocationId::new(),
            function: "namespaces/shop/functions/pay".parse().unwrap(),
            version: VersionNumber::FIRST,
            start_time: SystemTime::now(),
            method: "GET".into(),
            path: "/".to_owned(),
            status: 200,
            gateway: "g".parse().unwrap(),
            worker: worker.into(),
            outcome: outcome.to_owned().into(),
            error: String::new(),
            receipt: Receipt {
                run: Duration::from_micros(500),
                cpu: Duration::from_micros(400),
                peak_memory_bytes: 1 << 20,
                bytes_in: 3,
                bytes_out: 5,
                ..Receipt::default()
            },
            request_id: String::new(),
            weight: 1,
            hint: String::new(),
            came: crate::records::Came::default(),
        }
    }

    fn version() -> VersionKey {
        VersionKey { function: FunctionUid::new(), number: VersionNumber::FIRST }
    }

    fn drained(metering: &Metering) -> Vec<(Option<String>, Totals)> {
        let mut outbox = Outbox::default();
        metering.drain(&mut outbox, 0);
        outbox.pending().map(|(line, totals)| (line.key.as_ref().map(ToString::to_string), *totals)).collect()
    }

    #[test]
    fn what_a_worker_began_counts_by_key_and_nothing_else_does() {
        let (metering, version) = (Metering::default(), version());
        let by_key = CalledBy {
            identity: Some(CallerIdentity::Key("abcDEF123456".parse().unwrap())),
            address: "192.0.2.1".parse().unwrap(),
        };
        for (worker, outcome) in [("w", "ok"), ("w", "function_failed"), ("w", "cancelled"), ("w", "worker_lost")] {
            metering.meter(version, Some(&by_key)).count(&record(worker, outcome));
        }
        for (worker, outcome) in [("", "unavailable"), ("", "cancelled"), ("w", "unavailable")] {
            metering.meter(version, Some(&by_key)).count(&record(worker, outcome));
        }
        metering.meter(version, None).count(&record("w", "ok"));
        let found = drained(&metering);
        let keys: Vec<_> = found.iter().map(|(key, totals)| (key.as_deref(), totals.invocations)).collect();
        assert_eq!(keys, [(None, 1), (Some("abcDEF123456"), 4)]);
        let totals = found[1].1;
        assert_eq!((totals.cpu_micros, totals.bytes_in, totals.bytes_out), (1_600, 12, 20));
        assert_eq!(totals.memory_byte_micros, 4 * 500 * (1 << 20));
        assert!(drained(&metering).is_empty(), "it counts once");
    }

    #[test]
    fn keys_beyond_the_most_count_together() {
        let (metering, version) = (Metering::default(), version());
        let function = record("w", "ok").function;
        for number in 0..MOST_KEYS + 50 {
            let key: KeyId = format!("{number:012}").parse().unwrap();
            let once = Totals { invocations: 1, ..Totals::default() };
            metering.add(version, Some(&key), &function, once);
            metering.add(version, Some(&key), &function, once);
        }
        let found = drained(&metering);
        assert_eq!((found.len(), found[0].1.invocations), (MOST_KEYS + 1, 100));
        assert_eq!(found.iter().map(|(_, totals)| totals.invocations).sum::<u64>(), 2 * (MOST_KEYS as u64 + 50));
    }

    #[test]
    fn threads_lose_nothing_while_it_is_drained() {
        let (metering, version) = (Metering::default(), version());
        let record = record("w", "ok");
        let counted: u64 = std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5_000).for_each(|_| metering.meter(version, None).count(&record)));
            }
            (0..50).map(|_| drained(&metering).iter().map(|(_, totals)| totals.invocations).sum::<u64>()).sum()
        });
        let rest: u64 = drained(&metering).iter().map(|(_, totals)| totals.invocations).sum();
        assert_eq!(counted + rest, 20_000);
    }
}
