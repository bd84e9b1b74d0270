//! Reads lines from DWARF (version 2 to 5) for 32-bit WebAssembly. It is hostile input: time is linear in its size, memory
//! bounded, nothing is followed that could lead in a circle, and a unit that is broken is read as far as it goes.

use std::collections::HashMap;

use gimli::{
    AttributeSpecification, AttributeValue, DebugInfo, DebugLine, DebugLineOffset, EndianSlice, EntriesRaw,
    LineProgramHeader, LittleEndian, Reader, UnitHeader, constants,
};

use super::Files;
use super::abbreviations;
use super::modules::Sections;
use super::paths::Parts;
use crate::line_table::Absent;

/// The rest of a section.
pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;
/// The head of a unit's lines.
pub(super) type Header<'a> = LineProgramHeader<Slice<'a>>;

/// Most compilation units that are read of a module.
pub(super) const MAX_UNITS: usize = 50_000;
/// Most bytes of the tables of files at the head of a unit's lines: in memory they are up to 60 times as large.
const MAX_HEADER: usize = 1 << 20;
/// Longest text that is looked at, in bytes.
const MAX_TEXT: usize = 1024;
/// Bytes of an address.
const ADDRESS: u8 = 4;

/// Where code comes from, from an address on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceRow {
    /// Counted from the contents of the code section.
    pub(super) address: u32,
    pub(super) file: u32,
    /// 0 where nothing is known.
    pub(super) line: u32,
}

/// The rows of a module whose code has so many bytes, by address.
///
/// # Errors
/// There are more than `room`.
pub(super) fn rows(debug: &Sections<'_>, code: u32, files: &mut Files, room: usize) -> Result<Vec<SourceRow>, Absent> {
    let folders = folders(debug);
    let mut found = Found { debug, code, files, room, rows: Vec::new() };
    let mut at = 0;
    for _ in 0..MAX_UNITS {
        let Some(unit) = Unit::peek(debug.line, at) else {
            // What ends a sequence comes before what begins the next at the same address.
            found.rows.sort_by_key(|row| (row.address, row.line != 0));
            return Ok(found.rows);
        };
        if unit.header <= MAX_HEADER {
            found.read(at, folders.get(&at).copied().unwrap_or_default())?;
        }
        at = unit.end;
    }
    Err(Absent::TooLarge)
}

/// What can be known of a unit's lines before they are read.
struct Unit {
    /// Where the next one begins.
    end: usize,
    /// Bytes of its header.
    header: usize,
}

impl Unit {
    fn peek(section: &[u8], at: usize) -> Option<Self> {
        let mut rest = Slice::new(section.get(at..)?, LittleEndian);
        let (length, format) = rest.read_initial_length().ok()?;
        let end = section.len().checked_sub(rest.len())?.checked_add(length).filter(|end| *end <= section.len())?;
        if rest.read_u16().ok()? >= 5 {
            rest.skip(2).ok()?;
        }
        Some(Self { end, header: rest.read_length(format).ok()? })
    }
}

/// What was found so far.
struct Found<'a, 'f> {
    debug: &'a Sections<'a>,
    code: u32,
    files: &'f mut Files,
    room: usize,
    rows: Vec<SourceRow>,
}

impl<'a> Found<'a, '_> {
    /// Reads the unit at an offset, which was compiled in `folder`.
    fn read(&mut self, at: usize, folder: &'a [u8]) -> Result<(), Absent> {
        let section = DebugLine::new(self.debug.line, LittleEndian);
        let Ok(program) = section.program(DebugLineOffset(at), ADDRESS, None, None) else { return Ok(()) };
        let (mut rows, mut known, mut last) = (program.rows(), HashMap::new(), None);
        while let Ok(Some((header, row))) = rows.next_row() {
            let Some(address) = u32::try_from(row.address()).ok().filter(|at| (1..=self.code).contains(at)) else {
                continue;
            };
            let line = row.line().and_then(|line| u32::try_from(line.get()).ok()).filter(|_| !row.end_sequence());
            let mut file =
                || *known.entry(row.file_index()).or_insert_with(|| self.file(header, row.file_index(), folder));
            let place = line.and_then(|line| Some((file()?, line)));
            if last != Some(place) {
                self.push(address, place)?;
            }
            last = (!row.end_sequence()).then_some(place);
        }
        Ok(())
    }

    fn push(&mut self, address: u32, place: Option<(u32, u32)>) -> Result<(), Absent> {
        if self.rows.len() >= self.room {
            return Err(Absent::TooLarge);
        }
        let (file, line) = place.unwrap_or_default();
        self.rows.push(SourceRow { address, file, line });
        Ok(())
    }

    fn file(&mut self, header: &Header<'a>, index: u64, folder: &'a [u8]) -> Option<u32> {
        let (path, own) = path(self.debug, header, index, folder)?;
        Some(self.files.index(path, own))
    }
}

/// The head of a unit's lines, and its length in bytes.
pub(super) fn header<'a>(debug: &Sections<'a>, at: usize) -> Option<(Header<'a>, usize)> {
    let length = Unit::peek(debug.line, at)?.header;
    let section = DebugLine::new(debug.line, LittleEndian);
    let program = (length <= MAX_HEADER).then(|| section.program(DebugLineOffset(at), ADDRESS, None, None))?;
    Some((program.ok()?.header().clone(), length))
}

/// The path of a file of a unit by its index, and whether it is the developer's own; nothing where it has no name.
pub(super) fn path<'a>(
    debug: &Sections<'a>,
    header: &Header<'a>,
    index: u64,
    folder: &'a [u8],
) -> Option<(String, bool)> {
    let entry = header.file(index)?;
    let name = text(debug, entry.path_name())?;
    let folder_at = |index| header.directory(index).and_then(|folder| text(debug, folder)).unwrap_or_default();
    // Since DWARF 5 the first folder is the unit's own.
    let compiled_in = if header.version() >= 5 { folder_at(0) } else { folder };
    let parts = Parts { compiled_in, folder: folder_at(entry.directory_index()), name };
    Some(parts.shown()).filter(|(path, _)| !path.is_empty())
}

fn text<'a>(debug: &Sections<'a>, value: AttributeValue<Slice<'a>>) -> Option<&'a [u8]> {
    let text = match value {
        AttributeValue::String(text) => text.slice(),
        AttributeValue::DebugStrRef(at) => until_zero(debug.str, at.0)?,
        AttributeValue::DebugLineStrRef(at) => until_zero(debug.line_str, at.0)?,
        _ => return None,
    };
    (text.len() <= MAX_TEXT).then_some(text)
}

fn until_zero(section: &[u8], at: usize) -> Option<&[u8]> {
    let rest = section.get(at..)?;
    let rest = rest.get(..=MAX_TEXT).unwrap_or(rest);
    rest.get(..memchr::memchr(0, rest)?)
}

/// The folder that each unit was compiled in, by the offset of its lines. Before DWARF 5 it stands only at the unit's root.
fn folders<'a>(debug: &Sections<'a>) -> HashMap<usize, &'a [u8]> {
    let mut units = DebugInfo::new(debug.info, LittleEndian).units();
    let units = std::iter::from_fn(|| units.next().ok().flatten());
    let roots = units.take(MAX_UNITS).filter_map(|unit| root(debug, &unit));
    roots.filter_map(|root| Some((root.lines?, root.folder))).collect()
}

/// What the root of a unit says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Root<'a> {
    /// Where its lines are.
    pub(super) lines: Option<usize>,
    /// Where it was compiled.
    pub(super) folder: &'a [u8],
    /// The address that its ranges count from.
    pub(super) low: u64,
}

/// Reads the root alone: to read all abbreviations for each unit would take time that grows with the square of their number.
fn root<'a>(debug: &Sections<'a>, unit: &UnitHeader<Slice<'a>>) -> Option<Root<'a>> {
    let abbreviations = abbreviations::first(debug.abbrev.get(unit.debug_abbrev_offset().0..)?)?;
    let mut entries = unit.entries_raw(&abbreviations, None).ok()?;
    let attributes = entries.read_abbreviation().ok()??.attributes();
    read_root(debug, &mut entries, attributes)
}

/// Reads the attributes of a root.
pub(super) fn read_root<'a>(
    debug: &Sections<'a>,
    entries: &mut EntriesRaw<'_, Slice<'a>>,
    attributes: &[AttributeSpecification],
) -> Option<Root<'a>> {
    let mut root = Root::default();
    for attribute in attributes {
        let value = entries.read_attribute(*attribute).ok()?;
        match (value.name(), value.value()) {
            (constants::DW_AT_stmt_list, AttributeValue::DebugLineRef(at)) => root.lines = Some(at.0),
            (constants::DW_AT_comp_dir, value) => root.folder = text(debug, value).unwrap_or_default(),
            (constants::DW_AT_low_pc, AttributeValue::Addr(low)) => root.low = low,
            _ => {}
        }
    }
    Some(root)
}
