//! The newest records of each namespace, in memory and bounded.

use std::{
    borrow::Borrow,
    cmp::Reverse,
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dashmap::DashMap;
use dunlin_proto::{
    ids::{InvocationId, Namespace},
    model::Retentions,
    names::Scope,
};

use super::{Record, Wanted};

type Ring = Mutex<VecDeque<Arc<Record>>>;

/// Records of all namespaces together, roughly: many namespaces share it evenly.
const TOTAL: usize = 100_000;
/// Records that each namespace has in any case.
const LEAST: usize = 20;
/// The newest records of the gateway that are there whole.
const RECENT: usize = 10_000;

/// A ring for each namespace.
#[derive(Debug)]
pub(super) struct Rings {
    per_namespace: usize,
    /// How much older than the newest a record may be, where its namespace says nothing else.
    max_age: Duration,
    retentions: Retentions,
    rings: DashMap<Namespace, Arc<Ring>>,
}

impl Rings {
    pub(super) fn new(per_namespace: usize, max_age: Duration, retentions: Retentions) -> Self {
        Self { per_namespace, max_age, retentions, rings: DashMap::new() }
    }

    /// Adds a record; the oldest of its namespace makes room.
    pub(super) fn push(&self, record: Arc<Record>) {
        let max_age = self.retentions.get(&record.function.namespace).age.unwrap_or(self.max_age);
        self.add(record, max_age);
    }

    /// Adds a record of an earlier process, however old: nobody has said yet for how long its namespace keeps them.
    pub(super) fn load(&self, record: Arc<Record>) {
        self.add(record, Duration::MAX);
    }

    fn add(&self, record: Arc<Record>, max_age: Duration) {
        let ring = self.rings.entry(record.function.namespace.clone()).or_default().clone();
        let most = self.per_namespace.min(LEAST.max(TOTAL / self.rings.len().max(1)));
        let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old =
            |old: &Arc<Record>| record.start_time.duration_since(old.start_time).is_ok_and(|age| age > max_age);
        while ring.len() >= most || ring.front().is_some_and(is_old) {
            ring.pop_front();
        }
        ring.push_back(record);
    }

    /// The newest first. Records arrive in the order in which invocations end, but are shown in that of their beginning.
    pub(super) fn list(
        &self,
        scope: &Scope,
        wanted: &Wanted,
        before: Option<InvocationId>,
        limit: usize,
    ) -> Vec<Arc<Record>> {
        self.with(&scope.namespace, |ring| {
            newest(ring.iter(), scope, wanted, before, limit).into_iter().cloned().collect()
        })
    }

    fn with<T: Default>(&self, namespace: &Namespace, read: impl FnOnce(&VecDeque<Arc<Record>>) -> T) -> T {
        let ring = self.rings.get(namespace).map(|ring| ring.clone());
        ring.map(|ring| read(&ring.lock().unwrap_or_else(PoisonError::into_inner))).unwrap_or_default()
    }
}

/// The newest records of all namespaces together, whole whatever is sampled. They lie side by side in memory of their own, so that what
/// the path of a call made a record in is free again at once: memory that comes back only ten thousand calls later is in no processor's
/// cache any more, and each call would pay for that.
#[derive(Debug)]
pub(super) struct Recent(Mutex<VecDeque<Record>>);

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new(VecDeque::with_capacity(RECENT)))
    }
}

impl Recent {
    /// Adds records; the oldest make room.
    pub(super) fn push(&self, records: impl ExactSizeIterator<Item = Record>) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let beyond = (recent.len() + records.len()).saturating_sub(RECENT).min(recent.len());
        recent.drain(..beyond);
        // So many may come at once that the first of them have no place either.
        let passed = records.len().saturating_sub(RECENT);
        recent.extend(records.skip(passed).map(settled));
    }

    /// The newest first.
    pub(super) fn list(
        &self,
        scope: &Scope,
        wanted: &Wanted,
        before: Option<InvocationId>,
        limit: usize,
    ) -> Vec<Arc<Record>> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = newest(recent.iter(), scope, wanted, before, limit);
        found.into_iter().map(|record| Arc::new(record.clone())).collect()
    }
}

/// A record in memory of its own, down to the text that nearly each of them has.
fn settled(mut record: Record) -> Record {
    record.path = record.path.as_str().to_owned();
    record.request_id = record.request_id.as_str().to_owned();
    record
}

/// Those that are wanted, the newest first.
fn newest<'r, R: Borrow<Record>>(
    records: impl Iterator<Item = &'r R>,
    scope: &Scope,
    wanted: &Wanted,
    before: Option<InvocationId>,
    limit: usize,
) -> Vec<&'r R> {
    let matches = |record: &&R| wanted.lists((*record).borrow(), scope, before);
    let mut found: Vec<_> = records.filter(matches).collect();
    found.sort_unstable_by_key(|record| Reverse((*record).borrow().id));
    found.truncate(limit);
    found
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{model::Retention, v1};

    use super::*;
    use crate::records::file::tests::record;

    #[test]
    fn each_namespace_keeps_its_newest() {
        let rings = Rings::new(3, Duration::from_secs(3_600), Retentions::default());
        let records: Vec<_> = (0..5).map(|_| Arc::new(record("shop", "pay"))).collect();
        records.iter().for_each(|record| rings.push(record.clone()));
        let mut failed = record("shop", "cart");
        failed.outcome = "internal".into();
        rings.push(Arc::new(failed.clone()));
        rings.push(Arc::new(record("bank", "pay")));
        let list = |scope: &str, failed_only, before| -> Vec<_> {
            let wanted = Wanted { failed_only, ..Wanted::default() };
            rings.list(&scope.parse().unwrap(), &wanted, before, 2).iter().map(|r| r.id).collect()
        };
        assert_eq!(list("namespaces/shop", false, None), [failed.id, records[4].id]);
        assert_eq!(list("namespaces/shop", true, None), [failed.id]);
        assert_eq!(list("namespaces/shop/functions/pay", false, Some(records[4].id)), [records[3].id]);
        assert!(list("namespaces/nobody", false, None).is_empty());
    }

    #[test]
    fn a_record_is_found_by_its_id_and_by_its_callers() {
        let rings = Rings::new(3, Duration::from_secs(3_600), Retentions::default());
        let (mut mine, other) = (record("shop", "pay"), Arc::new(record("shop", "pay")));
        mine.request_id = "mine-1".into();
        rings.push(Arc::new(mine.clone()));
        rings.push(other.clone());
        let find = |request_id: &str| -> Vec<_> {
            let request = v1::ListInvocationsRequest { request_id: request_id.into(), ..Default::default() };
            let found = rings.list(&"namespaces/shop".parse().unwrap(), &Wanted::try_from(&request).unwrap(), None, 9);
            found.iter().map(|record| record.id).collect()
        };
        assert_eq!(find("mine-1"), [mine.id]);
        assert_eq!(find(&mine.id.to_string()), [mine.id]);
        assert_eq!(find(""), [other.id, mine.id]);
        assert!(find("mine").is_empty());
    }

    #[test]
    fn t46_a_record_is_found_under_its_own_namespace_only() {
        let rings = Rings::new(3, Duration::from_secs(3_600), Retentions::default());
        let record = Arc::new(record("shop", "pay"));
        rings.push(record.clone());
        let request = v1::ListInvocationsRequest { request_id: record.id.to_string(), ..Default::default() };
        let wanted = Wanted::try_from(&request).unwrap();
        let find = |scope: &str| rings.list(&scope.parse().unwrap(), &wanted, None, 1);
        assert_eq!(find("namespaces/shop/functions/pay"), [record]);
        for other in ["namespaces/bank/functions/pay", "namespaces/bank", "namespaces/shop/functions/cart"] {
            assert!(find(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn old_records_of_an_earlier_process_stay_until_it_is_known_for_how_long() {
        let retentions = Retentions::default();
        let rings = Rings::new(9, Duration::from_secs(3_600), retentions.clone());
        let mut old = record("shop", "pay");
        old.start_time -= Duration::from_secs(7_200);
        rings.load(Arc::new(old));
        rings.load(Arc::new(record("shop", "pay")));
        let count = || rings.list(&"namespaces/shop".parse().unwrap(), &Wanted::default(), None, 9).len();
        assert_eq!(count(), 2);
        let day = Retention { age: Some(Duration::from_secs(86_400)), log_bytes: None };
        retentions.replace(&[day.of(&"shop".parse().unwrap())]);
        rings.push(Arc::new(record("shop", "pay")));
        assert_eq!(count(), 3);
        retentions.replace(&[]);
        rings.push(Arc::new(record("shop", "pay")));
        assert_eq!(count(), 3, "the old one has gone");
    }

    #[test]
    fn the_newest_of_the_gateway_are_all_there_and_those_that_are_too_old_go() {
        let recent = Recent::default();
        let records: Vec<_> = (0..RECENT + 5).map(|_| record("shop", "pay")).collect();
        records.chunks(999).for_each(|some| recent.push(some.iter().cloned()));
        let listed = |scope: &str| recent.list(&scope.parse().unwrap(), &Wanted::default(), None, usize::MAX);
        let found = listed("namespaces/shop");
        assert_eq!((found.len(), found[0].id), (RECENT, records[RECENT + 4].id));
        let at_once = Recent::default();
        at_once.push(records.iter().cloned());
        let found = at_once.list(&"namespaces/shop".parse().unwrap(), &Wanted::default(), None, usize::MAX);
        assert_eq!((found.len(), found[0].id), (RECENT, records[RECENT + 4].id));
        assert!(listed("namespaces/bank").is_empty() && listed("namespaces/shop/functions/cart").is_empty());
        let rings = Rings::new(3, Duration::from_secs(3_600), Retentions::default());
        let mut later = record("shop", "pay");
        rings.push(Arc::new(records[0].clone()));
        later.start_time += Duration::from_secs(3_601);
        rings.push(Arc::new(later));
        assert_eq!(rings.list(&"namespaces/shop".parse().unwrap(), &Wanted::default(), None, 9).len(), 1);
    }
}
