//! What is still to be reported: what has been sent and not been answered, as it was sent, and what has come since, in one. Nothing
//! is dropped; where it gets much, keys are told apart no longer. Pure.

use std::collections::BTreeMap;

use dunlin_proto::{
    ids::VersionKey,
    internal::v1::UsageDelta,
    names::{FunctionRef, KeyId},
};

use super::Totals;
use crate::dispatch::wire;

/// Lines of one report.
const MOST_SENT: usize = 1_000;
/// Lines that wait with their keys.
const MOST_WAITING: usize = 50_000;

/// What is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) function: FunctionRef,
    pub(super) version: VersionKey,
    pub(super) key: Option<KeyId>,
    /// When the hour began, in seconds since 1970.
    pub(super) hour: i64,
}

/// What is still to be reported.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Of the last report.
    sequence: u64,
    /// The report that has not been answered.
    sent: Vec<UsageDelta>,
    pending: BTreeMap<Line, Totals>,
}

impl Outbox {
    /// Adds to what is to be reported.
    pub(super) fn add(&mut self, line: Line, totals: Totals) {
        let line = if self.pending.len() < MOST_WAITING { line } else { Line { key: None, ..line } };
        self.pending.entry(line).or_default().add(totals);
    }

    /// What is to be sent now: the same as before, until it has been answered. Nothing where there is nothing to say.
    pub(super) fn next(&mut self) -> Option<(u64, Vec<UsageDelta>)> {
        if self.sent.is_empty() {
            let rest = self.pending.keys().nth(MOST_SENT).cloned();
            let rest = rest.map(|first| self.pending.split_off(&first)).unwrap_or_default();
            let now = std::mem::replace(&mut self.pending, rest);
            self.sent = now.into_iter().map(|(line, totals)| delta(line, totals)).collect();
            self.sequence += u64::from(!self.sent.is_empty());
        }
        (!self.sent.is_empty()).then(|| (self.sequence, self.sent.clone()))
    }

    /// What was sent has been counted.
    pub(super) fn answered(&mut self) {
        self.sent.clear();
    }

    /// What has not been sent yet.
    #[cfg(test)]
    pub(super) fn pending(&self) -> impl Iterator<Item = (&Line, &Totals)> {
        self.pending.iter()
    }
}

fn delta(line: Line, totals: Totals) -> UsageDelta {
    UsageDelta {
        version: Some(wire::version_ref(line.version)),
        namespace: line.function.namespace.to_string(),
        function: line.function.function.to_string(),
        key: line.key.map(|key| key.to_string()).unwrap_or_default(),
        hour: line.hour,
        invocations: totals.invocations,
        cpu_micros: totals.cpu_micros,
        memory_byte_seconds: u64::try_from(totals.memory_byte_micros / 1_000_000).unwrap_or(u64::MAX),
        bytes_in: totals.bytes_in,
        bytes_out: totals.bytes_out,
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::ids::{FunctionUid, VersionNumber};

    use super::*;

    fn line(version: VersionKey, hour: i64) -> Line {
        Line { function: "namespaces/shop/functions/pay".parse().unwrap(), version, key: None, hour }
    }

    fn once() -> Totals {
        Totals { invocations: 1, memory_byte_micros: 600_000, ..Totals::default() }
    }

    fn version() -> VersionKey {
        VersionKey { function: FunctionUid::new(), number: VersionNumber::FIRST }
    }

    #[test]
    fn what_is_not_answered_is_sent_again_as_it_was_and_the_rest_waits_in_one() {
        let (mut outbox, version) = (Outbox::default(), version());
        assert_eq!(outbox.next(), None);
        outbox.add(line(version, 0), once());
        let first = outbox.next().unwrap();
        assert_eq!((first.0, first.1.len(), first.1[0].invocations), (1, 1, 1));
        for _ in 0..3 {
            outbox.add(line(version, 0), once());
            assert_eq!(outbox.next().unwrap(), first, "not answered");
        }
        outbox.add(line(version, 3_600), once());
        outbox.answered();
        let (sequence, deltas) = outbox.next().unwrap();
        let of: Vec<_> =
            deltas.iter().map(|delta| (delta.hour, delta.invocations, delta.memory_byte_seconds)).collect();
        assert_eq!((sequence, of), (2, vec![(0, 3, 1), (3_600, 1, 0)]));
        outbox.answered();
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn reports_are_bounded_and_nothing_is_dropped() {
        let mut outbox = Outbox::default();
        let total = 2 * MOST_SENT + 1;
        (0..total).for_each(|_| outbox.add(line(version(), 0), once()));
        let mut sent = Vec::new();
        while let Some((_, deltas)) = outbox.next() {
            sent.push(deltas.len());
            outbox.answered();
        }
        assert_eq!(sent, [MOST_SENT, MOST_SENT, 1]);
        let version = version();
        for number in 0..MOST_WAITING + 10 {
            let key = Some(format!("{number:012}").parse().unwrap());
            outbox.add(Line { key, ..line(version, 0) }, once());
        }
        let calls: u64 = outbox.pending().map(|(_, totals)| totals.invocations).sum();
        assert_eq!((outbox.pending.len(), calls), (MOST_WAITING + 1, MOST_WAITING as u64 + 10));
    }
}
