//! Finds calls whose code was inlined, in `.debug_info`. Hostile input as all of DWARF: every step is counted, and when the
//! steps are used up, the lines of what was inlined stay as they are. Addresses by index (`DW_FORM_addrx`) are not looked up.

use std::collections::HashMap;

use gimli::{
    AttributeValue, DebugInfo, DebugRanges, DebugRngLists, EntriesRaw, LittleEndian, RangeLists, RangeListsOffset,
    RawRngListEntry, UnitHeader, constants,
};

use super::Files;
use super::abbreviations;
use super::calls::Calls;
use super::dwarf::{self, Header, MAX_UNITS, Root, Slice, SourceRow};
use super::modules::Sections;

/// Steps for a module: an attribute, an entry of a range, or a byte of a table is one. It is some seconds at most.
const STEPS: usize = 1 << 26;
/// Steps for the path of a file.
const FILE: usize = 128;
/// Most bytes of abbreviations of a unit: in memory they are up to 30 times as large.
const MAX_ABBREVIATIONS: usize = 1 << 20;
/// Most stretches of inlined code of a module.
const MAX_CALLS: usize = 1 << 18;

/// The rows of a module, those of inlined code of others replaced by the call.
pub(super) fn resolved(debug: &Sections<'_>, code: u32, files: &mut Files, rows: Vec<SourceRow>) -> Vec<SourceRow> {
    let mut walk = Walk { debug, code, files, steps: STEPS, calls: Calls::default() };
    let mut units = DebugInfo::new(debug.info, LittleEndian).units();
    for unit in std::iter::from_fn(|| units.next().ok().flatten()).take(MAX_UNITS) {
        // A unit that is broken says nothing more.
        let _ = walk.unit(&unit);
    }
    if walk.calls.len() == 0 { rows } else { walk.calls.applied(rows, walk.files) }
}

struct Walk<'a, 'f> {
    debug: &'a Sections<'a>,
    code: u32,
    files: &'f mut Files,
    steps: usize,
    calls: Calls,
}

/// What is known of the unit that is being read.
#[derive(Default)]
struct Current<'a> {
    root: Root<'a>,
    /// The head of its lines, which has its files; read for the first call.
    header: Option<Header<'a>>,
    /// Its files by index; nothing for those of others.
    files: HashMap<u64, Option<u32>>,
}

/// A call, as it is described.
#[derive(Default)]
struct Inlined {
    low: Option<u64>,
    high: Option<u64>,
    size: Option<u64>,
    ranges: Option<usize>,
    file: u64,
    line: u64,
}

impl<'a> Walk<'a, '_> {
    fn spend(&mut self, steps: usize) -> Option<()> {
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or(0);
        left.map(drop)
    }

    fn unit(&mut self, unit: &UnitHeader<Slice<'a>>) -> Option<()> {
        let section = self.debug.abbrev.get(unit.debug_abbrev_offset().0..)?;
        let section = section.get(..MAX_ABBREVIATIONS.min(self.steps)).unwrap_or(section);
        let (abbreviations, length) = abbreviations::all(section);
        self.spend(length.max(1))?;
        let abbreviations = abbreviations?;
        let mut entries = unit.entries_raw(&abbreviations, None).ok()?;
        let mut current = Current::default();
        while !entries.is_empty() {
            let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
            let attributes = abbreviation.attributes();
            self.spend(1 + attributes.len())?;
            match abbreviation.tag() {
                constants::DW_TAG_compile_unit => {
                    current.root = dwarf::read_root(self.debug, &mut entries, attributes)?
                }
                constants::DW_TAG_inlined_subroutine => {
                    let inlined = Inlined::read(&mut entries, attributes)?;
                    self.call(unit, &mut current, &inlined)?;
                }
                _ => entries.skip_attributes(attributes).ok()?,
            }
        }
        Some(())
    }

    /// Covers the code of a call that is in a file of the developer's own.
    fn call(&mut self, unit: &UnitHeader<Slice<'a>>, current: &mut Current<'a>, inlined: &Inlined) -> Option<()> {
        let line = u32::try_from(inlined.line).ok().filter(|line| *line != 0);
        let file = self.file(current, inlined.file)?;
        let Some((file, line)) = file.zip(line) else { return Some(()) };
        let high = inlined.high.or_else(|| inlined.low?.checked_add(inlined.size?));
        match (inlined.ranges, inlined.low.zip(high)) {
            (Some(ranges), _) => self.ranges(unit, current.root.low, ranges, (file, line)),
            (None, Some((low, high))) => self.cover(low, high, (file, line)),
            (None, None) => Some(()),
        }
    }

    /// A file of the unit by its index; nothing for those of others, and an end where no file can be known.
    fn file(&mut self, current: &mut Current<'a>, index: u64) -> Option<Option<u32>> {
        if let Some(known) = current.files.get(&index) {
            return Some(*known);
        }
        if current.header.is_none() {
            let (header, length) = dwarf::header(self.debug, current.root.lines?)?;
            self.spend(length)?;
            current.header = Some(header);
        }
        self.spend(FILE)?;
        let path = dwarf::path(self.debug, current.header.as_ref()?, index, current.root.folder);
        let file = path.filter(|(_, own)| *own).map(|(path, own)| self.files.index(path, own));
        current.files.insert(index, file);
        Some(file)
    }

    fn ranges(&mut self, unit: &UnitHeader<Slice<'a>>, mut base: u64, at: usize, place: (u32, u32)) -> Option<()> {
        let bare = DebugRanges::new(self.debug.ranges, LittleEndian);
        let lists = RangeLists::new(bare, DebugRngLists::new(self.debug.rnglists, LittleEndian));
        let mut entries = lists.raw_ranges(RangeListsOffset(at), unit.encoding()).ok()?;
        while let Some(entry) = entries.next().ok()? {
            self.spend(1)?;
            match entry {
                RawRngListEntry::BaseAddress { addr } => base = addr,
                RawRngListEntry::AddressOrOffsetPair { begin, end } | RawRngListEntry::OffsetPair { begin, end } => {
                    self.cover(base.checked_add(begin)?, base.checked_add(end)?, place)?;
                }
                RawRngListEntry::StartEnd { begin, end } => self.cover(begin, end, place)?,
                RawRngListEntry::StartLength { begin, length } => {
                    self.cover(begin, begin.checked_add(length)?, place)?
                }
                _ => {}
            }
        }
        Some(())
    }

    fn cover(&mut self, low: u64, high: u64, (file, line): (u32, u32)) -> Option<()> {
        let (low, high) = (u32::try_from(low).ok(), u32::try_from(high).ok());
        if let Some((low, high)) = low.zip(high).filter(|(low, high)| 1 <= *low && low < high && *high <= self.code) {
            (self.calls.len() < MAX_CALLS).then_some(())?;
            self.calls.cover(low, high, file, line);
        }
        Some(())
    }
}

impl Inlined {
    fn read<'a>(entries: &mut EntriesRaw<'_, Slice<'a>>, attributes: &[gimli::AttributeSpecification]) -> Option<Self> {
        let mut found = Self::default();
        for attribute in attributes {
            let value = entries.read_attribute(*attribute).ok()?;
            match (value.name(), value.value()) {
                (constants::DW_AT_low_pc, AttributeValue::Addr(low)) => found.low = Some(low),
                (constants::DW_AT_high_pc, AttributeValue::Addr(high)) => found.high = Some(high),
                (constants::DW_AT_high_pc, AttributeValue::Udata(size)) => found.size = Some(size),
                (constants::DW_AT_ranges, AttributeValue::RangeListsRef(at)) => found.ranges = Some(at.0),
                (constants::DW_AT_call_file, AttributeValue::FileIndex(file)) => found.file = file,
                (constants::DW_AT_call_line, AttributeValue::Udata(line)) => found.line = line,
                _ => {}
            }
        }
        Some(found)
    }
}
