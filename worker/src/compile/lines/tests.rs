//! DWARF that is well, absent, hostile and broken. Of real toolchains there is a guest in the end-to-end tests.

use gimli::write::{
    Address, AttributeValue, DwarfUnit, EndianVec, LineProgram, LineString, Range, RangeList, Sections,
};
use gimli::{Encoding, Format, LineEncoding, LittleEndian};
use proptest::prelude::*;

use super::*;
use crate::compile::strip::{number, without_custom_sections};
use crate::line_table::LineTable;

/// A component around a module with two imports and three functions, whose bodies are 4, 5 and 3 bytes long.
const OUTER: &str = r#"(component
    (core module (func (export "f")))
    (core module
        (import "a" "g" (global i32)) (import "a" "f" (func)) (import "a" "h" (func))
        (func nop nop) (func nop nop nop) (func nop)))"#;

/// What stands in a module's sections of debug information, by name.
type Debug = Vec<(&'static str, Vec<u8>)>;

/// The artifact with these sections in its second module.
fn artifact(debug: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let wasm = wat::parse_str(OUTER).unwrap();
    let module = wasm.windows(8).rposition(|bytes| bytes == b"\0asm\x01\0\0\0").unwrap();
    // The component's only long section; its length is one byte.
    let (before, module) = (&wasm[..module], &wasm[module..]);
    assert_eq!(usize::from(before[before.len() - 1]), module.len(), "the module stands last, and is short");
    let mut whole = before[..before.len() - 1].to_vec();
    let mut contents = module.to_vec();
    for (name, bytes) in debug {
        contents.push(0);
        number(&mut contents, 1 + name.len() + bytes.len());
        number(&mut contents, name.len());
        contents.extend_from_slice(name.as_bytes());
        contents.extend_from_slice(bytes);
    }
    number(&mut whole, contents.len());
    whole.extend_from_slice(&contents);
    whole
}

/// What is written behind an artifact with these sections.
fn behind(debug: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let wasm = artifact(debug);
    table(&wasm, &without_custom_sections(&wasm).unwrap())
}

/// The line of the code so many bytes into a function of the second module, counted without imports.
fn find(table: &[u8], function: usize, offset: u32) -> Option<String> {
    let stripped = without_custom_sections(&artifact(&[])).unwrap();
    let places = modules::read(&stripped).unwrap();
    let start = places[1].code + places[1].bodies[function].start;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), table).unwrap();
    LineTable::open(file.path()).unwrap().unwrap().find(2 + function as u32, start, offset)
}

/// Debug information of one unit, with lines from address 1, where the first body begins: 7, 0 and 9 of one file, then, in
/// a sequence of its own, 21 of another, and one of a library that was inlined for a call in line 33 of the first.
fn debug(version: u16) -> Debug {
    let encoding = Encoding { format: Format::Dwarf32, version, address_size: 4 };
    let mut unit = DwarfUnit::new(encoding);
    let text = |text: &str| LineString::String(text.into());
    let mut lines =
        LineProgram::new(encoding, LineEncoding::default(), text("/home/me/pay"), None, text("src/lib.rs"), None);
    let own = lines.add_file(text("src/lib.rs"), lines.default_directory(), None);
    let folder = lines.add_directory(text("/home/me/pay/src/deep"));
    let other = lines.add_file(text("card.rs"), folder, None);
    let folder = lines.add_directory(text("/rustc/5980/library/core/src"));
    let library = lines.add_file(text("option.rs"), folder, None);
    let first = [(0, own, 7), (2, own, 0), (4, own, 9)];
    for (start, rows, end) in [(2, first.as_slice(), 8), (12, &[(0, other, 21), (2, library, 900)], 4)] {
        lines.begin_sequence(Some(Address::Constant(start)));
        for (offset, file, line) in rows {
            (lines.row().address_offset, lines.row().file, lines.row().line) = (*offset, *file, *line);
            lines.generate_row();
        }
        lines.end_sequence(end);
    }
    unit.unit.line_program = lines;
    let root = unit.unit.root();
    let call = unit.unit.add(root, gimli::DW_TAG_inlined_subroutine);
    let ranges = RangeList(vec![Range::StartLength { begin: Address::Constant(14), length: 2 }]);
    let ranges = unit.unit.ranges.add(ranges);
    let call = unit.unit.get_mut(call);
    call.set(gimli::DW_AT_call_file, AttributeValue::FileIndex(Some(own)));
    call.set(gimli::DW_AT_call_line, AttributeValue::Udata(33));
    if version.is_multiple_of(2) {
        call.set(gimli::DW_AT_ranges, AttributeValue::RangeListRef(ranges));
    } else {
        call.set(gimli::DW_AT_low_pc, AttributeValue::Address(Address::Constant(14)));
        call.set(gimli::DW_AT_high_pc, AttributeValue::Udata(2));
    }
    unit.unit.get_mut(root).set(gimli::DW_AT_comp_dir, AttributeValue::String(b"/home/me/pay".to_vec()));
    unit.unit.get_mut(root).set(gimli::DW_AT_stmt_list, AttributeValue::LineProgramRef);
    let mut sections = Sections::new(EndianVec::new(LittleEndian));
    unit.write(&mut sections).unwrap();
    let mut debug = Debug::new();
    let add = |id: gimli::SectionId, bytes: &EndianVec<LittleEndian>| -> Result<(), ()> {
        debug.push((id.name(), bytes.slice().to_vec()));
        Ok(())
    };
    sections.for_each(add).unwrap();
    debug
}

/// A unit of `.debug_line`, version 4, with a header of one file and these opcodes.
fn unit(opcodes: &[u8]) -> Vec<u8> {
    let header = b"\x01\x01\x01\xfb\x0e\x0d\0\x01\x01\x01\x01\0\0\0\x01\0\0\x01\0a.c\0\0\0\0\0";
    let mut rest = 4_u16.to_le_bytes().to_vec();
    rest.extend_from_slice(&(header.len() as u32).to_le_bytes());
    rest.extend_from_slice(header);
    rest.extend_from_slice(opcodes);
    let mut unit = (rest.len() as u32).to_le_bytes().to_vec();
    unit.extend_from_slice(&rest);
    unit
}

#[test]
fn lines_of_every_version_of_dwarf_are_found() {
    for version in 2..=5 {
        let table = behind(&debug(version));
        let wasm = artifact(&[]);
        let bodies = &modules::read(&wasm).unwrap()[1].bodies;
        assert_eq!(bodies.as_slice(), [2..6, 7..12, 13..16], "of which each begins with its locals");
        let cases = [
            ((0, 0), Some("src/lib.rs:7")),
            ((0, 1), Some("src/lib.rs:7")),
            ((0, 2), None),
            ((1, 0), Some("src/lib.rs:9")),
            ((1, 3), None),
            ((2, 0), Some("src/deep/card.rs:21")),
            ((2, 1), Some("src/lib.rs:33")),
            ((2, 2), Some("src/lib.rs:33")),
        ];
        for ((function, offset), expected) in cases {
            assert_eq!(find(&table, function, offset).as_deref(), expected, "DWARF {version}: {function} {offset}");
        }
    }
}

#[test]
fn without_debug_information_nothing_is_written() {
    assert!(behind(&[]).is_empty());
    assert!(behind(&[("producers", b"\x01".to_vec()), (".debug_info", b"junk".to_vec())]).is_empty());
}

#[test]
fn what_can_not_be_read_says_so() {
    let unreadable = absent(Absent::Unreadable);
    let opcodes: [&[u8]; 5] = [
        b"",
        // No such opcode, no end, an address beyond the code, and an advance that overflows.
        b"\0\x01\x7f",
        b"\x01",
        b"\0\x05\x02\xf0\0\0\0\x01\0\x01\x01",
        b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01",
    ];
    for opcodes in opcodes {
        assert_eq!(behind(&[(".debug_line", unit(opcodes))]), unreadable, "{opcodes:?}");
    }
    for junk in [b"j".to_vec(), vec![0; 1000], vec![0xff; 1000], b"\x04\0\0\0\x09\0\0\0".to_vec()] {
        assert_eq!(behind(&[(".debug_line", junk)]), unreadable);
    }
}

#[test]
fn a_broken_unit_leaves_the_lines_of_the_others() {
    // At address 2: line 5.
    let good = unit(b"\0\x05\x02\x02\0\0\0\x03\x04\x01\x02\x04\0\x01\x01");
    let mut lines = unit(b"\0\xff");
    lines.extend_from_slice(&good);
    lines.extend_from_slice(&good[..good.len() - 1]);
    let table = behind(&[(".debug_line", lines)]);
    assert_eq!(find(&table, 0, 0).as_deref(), Some("a.c:5"));
}

#[test]
fn more_than_fits_is_not_kept() {
    // Each opcode goes on by a line and stays at the address.
    let mut opcodes = b"\0\x05\x02\x02\0\0\0".to_vec();
    opcodes.extend(std::iter::repeat_n(19, MAX_ROWS + 1));
    assert_eq!(behind(&[(".debug_line", unit(&opcodes))]), absent(Absent::TooLarge));
    let units = unit(b"").repeat(50_001);
    assert_eq!(behind(&[(".debug_line", units)]), absent(Absent::TooLarge));
}

#[test]
fn tables_of_files_without_end_are_not_read() {
    // Two million names of a byte each, which would take more than 100 bytes of memory each.
    let mut header = b"\x01\x01\x01\xfb\x0e\x01\0".to_vec();
    header.extend(b"a\0\0\0\0".repeat(1 << 19));
    header.push(0);
    let mut lines = ((header.len() + 6) as u32).to_le_bytes().to_vec();
    lines.extend_from_slice(&4_u16.to_le_bytes());
    lines.extend_from_slice(&(header.len() as u32).to_le_bytes());
    lines.extend_from_slice(&header);
    assert_eq!(behind(&[(".debug_line", lines)]), absent(Absent::Unreadable));
}

#[test]
fn entries_that_take_time_out_of_proportion_are_not_read_to_the_end() {
    // A description of 300,000 attributes that take no bytes, and a million entries of that description, of a byte each.
    let mut abbrev = b"\x01\x11\x01".to_vec();
    abbrev.extend(b"\x3f\x19".repeat(300_000));
    abbrev.extend_from_slice(b"\0\0\0");
    let mut info = 1_000_007_u32.to_le_bytes().to_vec();
    info.extend_from_slice(b"\x04\0\0\0\0\0\x04");
    info.extend(std::iter::repeat_n(1, 1_000_000));
    let lines = unit(b"\0\x05\x02\x02\0\0\0\x03\x04\x01\x02\x04\0\x01\x01");
    let table = behind(&[(".debug_line", lines), (".debug_info", info), (".debug_abbrev", abbrev)]);
    assert_eq!(find(&table, 0, 0).as_deref(), Some("a.c:5"));
}

#[test]
fn truncated_debug_information_loses_lines_at_most() {
    for version in [4, 5] {
        let whole = debug(version);
        for (section, (_, bytes)) in whole.iter().enumerate() {
            for length in 0..bytes.len() {
                let mut cut = whole.clone();
                cut[section].1.truncate(length);
                behind(&cut);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_lose_lines_at_most(
        line in prop::collection::vec(any::<u8>(), 0..200),
        info in prop::collection::vec(any::<u8>(), 0..100),
        abbrev in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let lines = [line.clone(), unit(&line)];
        for lines in lines {
            behind(&[(".debug_line", lines), (".debug_info", info.clone()), (".debug_abbrev", abbrev.clone())]);
        }
    }

    #[test]
    fn changed_debug_information_loses_lines_at_most(
        version in 2..6_u16,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut changed = debug(version);
        changed.retain(|(_, bytes)| !bytes.is_empty());
        for (section, position, byte) in changes {
            let bytes = &mut section.get_mut(&mut changed).1;
            *position.get_mut(bytes) = byte;
        }
        behind(&changed);
    }
}
