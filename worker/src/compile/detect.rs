//! What an artifact is: by its first bytes what it is not, by its exports how it is called.

use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};
use wasmtime::Engine;

use super::{CompileError, CompileErrorCode};
use crate::sandbox::GuestKind;

/// Most bytes of a name that an error repeats.
const SHOWN: usize = 100;

/// Refuses everything that does not begin as WebAssembly, by name where it can be told.
pub(super) fn require_wasm(bytes: &[u8]) -> Result<(), CompileError> {
    if Engine::detect_precompiled(bytes).is_some() {
        let hint = "deploy the .wasm file; the platform compiles it itself";
        return Err(CompileError::new(
            CompileErrorCode::Precompiled,
            "this is compiled native code, which is never accepted",
            hint,
        ));
    }
    if bytes.starts_with(b"\0asm") && bytes.len() >= 8 {
        return Ok(());
    }
    let (what, hint) = describe(bytes);
    Err(CompileError::new(CompileErrorCode::NotWebassembly, format!("this is not WebAssembly but {what}"), hint))
}

/// Names some bytes that are not WebAssembly.
fn describe(bytes: &[u8]) -> (&'static str, &'static str) {
    const BUILD: &str = "deploy the .wasm file that your toolchain built";
    let text = || bytes.get(..4096).unwrap_or(bytes).trim_ascii_start();
    match bytes {
        [] => ("an empty file", BUILD),
        [0, b'a', b's', b'm', ..] => ("a truncated header", BUILD),
        [0x7f, b'E', b'L', b'F', ..] => ("an ELF program", "compile for wasm32-wasip2 instead of this machine"),
        [0x1f, 0x8b, ..] => ("a gzip archive", "decompress it first"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("a zstd archive", "decompress it first"),
        [b'P', b'K', 3 | 5, ..] => ("a zip archive", "unpack it and deploy the .wasm file inside"),
        [b'M', b'Z', ..] => ("a Windows program", "compile for wasm32-wasip2 instead"),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => ("a macOS program", "compile for wasm32-wasip2 instead"),
        _ if text().starts_with(b"(module") || text().starts_with(b"(component") || text().starts_with(b";;") => {
            ("WebAssembly text", "convert it first, for example with `wasm-tools parse`")
        }
        _ if !text().contains(&0) && std::str::from_utf8(text()).is_ok() => {
            ("text", "compile the source to WebAssembly first")
        }
        _ => ("an unknown format", BUILD),
    }
}

/// Whether the bytes are a core module rather than a component.
pub(super) fn is_module(wasm: &[u8]) -> Result<bool, CompileError> {
    match Parser::new(0).parse_all(wasm).next() {
        Some(Ok(Payload::Version { encoding, .. })) => Ok(encoding == Encoding::Module),
        Some(Ok(_)) | None => Err(malformed("it has no header")),
        Some(Err(error)) => Err(malformed(&error.to_string())),
    }
}

pub(super) fn malformed(reason: &str) -> CompileError {
    let hint = "the file may be truncated; build or upload it again";
    CompileError::new(CompileErrorCode::Invalid, format!("this WebAssembly is malformed: {reason}"), hint)
}

/// What a component imports and exports by name.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    pub(super) imports: Vec<String>,
    exports: Vec<String>,
}

/// Reads the outermost imports and exports of a component.
pub(super) fn inspect(component: &[u8]) -> Result<Interfaces, CompileError> {
    let mut found = Interfaces::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| malformed(&error.to_string()))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    found.imports.push(import.map_err(|error| malformed(&error.to_string()))?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(|error| malformed(&error.to_string()))?;
                    if export.kind == ComponentExternalKind::Instance {
                        found.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

impl Interfaces {
    /// How the component is called. One that can be called in two ways is called by HTTP.
    pub(super) fn kind(&self, wasi03: bool) -> Result<GuestKind, CompileError> {
        if self.exports("wasi:http/incoming-handler", "0.2") {
            return Ok(GuestKind::Http02);
        }
        if self.exports("wasi:http/handler", "0.3") {
            let hint = "build for wasi:http/incoming-handler@0.2, or ask the operator to offer WASI 0.3";
            let off = || {
                CompileError::new(
                    CompileErrorCode::Wasi03Off,
                    "this component is for WASI 0.3, which this cluster has switched off",
                    hint,
                )
            };
            return if wasi03 { Ok(GuestKind::Http03) } else { Err(off()) };
        }
        if self.exports("wasi:cli/run", "0.2") {
            return Ok(GuestKind::Command);
        }
        Err(self.not_callable())
    }

    fn exports(&self, interface: &str, track: &str) -> bool {
        self.exports.iter().any(|export| {
            let version = export.strip_prefix(interface).and_then(|rest| rest.strip_prefix('@'));
            version
                .and_then(|version| version.strip_prefix(track))
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(is_patch)
        })
    }

    fn not_callable(&self) -> CompileError {
        let exports =
            if self.exports.is_empty() { "no interface".to_owned() } else { shorten(&self.exports.join(", ")) };
        let message = format!(
            "this component cannot be called: it exports {exports}, but needs wasi:http/incoming-handler@0.2, wasi:http/handler@0.3 or wasi:cli/run@0.2"
        );
        CompileError::new(CompileErrorCode::NotCallable, message, "build it as a wasi:http proxy or as a WASI command")
    }
}

/// Whether a version's rest is a released patch: digits only, no `-rc`.
fn is_patch(rest: &str) -> bool {
    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
}

/// The start of a text that came from the artifact.
pub(super) fn shorten(text: &str) -> String {
    let end = text.floor_char_boundary(SHOWN.min(text.len()));
    let start = text.get(..end).unwrap_or_default();
    if end < text.len() { format!("{start}...") } else { start.to_owned() }
}
