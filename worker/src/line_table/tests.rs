//! What is written is found again, and no file, however broken, is more than a line that is not known.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;

const NATIVE: &[u8] = b"the compiled component, which nobody here looks at";

fn row(offset: u32, file: u32, line: u32) -> Row {
    Row { offset, file, line }
}

fn opened(behind: &[u8]) -> Option<Result<LineTable, Absent>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(NATIVE).unwrap();
    file.write_all(behind).unwrap();
    LineTable::open(file.path())
}

fn files() -> Vec<String> {
    ["src/lib.rs", "library/core/src/option.rs", ""].map(str::to_owned).to_vec()
}

/// Two modules: one that imports 3 functions and has 2, one of a single function.
fn table() -> Vec<u8> {
    let mut builder = Builder::default();
    builder.module(3);
    let rows = [row(0, 0, 10), row(4, 0, 12), row(9, 1, 1012), row(9, 1, 1013), row(12, 0, 11), row(300, 0, 0)];
    builder.function(100, rows).unwrap();
    builder.function(500, [row(0, 0, 0), row(7, 1, 4_000_000_000), row(8, 1, 1)]).unwrap();
    builder.module(0);
    builder.function(1000, [row(0, 2, 5)]).unwrap();
    builder.finish(&files()).unwrap().unwrap()
}

#[test]
fn lines_are_found_by_function_and_offset() {
    let found = opened(&table()).unwrap().unwrap();
    let cases = [
        ((3, 100, 0), Some("src/lib.rs:10")),
        ((3, 100, 3), Some("src/lib.rs:10")),
        ((3, 100, 4), Some("src/lib.rs:12")),
        ((3, 100, 9), Some("library/core/src/option.rs:1013")),
        ((3, 100, 299), Some("src/lib.rs:11")),
        ((3, 100, 300), None),
        ((4, 500, 6), None),
        ((4, 500, 7), Some("library/core/src/option.rs:4000000000")),
        ((4, 500, u32::MAX), Some("library/core/src/option.rs:1")),
        ((0, 1000, 0), Some(":5")),
        // Of another function, of none, and of code that the engine made.
        ((4, 100, 0), None),
        ((3, 101, 0), None),
        ((0, 0, 0), None),
        ((3, 1000, 0), None),
    ];
    for ((index, start, offset), expected) in cases {
        assert_eq!(found.find(index, start, offset).as_deref(), expected, "{index} {start} {offset}");
    }
}

#[test]
fn files_without_a_table_are_as_good() {
    assert!(opened(b"").is_none() && opened(&[0; 100]).is_none());
    assert!(LineTable::open(std::path::Path::new("/nowhere/at/all")).is_none());
    assert_eq!(Builder::default().finish(&files()).unwrap(), None);
}

#[test]
fn why_there_is_no_table_is_kept() {
    for why in [Absent::TooLarge, Absent::Unreadable] {
        assert_eq!(opened(&absent(why)).unwrap().unwrap_err(), why);
    }
    let mut unknown = absent(Absent::TooLarge);
    unknown[0] = 9;
    assert!(opened(&unknown).is_none(), "of a later release");
}

#[test]
fn tables_that_become_too_large_are_refused() {
    let mut builder = Builder::default();
    builder.module(0);
    let many = (0..MAX_BODY as u32).map(|n| row(n, n & 1, n + 1));
    assert_eq!(builder.function(8, many).unwrap_err(), Absent::TooLarge);
    let mut wide = Builder::default();
    wide.module(0);
    wide.function(8, [row(0, 0, 1)]).unwrap();
    assert_eq!(wide.finish(&vec!["x".repeat(MAX_PATH); 20_000]).unwrap_err(), Absent::TooLarge);
}

#[test]
fn truncated_and_changed_tables_are_read_without_harm() {
    let whole = table();
    for length in 0..whole.len() {
        assert!(opened(&whole[..length]).is_none(), "{length}");
        if let Some(Ok(cut)) = opened(&whole[whole.len() - length..]) {
            assert_eq!(cut.find(3, 100, 0), None, "{length}");
        }
    }
    for position in 0..whole.len() {
        let mut changed = whole.clone();
        changed[position] ^= 0xff;
        if let Some(Ok(table)) = opened(&changed) {
            for (index, start, offset) in [(3, 100, 9), (4, 500, 7), (0, 1000, 3)] {
                table.find(index, start, offset);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_body_is_read_without_harm(body in prop::collection::vec(any::<u8>(), 0..300), start in 0..40_u32) {
        let whole = table();
        let mut behind = body.clone();
        behind.extend_from_slice(&0_u32.to_le_bytes());
        behind.extend_from_slice(&(body.len() as u32).to_le_bytes());
        behind.extend_from_slice(&whole[whole.len() - MAGIC.len()..]);
        if let Some(Ok(table)) = opened(&behind) {
            prop_assert_eq!(table.find(3, start, 5), None);
        }
    }

    #[test]
    fn what_is_written_is_found(steps in prop::collection::vec((0..3_u32, 0..4_u32, 0..2_000_000_u32), 1..200)) {
        let mut offset = 0;
        let rows: Vec<Row> = steps.iter().map(|(file, step, line)| {
            offset += step + 1;
            row(offset, *file, *line)
        }).collect();
        let mut builder = Builder::default();
        builder.module(0);
        builder.function(8, rows.clone()).unwrap();
        builder.function(9_000, [row(0, 1, 1)]).unwrap();
        let table = opened(&builder.finish(&files()).unwrap().unwrap()).unwrap().unwrap();
        for row in rows {
            let expected = (row.line != 0).then(|| format!("{}:{}", files()[row.file as usize], row.line));
            prop_assert_eq!(table.find(0, 8, row.offset), expected);
        }
    }
}
