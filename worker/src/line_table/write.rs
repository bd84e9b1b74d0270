//! Writes a table. Pure; what comes too much is refused, so that the caller writes none.

use super::{Absent, FOOTER, MAGIC, MAX_BODY, Row};

/// A table in the making: modules in the order of the component, each followed by its functions in the order of its code.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    modules: Vec<[u32; 3]>,
    functions: Vec<[u32; 2]>,
    rows: Vec<u8>,
}

impl Builder {
    /// Begins a module that imports so many functions.
    pub(crate) fn module(&mut self, imports: u32) {
        self.modules.push([self.functions.len() as u32, 0, imports]);
    }

    /// Adds a function whose body begins at `start` in the component, with its rows by offset.
    ///
    /// # Errors
    /// The table has become too large.
    pub(crate) fn function(&mut self, start: u32, rows: impl IntoIterator<Item = Row>) -> Result<(), Absent> {
        if let Some([_, functions, _]) = self.modules.last_mut() {
            *functions += 1;
        }
        self.functions.push([start, self.rows.len() as u32]);
        let mut before = Row { offset: 0, file: 0, line: 0 };
        for row in rows {
            if (row.file, row.line) != (before.file, before.line) {
                append(&mut self.rows, before, row);
                before = row;
            }
        }
        if self.rows.len() > MAX_BODY { Err(Absent::TooLarge) } else { Ok(()) }
    }

    /// What is written behind the component; nothing where no line is known.
    ///
    /// # Errors
    /// The table is too large.
    pub(crate) fn finish(self, files: &[String]) -> Result<Option<Vec<u8>>, Absent> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let paths: usize = files.iter().map(String::len).sum();
        let counts = [self.modules.len(), self.functions.len(), files.len(), paths, self.rows.len()];
        let mut table = Vec::new();
        counts.iter().for_each(|count| number(&mut table, *count as u32));
        self.modules.iter().flatten().chain(self.functions.iter().flatten()).for_each(|part| number(&mut table, *part));
        ends(files).for_each(|end| number(&mut table, end));
        files.iter().for_each(|path| table.extend_from_slice(path.as_bytes()));
        table.extend_from_slice(&self.rows);
        if table.len() > MAX_BODY {
            return Err(Absent::TooLarge);
        }
        let footer = footer(0, table.len());
        table.extend_from_slice(&footer);
        Ok(Some(table))
    }
}

/// What is written behind a component in place of a table.
pub(crate) fn absent(why: Absent) -> Vec<u8> {
    footer(why.state(), 0).to_vec()
}

fn footer(state: u32, body: usize) -> [u8; FOOTER] {
    let [a, b, c, d] = state.to_le_bytes();
    let [e, f, g, h] = (body as u32).to_le_bytes();
    let [i, j, k, l, m, n, o, p] = MAGIC;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Where each path ends among all of them.
fn ends(files: &[String]) -> impl Iterator<Item = u32> {
    files.iter().scan(0, |end, path| {
        *end += path.len() as u32;
        Some(*end)
    })
}

fn append(out: &mut Vec<u8>, before: Row, row: Row) {
    let moved = row.file != before.file;
    leb128(out, u64::from(row.offset.saturating_sub(before.offset)) << 1 | u64::from(moved));
    if moved {
        leb128(out, row.file.into());
    }
    let change = i64::from(row.line) - i64::from(before.line);
    leb128(out, (change << 1 ^ change >> 63) as u64);
}

fn leb128(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}
