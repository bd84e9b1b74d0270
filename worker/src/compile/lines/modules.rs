//! Finds the core modules of a component: where their code is, and their debug information. The caller has checked structure
//! and nesting.

use std::ops::Range;

use wasmparser::{CustomSectionReader, Encoding, Parser, Payload, TypeRef};

/// A core module.
#[derive(Debug, Default)]
pub(super) struct Module<'a> {
    /// Where the contents of its code section begin in the component. DWARF counts addresses from there (DWARF for
    /// WebAssembly, "Code Addresses").
    pub(super) code: u32,
    /// Functions that it imports, which come first in its index space.
    pub(super) imports: u32,
    /// The bodies of its functions, counted from `code`.
    pub(super) bodies: Vec<Range<u32>>,
    pub(super) debug: Sections<'a>,
}

/// The sections of DWARF that lines are read from; empty where there is none.
#[derive(Debug, Default)]
pub(super) struct Sections<'a> {
    pub(super) line: &'a [u8],
    pub(super) line_str: &'a [u8],
    pub(super) str: &'a [u8],
    pub(super) info: &'a [u8],
    pub(super) abbrev: &'a [u8],
    pub(super) ranges: &'a [u8],
    pub(super) rnglists: &'a [u8],
}

/// All core modules in their order; nothing where the file is broken.
pub(super) fn read(wasm: &[u8]) -> Option<Vec<Module<'_>>> {
    let (mut modules, mut inside) = (Vec::<Module<'_>>::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::Version { encoding, .. } => {
                inside.push(encoding == Encoding::Module);
                modules.extend((encoding == Encoding::Module).then(Module::default));
            }
            Payload::End(_) => _ = inside.pop(),
            other if inside.last() == Some(&true) => modules.last_mut()?.add(other)?,
            _ => {}
        }
    }
    Some(modules)
}

impl<'a> Module<'a> {
    /// How far its code reaches.
    pub(super) fn code_length(&self) -> u32 {
        self.bodies.last().map_or(0, |body| body.end)
    }

    fn add(&mut self, payload: Payload<'a>) -> Option<()> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.imports += u32::from(matches!(import.ok()?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
                }
            }
            Payload::CodeSectionStart { range, .. } => self.code = u32::try_from(range.start).ok()?,
            Payload::CodeSectionEntry(body) => {
                let place = |at: usize| u32::try_from(at).ok()?.checked_sub(self.code);
                self.bodies.push(place(body.range().start)?..place(body.range().end)?);
            }
            Payload::CustomSection(section) => self.debug.add(&section),
            _ => {}
        }
        Some(())
    }
}

impl<'a> Sections<'a> {
    fn add(&mut self, section: &CustomSectionReader<'a>) {
        let place = match section.name() {
            ".debug_line" => &mut self.line,
            ".debug_line_str" => &mut self.line_str,
            ".debug_str" => &mut self.str,
            ".debug_info" => &mut self.info,
            ".debug_abbrev" => &mut self.abbrev,
            ".debug_ranges" => &mut self.ranges,
            ".debug_rnglists" => &mut self.rnglists,
            _ => return,
        };
        *place = section.data();
    }
}
