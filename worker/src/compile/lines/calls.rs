//! Where code of others was inlined into the developer's own: there the line of the call says more than one of a library. Pure.

use std::collections::BTreeMap;

use super::Files;
use super::dwarf::SourceRow;

/// Calls by the code that was inlined for them; of one within another the inner one.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<u32, Call>);

/// A call, and where its code ends.
#[derive(Debug, Clone, Copy)]
struct Call {
    end: u32,
    file: u32,
    line: u32,
}

impl Calls {
    /// How many stretches of code are known.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a call whose code is at `start..end`. It covers all that was added before.
    pub(super) fn cover(&mut self, start: u32, end: u32, file: u32, line: u32) {
        let before = self.0.range(..start).next_back().map(|(at, call)| (*at, *call));
        if let Some((at, call)) = before.filter(|(_, call)| call.end > start) {
            self.0.insert(at, Call { end: start, ..call });
            self.keep_behind(end, call);
        }
        while let Some((at, call)) = self.0.range(start..end).next().map(|(at, call)| (*at, *call)) {
            self.0.remove(&at);
            self.keep_behind(end, call);
        }
        self.0.insert(start, Call { end, file, line });
    }

    /// What of a covered call lies behind the `end` of the cover.
    fn keep_behind(&mut self, end: u32, call: Call) {
        if call.end > end {
            self.0.insert(end, call);
        }
    }

    fn at(&self, address: u32) -> Option<Call> {
        self.0.range(..=address).next_back().map(|(_, call)| *call).filter(|call| address < call.end)
    }

    /// Puts the call in the place of every line that is not the developer's own. Rows are by address.
    pub(super) fn applied(&self, rows: Vec<SourceRow>, files: &Files) -> Vec<SourceRow> {
        let edges = self.0.iter().flat_map(|(start, call)| [*start, call.end]);
        let mut addresses: Vec<u32> = rows.iter().map(|row| row.address).chain(edges).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let (mut rows, mut row) = (rows.into_iter().peekable(), SourceRow { address: 0, file: 0, line: 0 });
        let shown = addresses.into_iter().map(|address| {
            while let Some(next) = rows.next_if(|next| next.address <= address) {
                row = next;
            }
            let own = row.line != 0 && files.is_own(row.file);
            let call = self.at(address).filter(|_| !own);
            call.map_or(SourceRow { address, ..row }, |Call { file, line, .. }| SourceRow { address, file, line })
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_lines_of_others_give_way_to_the_call() {
        let mut files = Files::default();
        let (own, other) = (files.index("src/lib.rs".into(), true), files.index("core/option.rs".into(), false));
        let row = |address, file, line| SourceRow { address, file, line };
        let rows = vec![row(2, own, 1), row(10, other, 900), row(20, own, 3), row(30, other, 901), row(50, 0, 0)];
        let mut calls = Calls::default();
        calls.cover(8, 40, own, 7);
        calls.cover(34, 36, own, 8);
        let expected = [
            (2, own, 1),
            (8, own, 1),
            (10, own, 7),
            (20, own, 3),
            (30, own, 7),
            (34, own, 8),
            (36, own, 7),
            (40, other, 901),
            (50, 0, 0),
        ];
        assert_eq!(calls.applied(rows.clone(), &files), expected.map(|(address, file, line)| row(address, file, line)));
        assert_eq!(Calls::default().applied(rows.clone(), &files), rows);
    }

    proptest! {
        #[test]
        fn whatever_overlaps_the_last_one_counts(added in prop::collection::vec((0..60_u32, 1..40_u32), 0..40)) {
            let (mut calls, mut expected) = (Calls::default(), [None; 120]);
            for (line, (start, length)) in added.iter().enumerate() {
                calls.cover(*start, start + length, 0, line as u32);
                expected[*start as usize..(start + length) as usize].fill(Some(line as u32));
            }
            for (address, line) in expected.iter().enumerate() {
                prop_assert_eq!(calls.at(address as u32).map(|call| call.line), *line);
            }
        }
    }
}
