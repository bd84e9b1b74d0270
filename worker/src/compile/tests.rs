//! What is refused at deploy, by table, and that the rest compiles.

use super::*;

const COMMAND: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

fn compile_text(text: &str) -> Result<Compiled, CompileError> {
    compile(&wat::parse_str(text).unwrap(), &CompileOptions::default())
}

fn refusal(bytes: &[u8]) -> CompileError {
    compile(bytes, &CompileOptions::default()).map(|compiled| compiled.kind).unwrap_err()
}

#[test]
fn a_preview_1_command_becomes_a_component() {
    let compiled = compile_text(COMMAND).unwrap();
    assert_eq!(compiled.kind, GuestKind::Command);
    assert_eq!(compiled.fingerprint, fingerprint(&CompileOptions::default()).unwrap());
    assert!(wasmtime::Engine::detect_precompiled(&compiled.bytes).is_some());
}

#[test]
fn compiling_is_deterministic() {
    assert_eq!(compile_text(COMMAND).unwrap().bytes, compile_text(COMMAND).unwrap().bytes);
}

#[test]
fn fingerprints_name_everything_that_code_depends_on() {
    let default = fingerprint(&CompileOptions::default()).unwrap();
    assert!(default.starts_with("wasmtime-48.0.8-x86_64-unknown-linux-"), "{default}");
    assert!(default.contains("-x86-64-v3-wasi0.3-"), "{default}");
    let other_cpu = fingerprint(&CompileOptions { cpu: CpuBaseline::X86_64V2, ..CompileOptions::default() }).unwrap();
    let other_class = fingerprint(&CompileOptions { wasi03: false, ..CompileOptions::default() }).unwrap();
    assert!(default != other_cpu && default != other_class && other_cpu != other_class);
}

#[test]
fn t22_what_is_not_webassembly_is_refused_by_name() {
    let compiled = compile_text(COMMAND).unwrap().bytes;
    let table: [(&[u8], CompileErrorCode, &str); 12] = [
        (b"", CompileErrorCode::NotWebassembly, "empty"),
        (b"\0as", CompileErrorCode::NotWebassembly, "unknown format"),
        (b"\0asm", CompileErrorCode::NotWebassembly, "truncated"),
        (b"(module)", CompileErrorCode::NotWebassembly, "WebAssembly text"),
        (b"  ;; comment\n(component)", CompileErrorCode::NotWebassembly, "WebAssembly text"),
        (b"console.log(1)", CompileErrorCode::NotWebassembly, "but text"),
        (b"\x7fELF\x02\x01\x01", CompileErrorCode::NotWebassembly, "ELF"),
        (b"\x1f\x8b\x08\0", CompileErrorCode::NotWebassembly, "gzip"),
        (b"PK\x03\x04", CompileErrorCode::NotWebassembly, "zip"),
        (&[0xff, 0xfe, 0xfd, 0, 1, 2, 3, 4, 5], CompileErrorCode::NotWebassembly, "unknown format"),
        (&compiled, CompileErrorCode::Precompiled, "compiled native code"),
        (b"\0asm\x02\0\0\0", CompileErrorCode::Invalid, "malformed"),
    ];
    for (bytes, code, words) in table {
        let error = refusal(bytes);
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(words), "{words}: {error}");
    }
}

#[test]
fn t22_polyglots_of_webassembly_and_native_code_are_refused() {
    let compiled = compile_text(COMMAND).unwrap().bytes;
    let mut prefixed = b"\0asm\x01\0\0\0".to_vec();
    prefixed.extend_from_slice(&compiled);
    assert_eq!(refusal(&prefixed).code, CompileErrorCode::Invalid);
    let mut overwritten = compiled.clone();
    overwritten[..8].copy_from_slice(b"\0asm\x01\0\0\0");
    assert_eq!(refusal(&overwritten).code, CompileErrorCode::Invalid);
    let mut appended = wat::parse_str(COMMAND).unwrap();
    appended.extend_from_slice(&compiled);
    assert_eq!(refusal(&appended).code, CompileErrorCode::Invalid);
}

#[test]
fn truncated_artifacts_are_refused_at_every_length() {
    let wasm = wat::parse_str(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 1) (data (i32.const 0) "some data") (func (export "_start")))"#,
    )
    .unwrap();
    // What is cut between two sections may still be a whole module.
    let broken = (0..wasm.len()).filter(|length| wasmparser::Validator::new().validate_all(&wasm[..*length]).is_err());
    for length in broken {
        let error = refusal(&wasm[..length]);
        assert!(
            error.code != CompileErrorCode::Internal && error.code != CompileErrorCode::Unsupported,
            "{length}: {error}"
        );
    }
}

#[test]
fn modules_and_components_that_cannot_be_called_are_refused_with_the_reason() {
    let table = [
        ("(module)", CompileErrorCode::NotCallable, "no _start"),
        (r#"(module (func (export "main")))"#, CompileErrorCode::NotCallable, "no _start"),
        (
            r#"(module (memory (export "memory") 1) (func (export "_initialize")))"#,
            CompileErrorCode::NotCallable,
            "reactor",
        ),
        (r#"(module (func (export "_start")))"#, CompileErrorCode::NotCallable, "no memory"),
        (
            r#"(module (import "env" "magic" (func)) (memory (export "memory") 1) (func (export "_start")))"#,
            CompileErrorCode::UnknownImport,
            "env.magic",
        ),
        (
            r#"(module (import "wasi_unstable" "fd_write" (func)) (memory (export "memory") 1) (func (export "_start")))"#,
            CompileErrorCode::UnknownImport,
            "wasi_unstable.fd_write",
        ),
        (
            r#"(module (import "wasi_snapshot_preview1" "magic" (func)) (memory (export "memory") 1) (func (export "_start")))"#,
            CompileErrorCode::Invalid,
            "magic",
        ),
        ("(component)", CompileErrorCode::NotCallable, "no interface"),
        (r#"(component (import "acme:plug/in@1.0.0" (instance)))"#, CompileErrorCode::NotCallable, "no interface"),
        (
            r#"(component (instance $i) (export "acme:app/run@0.1.0" (instance $i)))"#,
            CompileErrorCode::NotCallable,
            "acme:app/run",
        ),
        (
            r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)) (import "acme:plug/in@1.0.0" (instance)))"#,
            CompileErrorCode::UnknownImport,
            "acme:plug/in@1.0.0",
        ),
    ];
    for (text, code, words) in table {
        let error = compile_text(text).map(|compiled| compiled.kind).unwrap_err();
        assert_eq!(error.code, code, "{text}: {error}");
        assert!(error.message.contains(words), "{words}: {error}");
    }
}

#[test]
fn wasi_0_3_is_refused_where_it_is_off() {
    let text = r#"(component (instance $i) (export "wasi:http/handler@0.3.0" (instance $i)))"#;
    let options = CompileOptions { wasi03: false, ..CompileOptions::default() };
    let error = compile(&wat::parse_str(text).unwrap(), &options).map(|compiled| compiled.kind).unwrap_err();
    assert_eq!(error.code, CompileErrorCode::Wasi03Off);
    assert!(error.hint.contains("0.2"), "{}", error.hint);
}

#[test]
fn a_component_that_can_be_called_in_two_ways_is_called_by_http() {
    let both = r#"(component (instance $i) (export "wasi:cli/run@0.2.3" (instance $i)) (export "wasi:http/incoming-handler@0.2.3" (instance $i)))"#;
    let found = detect::inspect(&wat::parse_str(both).unwrap()).unwrap();
    assert_eq!(found.kind(true).unwrap(), GuestKind::Http02);
    let unreleased = r#"(component (instance $i) (export "wasi:http/handler@0.3.0-rc-2026" (instance $i)))"#;
    assert!(detect::inspect(&wat::parse_str(unreleased).unwrap()).unwrap().kind(true).is_err());
}

#[test]
fn t21_artifacts_beyond_the_limits_are_refused_before_compiling() {
    let many = |count: usize, item: &str| format!("(module {})", item.repeat(count));
    let functions = many(50_001, "(func)");
    let types = format!(
        "(module {})",
        (0..200_001).map(|index| format!("(import \"a\" \"{index}\" (func))")).collect::<String>()
    );
    let custom = many(1_001, "(@custom \"x\" \"y\")");
    let huge = format!("(module (func {}))", "nop ".repeat(2_200_000));
    let table = [
        (functions.as_str(), "50001 functions"),
        (types.as_str(), "imports"),
        (custom.as_str(), "1001 custom sections"),
        (huge.as_str(), "bytes in one function"),
        ("(module (memory 65536))", "65536 pages of initial memory"),
        ("(module (table 10000000 funcref))", "10000000 elements in a table"),
        (r#"(module (import "a" "b" (table 10000000 funcref)))"#, "10000000 elements in a table"),
        (
            "(component (component (component (component (component (component (component (component (component (component (component (component))))))))))))",
            "levels",
        ),
    ];
    for (text, words) in table {
        let error = refusal(&wat::parse_str(text).unwrap());
        assert_eq!(error.code, CompileErrorCode::TooLarge, "{error}");
        assert!(error.message.contains(words), "{words}: {error}");
    }
}

#[test]
fn the_command_writes_a_file_and_one_line_only_for_a_good_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).into_os_string();
    std::fs::write(path("in.wasm"), wat::parse_str(COMMAND).unwrap()).unwrap();
    std::fs::write(path("bad.wasm"), "text").unwrap();
    let run = |input: &str, output: &str| {
        let args: Vec<std::ffi::OsString> =
            vec!["compile".into(), "--input".into(), path(input), "--output".into(), path(output)];
        format!("{:?}", main(args))
    };
    let (success, failure) =
        (format!("{:?}", std::process::ExitCode::SUCCESS), format!("{:?}", std::process::ExitCode::FAILURE));
    assert_eq!(run("in.wasm", "out"), success);
    assert!(folder.path().join("out").metadata().unwrap().len() > 1000);
    assert_eq!(run("in.wasm", "out"), failure, "never overwrites");
    assert_eq!(run("bad.wasm", "out2"), failure);
    assert!(!folder.path().join("out2").exists());
}
