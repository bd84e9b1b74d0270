//! Cuts abbreviations out of `.debug_abbrev`, so that no more of it is parsed than was meant to be: its tables have no length
//! of their own, and each unit may name any place in it.

use gimli::{Abbreviations, DebugAbbrev, DebugAbbrevOffset, LittleEndian, Reader, constants};

use super::dwarf::Slice;

/// Most bytes of a single abbreviation.
const MAX_ONE: usize = 1024;

/// The first one alone, which compilers give to a unit's root.
pub(super) fn first(section: &[u8]) -> Option<Abbreviations> {
    let section = section.get(..MAX_ONE).unwrap_or(section);
    let mut rest = Slice::new(section, LittleEndian);
    skip(&mut rest).filter(|is_one| *is_one)?;
    let mut first = section.get(..section.len() - rest.len())?.to_vec();
    first.push(0);
    parsed(&first)
}

/// All that begin the section, and their length in bytes; only the length where they do not end in it.
pub(super) fn all(section: &[u8]) -> (Option<Abbreviations>, usize) {
    let mut rest = Slice::new(section, LittleEndian);
    loop {
        match skip(&mut rest) {
            Some(true) => {}
            Some(false) => {
                let length = section.len() - rest.len();
                return (section.get(..length).and_then(parsed), length);
            }
            None => return (None, section.len()),
        }
    }
}

fn parsed(section: &[u8]) -> Option<Abbreviations> {
    DebugAbbrev::new(section, LittleEndian).abbreviations(DebugAbbrevOffset(0)).ok()
}

/// Passes over one; says whether it was one rather than the end of a table.
fn skip(rest: &mut Slice<'_>) -> Option<bool> {
    if rest.read_uleb128().ok()? == 0 {
        return Some(false);
    }
    // Tag, and whether it has children.
    rest.skip_leb128().ok()?;
    rest.skip(1).ok()?;
    loop {
        let (name, form) = (rest.read_uleb128().ok()?, rest.read_uleb128().ok()?);
        if form == u64::from(constants::DW_FORM_implicit_const.0) {
            rest.skip_leb128().ok()?;
        }
        if (name, form) == (0, 0) {
            return Some(true);
        }
    }
}
