//! Looks a line up in the file of compiled code: a binary search by reads at offsets, so that nothing is kept in memory. Every
//! number is checked against the bounds of the table; one that is wrong makes the line unknown.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use super::{Absent, COUNTS, FOOTER, MAGIC, MAX_BODY, MAX_PATH};

/// The table of a file, opened for a few look-ups.
#[derive(Debug)]
pub(crate) struct LineTable {
    file: File,
    modules: Part,
    functions: Part,
    files: Part,
    paths: Part,
    rows: Part,
}

/// A part of the table.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    at: u64,
    /// Items: records or bytes.
    len: u32,
}

/// Bytes of an item of each part.
const SIZES: [u64; COUNTS] = [12, 8, 4, 1, 1];

impl LineTable {
    /// Opens the table behind a compiled component. Nothing where there is none, which is the rule; otherwise the table or
    /// why it is absent. Blocking, some microseconds.
    pub(crate) fn open(compiled: &Path) -> Option<Result<Self, Absent>> {
        let file = File::open(compiled).ok()?;
        let end = file.metadata().ok()?.len().checked_sub(FOOTER as u64)?;
        let [state, body, magic_start, magic_end] = numbers(&file, end)?;
        if [magic_start.to_le_bytes(), magic_end.to_le_bytes()].as_flattened() != MAGIC {
            return None;
        }
        if let Some(absent) = Absent::from_state(state) {
            return Some(Err(absent));
        }
        let begin = end.checked_sub(body.into()).filter(|_| state == 0 && body as usize <= MAX_BODY)?;
        Self::parts(file, begin, end).map(Ok)
    }

    /// Finds the parts, which fill the body from `begin` to `end`.
    fn parts(file: File, begin: u64, end: u64) -> Option<Self> {
        let lengths: [u32; COUNTS] = numbers(&file, begin)?;
        let mut at = begin + size_of_val(&lengths) as u64;
        let parts: Vec<Part> = lengths
            .iter()
            .zip(SIZES)
            .map(|(&len, size)| {
                let part = Part { at, len };
                at += u64::from(len) * size;
                part
            })
            .collect();
        let &[modules, functions, files, paths, rows] = parts.as_slice() else { return None };
        (at == end).then_some(Self { file, modules, functions, files, paths, rows })
    }

    /// `file:line` of the code `offset` bytes after the `start` of the body of function `index` of its module. Code that the
    /// engine itself made has neither a start nor an index that is here.
    pub(crate) fn find(&self, index: u32, start: u32, offset: u32) -> Option<String> {
        let function = self.function_at(start)?;
        let own = self.index_of(function)? == index;
        let (file, line) = lookup(&self.rows_of(function).filter(|_| own)?, offset)?;
        Some(format!("{}:{line}", self.path(file)?))
    }

    /// The position in `functions` of the one that begins at `start`.
    fn function_at(&self, start: u32) -> Option<u32> {
        let (mut low, mut high) = (0, self.functions.len);
        while low < high {
            let middle = low + (high - low) / 2;
            let [found, _] = self.function(middle)?;
            match found.cmp(&start) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn function(&self, position: u32) -> Option<[u32; 2]> {
        record(&self.file, self.functions, position)
    }

    /// The index that a function has in its module.
    fn index_of(&self, function: u32) -> Option<u32> {
        let module = |position| record::<3>(&self.file, self.modules, position);
        let [first, _, imports] = (0..self.modules.len)
            .map_while(module)
            .find(|[first, functions, _]| function.checked_sub(*first).is_some_and(|within| within < *functions))?;
        (function - first).checked_add(imports)
    }

    fn rows_of(&self, function: u32) -> Option<Vec<u8>> {
        let [_, begin] = self.function(function)?;
        let next = function.checked_add(1).filter(|next| *next < self.functions.len);
        let end = next.map_or(Some(self.rows.len), |next| self.function(next).map(|[_, begin]| begin))?;
        bytes(&self.file, self.rows, begin, end)
    }

    fn path(&self, file: u32) -> Option<String> {
        let end = |file| record::<1>(&self.file, self.files, file).map(|[end]| end);
        let begin = file.checked_sub(1).map_or(Some(0), end)?;
        let end = end(file)?;
        let short = end.checked_sub(begin)? as usize <= MAX_PATH;
        String::from_utf8(bytes(&self.file, self.paths, begin, end).filter(|_| short)?).ok()
    }
}

/// File and line of the last row that is not behind `offset`.
fn lookup(mut rows: &[u8], offset: u32) -> Option<(u32, u64)> {
    let (mut at, mut file, mut line, mut found) = (0_u64, 0, 0_u64, None);
    while let Some(step) = leb128(&mut rows) {
        at = at.checked_add(step >> 1)?;
        if at > offset.into() {
            break;
        }
        if step & 1 == 1 {
            file = u32::try_from(leb128(&mut rows)?).ok()?;
        }
        let change = leb128(&mut rows)?;
        line = line.wrapping_add_signed((change >> 1) as i64 ^ -((change & 1) as i64));
        found = (line != 0).then_some((file, line));
    }
    found.filter(|(_, line)| *line <= u32::MAX.into())
}

fn leb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A record of a part.
fn record<const N: usize>(file: &File, part: Part, position: u32) -> Option<[u32; N]> {
    let at = part.at + u64::from(position) * size_of::<[u32; N]>() as u64;
    (position < part.len).then(|| numbers(file, at))?
}

fn bytes(file: &File, part: Part, begin: u32, end: u32) -> Option<Vec<u8>> {
    let length = end.checked_sub(begin).filter(|_| end <= part.len)?;
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, part.at + u64::from(begin)).ok()?;
    Some(bytes)
}

fn numbers<const N: usize>(file: &File, at: u64) -> Option<[u32; N]> {
    let mut bytes = [[0; 4]; N];
    file.read_exact_at(bytes.as_flattened_mut(), at).ok()?;
    Some(bytes.map(u32::from_le_bytes))
}
