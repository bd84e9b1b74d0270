//! Makes the table of source lines (`line_table.rs`) from an artifact's DWARF, if it has any. It runs in the compiler's
//! process, under its limits, and has bounds of its own: debug information that is hostile, broken or too large costs the
//! developer the lines and nothing else. The engine never sees it.

mod abbreviations;
mod calls;
mod dwarf;
mod inlined;
mod modules;
mod paths;

use std::collections::HashMap;

use self::dwarf::SourceRow;
use self::modules::Module;
use crate::line_table::{Absent, Builder, Row, absent};

/// Most rows of all modules together; more do not fit into a table anyway.
const MAX_ROWS: usize = 1 << 20;

/// What goes behind the compiled component. `stripped` is what is compiled: `wasm` without its custom sections.
pub(super) fn table(wasm: &[u8], stripped: &[u8]) -> Vec<u8> {
    let (Some(modules), Some(places)) = (modules::read(wasm), modules::read(stripped)) else { return Vec::new() };
    if modules.len() != places.len() || modules.iter().all(|module| module.debug.line.is_empty()) {
        return Vec::new();
    }
    match written(&modules, &places) {
        Ok(Some(table)) => table,
        Ok(None) => absent(Absent::Unreadable),
        Err(why) => absent(why),
    }
}

/// The table; nothing where no line could be read.
fn written(modules: &[Module<'_>], places: &[Module<'_>]) -> Result<Option<Vec<u8>>, Absent> {
    let (mut builder, mut files, mut room) = (Builder::default(), Files::default(), MAX_ROWS);
    for (module, place) in modules.iter().zip(places).filter(|(module, _)| !module.debug.line.is_empty()) {
        let rows = dwarf::rows(&module.debug, module.code_length(), &mut files, room)?;
        room -= rows.len();
        let rows = inlined::resolved(&module.debug, module.code_length(), &mut files, rows);
        builder.module(module.imports);
        for body in &module.bodies {
            builder.function(place.code.saturating_add(body.start), within(&rows, body.start, body.end))?;
        }
    }
    builder.finish(&files.paths)
}

/// The rows of the function whose body is at `start..end`, of all rows by address.
fn within(rows: &[SourceRow], start: u32, end: u32) -> impl Iterator<Item = Row> {
    let first = rows.partition_point(|row| row.address <= start).saturating_sub(1);
    let rows = rows.get(first..).unwrap_or_default().iter().take_while(move |row| row.address < end);
    rows.map(move |row| Row { offset: row.address.saturating_sub(start), file: row.file, line: row.line })
}

/// The paths of source files, each once.
#[derive(Debug, Default)]
struct Files {
    paths: Vec<String>,
    /// Of each, whether it is the developer's own.
    own: Vec<bool>,
    known: HashMap<(String, bool), u32>,
}

impl Files {
    fn index(&mut self, path: String, own: bool) -> u32 {
        let next = self.paths.len() as u32;
        *self.known.entry((path, own)).or_insert_with_key(|(path, own)| {
            self.paths.push(path.clone());
            self.own.push(*own);
            next
        })
    }

    fn is_own(&self, file: u32) -> bool {
        self.own.get(file as usize).is_some_and(|own| *own)
    }
}

#[cfg(test)]
mod tests;
