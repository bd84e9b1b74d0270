//! The guests of these tests: small WASI commands in WAT, and one HTTP component in Rust, compiled as at deploy, each once.

use std::{collections::HashMap, sync::LazyLock};

use dunlin_worker::compile::{CompileOptions, compile};

use crate::build::build_rust;

/// Writes a whole answer.
pub(crate) const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\1f\00\00\00")
  (data (i32.const 16) "Content-Type: text/plain\n\nhello")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Writes its head at once, then everything that it reads as it reads it.
pub(crate) const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\40\00\00\00\18\00\00\00")
  (data (i32.const 64) "Content-Type: text/echo\n\n")
  (func $put (param $at i32) (param $length i32)
    (loop $again
      (i32.store (i32.const 16) (local.get $at))
      (i32.store (i32.const 20) (local.get $length))
      (if (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)) (then unreachable))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 24))))
      (local.set $length (i32.sub (local.get $length) (i32.load (i32.const 24))))
      (br_if $again (local.get $length))))
  (func (export "_start")
    (call $put (i32.const 64) (i32.const 25))
    (loop $again
      (i32.store (i32.const 32) (i32.const 65536))
      (i32.store (i32.const 36) (i32.const 32768))
      (if (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 40)) (then unreachable))
      (if (i32.load (i32.const 40)) (then
        (call $put (i32.const 65536) (i32.load (i32.const 40)))
        (br $again))))))"#;

/// Writes to standard error and answers.
pub(crate) const TALK: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\14\00\00\00")
  (data (i32.const 16) "one line\nsecond line")
  (data (i32.const 64) "\50\00\00\00\0c\00\00\00")
  (data (i32.const 80) "Status: 204\n\n")
  (func (export "_start")
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 68) (i32.const 13))
    (drop (call $write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 8)))))"#;

/// Never ends.
pub(crate) const SPIN: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))"#;

/// Traps.
pub(crate) const TRAP: &str = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;

static COMPILED: LazyLock<HashMap<&'static str, Vec<u8>>> = LazyLock::new(|| {
    let options = CompileOptions { single_thread: false, ..CompileOptions::default() };
    let compiled = |wat| (wat, compile(&wat::parse_str(wat).unwrap(), &options).unwrap().bytes);
    [HELLO, ECHO, TALK, SPIN, TRAP].map(compiled).into()
});

/// The native code of the HTTP guest of the sandbox's tests.
pub(crate) fn http() -> &'static [u8] {
    static HTTP: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let options = CompileOptions { single_thread: false, ..CompileOptions::default() };
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/hostile-http");
        compile(&build_rust(&folder, "hostile_http.wasm"), &options).unwrap().bytes
    });
    &HTTP
}

/// The native code of a guest.
pub(crate) fn compiled(guest: &'static str) -> &'static [u8] {
    &COMPILED[guest]
}
