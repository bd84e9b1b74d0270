//! The interfaces that guests may import, by name, so that an artifact which needs anything else is refused before it is
//! compiled and with every such import named. The linker has the last word on their functions; a test keeps the two together.

use super::detect::shorten;
use super::{CompileError, CompileErrorCode};

/// `wasi:cli/imports` of WASI 0.2 and `wasi:http` 0.2.
const WASI_02: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The same for WASI 0.3.
const WASI_03: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];

/// Refuses imports that are not offered, naming each.
pub(super) fn check_imports(imports: &[String], wasi03: bool) -> Result<(), CompileError> {
    let unknown: Vec<&str> = imports.iter().map(String::as_str).filter(|import| !is_offered(import, wasi03)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let message = format!(
        "this component imports what the platform does not offer: {}",
        unknown.iter().map(|name| shorten(name)).collect::<Vec<_>>().join(", ")
    );
    let switched_off = unknown.iter().any(|import| !wasi03 && is_offered(import, true));
    let hint = if switched_off {
        "this cluster has WASI 0.3 switched off; build for WASI 0.2"
    } else {
        "the platform offers wasi:cli, wasi:clocks, wasi:filesystem, wasi:http, wasi:io, wasi:random and wasi:sockets of WASI 0.2 and 0.3"
    };
    Err(CompileError::new(CompileErrorCode::UnknownImport, message, hint))
}

fn is_offered(import: &str, wasi03: bool) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    let released = |track: &str| {
        let patch = version.strip_prefix(track).unwrap_or_default();
        !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit())
    };
    (released("0.2.") && WASI_02.contains(&interface)) || (wasi03 && released("0.3.") && WASI_03.contains(&interface))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::CpuBaseline;
    use crate::sandbox::engine::{Class, compiler};
    use crate::sandbox::state::linker;

    #[test]
    fn everything_in_the_tables_is_linked() {
        let engine = compiler(Class { wasi03: true, cpu: CpuBaseline::default() }, true).unwrap();
        let linker = linker(&engine, true).unwrap();
        for (names, version) in [(WASI_02, "0.2.0"), (WASI_03, "0.3.0")] {
            for name in names {
                let text = format!("(component (import \"{name}@{version}\" (instance)))");
                let component =
                    wasmtime::component::Component::from_binary(&engine, &wat::parse_str(text).unwrap()).unwrap();
                assert!(linker.instantiate_pre(&component).is_ok(), "{name}@{version} is not linked");
                assert!(is_offered(&format!("{name}@{version}"), true));
            }
        }
    }

    #[test]
    fn t26_other_imports_are_refused_by_name() {
        let imports = [
            "wasi:http/types@0.2.3",
            "wasi:keyvalue/store@0.2.0",
            "fermyon:spin/redis@2.0.0",
            "wasi:http/client@0.3.0-rc-1",
            "plain",
        ];
        let imports = imports.map(str::to_owned);
        let error = check_imports(&imports, true).unwrap_err();
        for name in &imports[1..] {
            assert!(error.message.contains(name), "{error}");
        }
        assert!(!error.message.contains("wasi:http/types@0.2.3"));
        let off = check_imports(&["wasi:http/types@0.3.0".to_owned()], false).unwrap_err();
        assert!(off.hint.contains("switched off"));
    }
}
