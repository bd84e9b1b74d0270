//! Limits on an artifact before anything expensive looks at it. Tighter than the parser's own, and wide enough for the largest
//! guests in use (JavaScript 13 MB and Python 18 MB components, with some 20,000 functions each).

use wasmparser::{Parser, Payload, TypeRef};

use super::detect::malformed;
use super::{CompileError, CompileErrorCode};
use crate::sandbox::engine;

/// Bytes of one artifact.
const MAX_BYTES: usize = 64 << 20;
/// Functions of all modules together.
const MAX_FUNCTIONS: u64 = 50_000;
/// Bytes of one function.
const MAX_FUNCTION_BYTES: usize = 2 << 20;
/// Everything that a section lists, of all modules together.
const MAX_ITEMS: u64 = 200_000;
/// Modules and components, nested ones included.
const MAX_NESTED: u64 = 100;
/// Custom sections.
const MAX_CUSTOM_SECTIONS: u64 = 1_000;
/// Deepest nesting of components.
const MAX_DEPTH: u32 = 10;
/// Pages of 64 KiB that one memory may begin with: 1 GiB.
const MAX_INITIAL_PAGES: u64 = 16_384;

/// What was counted so far.
#[derive(Default)]
struct Counts {
    functions: u64,
    items: u64,
    nested: u64,
    custom_sections: u64,
    depth: u32,
}

/// Walks over an artifact once, without validating code, and refuses what exceeds a limit.
pub(super) fn check(wasm: &[u8]) -> Result<(), CompileError> {
    at_most("bytes", wasm.len() as u64, MAX_BYTES as u64)?;
    let mut counts = Counts::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| malformed(&error.to_string()))?;
        counts.add(&payload)?;
        check_payload(payload)?;
    }
    Ok(())
}

impl Counts {
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), CompileError> {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.nested += 1;
                self.depth += 1;
            }
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::CustomSection(_) => self.custom_sections += 1,
            Payload::CodeSectionStart { count, .. } => self.functions += u64::from(*count),
            other => self.items += items(other),
        }
        at_most("functions", self.functions, MAX_FUNCTIONS)?;
        at_most("types, imports, exports and segments", self.items, MAX_ITEMS)?;
        at_most("nested modules and components", self.nested, MAX_NESTED)?;
        at_most("custom sections", self.custom_sections, MAX_CUSTOM_SECTIONS)?;
        at_most("levels of nesting", u64::from(self.depth), u64::from(MAX_DEPTH))
    }
}

/// How many things a section lists.
fn items(payload: &Payload<'_>) -> u64 {
    u64::from(match payload {
        Payload::TypeSection(section) => section.count(),
        Payload::ImportSection(section) => section.count(),
        Payload::TableSection(section) => section.count(),
        Payload::MemorySection(section) => section.count(),
        Payload::GlobalSection(section) => section.count(),
        Payload::ExportSection(section) => section.count(),
        Payload::ElementSection(section) => section.count(),
        Payload::DataSection(section) => section.count(),
        Payload::InstanceSection(section) => section.count(),
        Payload::CoreTypeSection(section) => section.count(),
        Payload::ComponentInstanceSection(section) => section.count(),
        Payload::ComponentAliasSection(section) => section.count(),
        Payload::ComponentTypeSection(section) => section.count(),
        Payload::ComponentCanonicalSection(section) => section.count(),
        Payload::ComponentImportSection(section) => section.count(),
        Payload::ComponentExportSection(section) => section.count(),
        _ => 0,
    })
}

/// The limits that one thing alone can exceed.
fn check_payload(payload: Payload<'_>) -> Result<(), CompileError> {
    let broken = |error: wasmparser::BinaryReaderError| malformed(&error.to_string());
    match payload {
        Payload::CodeSectionEntry(body) => {
            at_most("bytes in one function", body.range().len() as u64, MAX_FUNCTION_BYTES as u64)
        }
        Payload::MemorySection(section) => {
            section.into_iter().try_for_each(|memory| check_pages(memory.map_err(broken)?.initial))
        }
        Payload::TableSection(section) => {
            section.into_iter().try_for_each(|table| check_table(table.map_err(broken)?.ty.initial))
        }
        Payload::ImportSection(section) => {
            section.into_imports().try_for_each(|import| match import.map_err(broken)?.ty {
                TypeRef::Memory(memory) => check_pages(memory.initial),
                TypeRef::Table(table) => check_table(table.initial),
                _ => Ok(()),
            })
        }
        _ => Ok(()),
    }
}

fn check_pages(pages: u64) -> Result<(), CompileError> {
    at_most("pages of initial memory", pages, MAX_INITIAL_PAGES)
}

fn check_table(elements: u64) -> Result<(), CompileError> {
    at_most("elements in a table", elements, engine::TABLE_ELEMENTS as u64)
}

fn at_most(what: &str, found: u64, limit: u64) -> Result<(), CompileError> {
    if found <= limit {
        return Ok(());
    }
    let message = format!("this artifact has {found} {what}; at most {limit} are allowed");
    Err(CompileError::new(
        CompileErrorCode::TooLarge,
        message,
        "build an optimised release without debug information, or split the function",
    ))
}
