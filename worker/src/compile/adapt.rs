//! Core modules: a WASI preview 1 command becomes a component by the engine project's own adapter; every other module is
//! refused with the reason.

use std::borrow::Cow;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasmparser::{ExternalKind, Parser, Payload};
use wit_component::ComponentEncoder;

use super::detect::{is_module, malformed, shorten};
use super::{CompileError, CompileErrorCode};

/// The module names of preview 1. `wasi_unstable` is its predecessor, which nobody builds any more.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// A component as it is, or made of a command module.
pub(super) fn to_component(wasm: &[u8]) -> Result<Cow<'_, [u8]>, CompileError> {
    if !is_module(wasm)? {
        return Ok(Cow::Borrowed(wasm));
    }
    require_command(&Module::read(wasm)?)?;
    encode(wasm).map(Cow::Owned).map_err(|error| {
        let message =
            format!("this preview 1 module cannot become a component: {}", format!("{error:#}").replace('\n', " "));
        CompileError::new(
            CompileErrorCode::Invalid,
            message,
            "build it for wasm32-wasip1 as a command, or for wasm32-wasip2",
        )
    })
}

fn encode(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .module(wasm)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .validate(true)
        .encode()
}

/// The names at the edge of a module.
#[derive(Default)]
struct Module {
    /// Module and field of each import.
    imports: Vec<(String, String)>,
    functions: Vec<String>,
    memory: bool,
}

impl Module {
    fn read(wasm: &[u8]) -> Result<Self, CompileError> {
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(|error| malformed(&error.to_string()))? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(|error| malformed(&error.to_string()))?;
                        module.imports.push((import.module.to_owned(), import.name.to_owned()));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.map_err(|error| malformed(&error.to_string()))?;
                        module.memory |= export.kind == ExternalKind::Memory && export.name == "memory";
                        if export.kind == ExternalKind::Func {
                            module.functions.push(export.name.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(module)
    }

    fn exports(&self, name: &str) -> bool {
        self.functions.iter().any(|function| function == name)
    }
}

/// Refuses modules that are no preview 1 command, and says what they are instead.
fn require_command(module: &Module) -> Result<(), CompileError> {
    const HINT: &str = "build a command for wasm32-wasip1 or a component for wasm32-wasip2";
    let refuse = |code, message: String, hint: &str| Err(CompileError::new(code, message, hint));
    let foreign: Vec<String> = module
        .imports
        .iter()
        .filter(|(from, _)| from != PREVIEW1)
        .map(|(from, name)| format!("{from}.{name}"))
        .collect();
    if !foreign.is_empty() {
        let message = format!("this module imports what the platform does not offer: {}", shorten(&foreign.join(", ")));
        let hint = match module.imports.iter().any(|(from, _)| from == "env" || from == "wasi_unstable") {
            true => "a WASI module imports wasi_snapshot_preview1 only; check linker flags and toolchain",
            false => HINT,
        };
        return refuse(CompileErrorCode::UnknownImport, message, hint);
    }
    if module.exports("_start") {
        return if module.memory {
            Ok(())
        } else {
            refuse(CompileErrorCode::NotCallable, "this command exports no memory".to_owned(), HINT)
        };
    }
    let message = if module.exports("_initialize") {
        "this module is a WASI reactor (a library), which cannot be called by itself"
    } else {
        "this module cannot be called: it exports no _start function"
    };
    refuse(CompileErrorCode::NotCallable, message.to_owned(), HINT)
}
