//! What is still to be reported: reports that have not been answered, as they were or may have been sent, and what has come since, in
//! one. Nothing is dropped; where it gets much, keys are told apart no longer. Pure: `kept` has it on disk.

use std::collections::{BTreeMap, VecDeque};

use dunlin_proto::{
    ids::VersionKey,
    internal::v1::{ReportUsageRequest, UsageDelta},
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
    gateway: String,
    /// Tells reports of this process from those of an earlier one.
    boot: u64,
    /// Of the last report that was made.
    sequence: u64,
    /// Reports that have not been answered, those of earlier processes first.
    made: VecDeque<ReportUsageRequest>,
    pending: BTreeMap<Line, Totals>,
    /// Something has been added since the reports were last copied.
    added: bool,
}

impl Outbox {
    /// Begins with what earlier processes of this gateway could not report.
    pub(super) fn new(gateway: String, boot: u64, earlier: Vec<ReportUsageRequest>) -> Self {
        // It may have got another name since, and may report in no other one.
        let earlier = earlier.into_iter().map(|report| ReportUsageRequest { gateway: gateway.clone(), ..report });
        Self { made: earlier.collect(), gateway, boot, ..Self::default() }
    }

    /// Adds to what is to be reported.
    pub(super) fn add(&mut self, line: Line, totals: Totals) {
        let line = if self.pending.len() < MOST_WAITING { line } else { Line { key: None, ..line } };
        self.pending.entry(line).or_default().add(totals);
        self.added = true;
    }

    /// What is to be sent now: the same as before, until it has been answered.
    pub(super) fn first(&self) -> Option<&ReportUsageRequest> {
        self.made.front()
    }

    /// Makes reports of what waits, once all before have been answered. Says whether there are new ones.
    pub(super) fn make(&mut self) -> bool {
        if !self.made.is_empty() || self.pending.is_empty() {
            return false;
        }
        self.made = self.reports();
        self.sequence = self.made.back().map_or(self.sequence, |last| last.sequence);
        self.pending.clear();
        true
    }

    /// What was sent has been counted.
    pub(super) fn answered(&mut self) {
        self.made.pop_front();
    }

    /// Whether something has been added since [`Self::copied`].
    pub(super) fn has_news(&self) -> bool {
        self.added
    }

    /// All that has not been answered, as reports that can be sent by another process if this one sends nothing more: what waits gets
    /// the numbers that it gets in [`Self::make`].
    pub(super) fn copied(&mut self) -> Vec<ReportUsageRequest> {
        self.added = false;
        self.made.iter().cloned().chain(self.reports()).collect()
    }

    /// What waits, as reports.
    fn reports(&self) -> VecDeque<ReportUsageRequest> {
        let deltas: Vec<_> = self.pending.iter().map(|(line, totals)| delta(line, *totals)).collect();
        let report = |(sequence, deltas): (u64, &[UsageDelta])| ReportUsageRequest {
            gateway: self.gateway.clone(),
            boot: self.boot,
            sequence,
            deltas: deltas.to_vec(),
        };
        (self.sequence + 1..).zip(deltas.chunks(MOST_SENT)).map(report).collect()
    }

    /// What has not been made a report yet.
    #[cfg(test)]
    pub(super) fn pending(&self) -> impl Iterator<Item = (&Line, &Totals)> {
        self.pending.iter()
    }
}

fn delta(line: &Line, totals: Totals) -> UsageDelta {
    UsageDelta {
        version: Some(wire::version_ref(line.version)),
        namespace: line.function.namespace.to_string(),
        function: line.function.function.to_string(),
        key: line.key.as_ref().map(ToString::to_string).unwrap_or_default(),
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

    fn next(outbox: &mut Outbox) -> Option<ReportUsageRequest> {
        outbox.make();
        outbox.first().cloned()
    }

    fn calls(reports: &[ReportUsageRequest]) -> Vec<(u64, u64, u64)> {
        let sum = |report: &ReportUsageRequest| report.deltas.iter().map(|delta| delta.invocations).sum();
        reports.iter().map(|report| (report.boot, report.sequence, sum(report))).collect()
    }

    #[test]
    fn what_is_not_answered_is_sent_again_as_it_was_and_the_rest_waits_in_one() {
        let (mut outbox, version) = (Outbox::default(), version());
        assert_eq!(next(&mut outbox), None);
        outbox.add(line(version, 0), once());
        let first = next(&mut outbox).unwrap();
        assert_eq!((first.sequence, first.deltas.len(), first.deltas[0].invocations), (1, 1, 1));
        for _ in 0..3 {
            outbox.add(line(version, 0), once());
            assert_eq!(next(&mut outbox).unwrap(), first, "not answered");
        }
        outbox.add(line(version, 3_600), once());
        outbox.answered();
        let second = next(&mut outbox).unwrap();
        let of = second.deltas.iter().map(|delta| (delta.hour, delta.invocations, delta.memory_byte_seconds));
        assert_eq!((second.sequence, of.collect::<Vec<_>>()), (2, vec![(0, 3, 1), (3_600, 1, 0)]));
        outbox.answered();
        assert_eq!(next(&mut outbox), None);
    }

    #[test]
    fn reports_are_bounded_and_nothing_is_dropped() {
        let mut outbox = Outbox::default();
        let total = 2 * MOST_SENT + 1;
        (0..total).for_each(|_| outbox.add(line(version(), 0), once()));
        let mut sent = Vec::new();
        while let Some(report) = next(&mut outbox) {
            sent.push((report.sequence, report.deltas.len()));
            outbox.answered();
        }
        assert_eq!(sent, [(1, MOST_SENT), (2, MOST_SENT), (3, 1)]);
        let version = version();
        for number in 0..MOST_WAITING + 10 {
            let key = Some(format!("{number:012}").parse().unwrap());
            outbox.add(Line { key, ..line(version, 0) }, once());
        }
        let calls: u64 = outbox.pending().map(|(_, totals)| totals.invocations).sum();
        assert_eq!((outbox.pending.len(), calls), (MOST_WAITING + 1, MOST_WAITING as u64 + 10));
    }

    #[test]
    fn a_copy_has_the_numbers_that_this_process_would_send_and_the_next_one_sends_it_first() {
        let (mut outbox, version) = (Outbox::new("g".into(), 7, Vec::new()), version());
        outbox.add(line(version, 0), once());
        assert!(outbox.make() && !outbox.make());
        (0..MOST_SENT).for_each(|_| outbox.add(line(self::version(), 0), once()));
        outbox.add(line(version, 0), once());
        assert!(outbox.has_news());
        let copy = outbox.copied();
        assert_eq!(calls(&copy), [(7, 1, 1), (7, 2, MOST_SENT as u64), (7, 3, 1)]);
        assert!(!outbox.has_news());
        outbox.answered();
        assert!(outbox.make());
        assert_eq!(outbox.copied(), copy[1..], "made as they were copied");

        let mut later = Outbox::new("renamed".into(), 8, copy);
        later.add(line(version, 0), once());
        assert!(!later.make(), "the earlier ones first");
        assert_eq!(calls(&later.copied())[2..], [(7, 3, 1), (8, 1, 1)]);
        let mut sent = Vec::new();
        while let Some(report) = next(&mut later) {
            sent.push(report);
            later.answered();
        }
        assert_eq!(calls(&sent)[2..], [(7, 3, 1), (8, 1, 1)]);
        assert!(sent.iter().all(|report| report.gateway == "renamed"));
    }
}
