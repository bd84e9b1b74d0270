//! Each proposal that is off is refused, and what compiler and runtime must agree on agrees.

use super::*;
use wasmtime::component::Component;

fn compiler_engine(wasi03: bool) -> Engine {
    compiler(Class { wasi03, cpu: CpuBaseline::X86_64V3 }, true).unwrap()
}

/// Compiles a module or component, inside a component if need be, and returns the engine's refusal.
fn refusal(engine: &Engine, text: &str) -> Option<String> {
    let text = if text.starts_with("(component") {
        text.to_owned()
    } else {
        format!("(component (core {}))", text.strip_prefix('(').unwrap().strip_suffix(')').unwrap())
    };
    let wasm = wat::parse_str(text).unwrap();
    Component::from_binary(engine, &wasm).err().map(|error| format!("{error:#}"))
}

#[test]
fn proposals_that_are_off_are_refused() {
    let table = [
        ("threads", "(module (memory 1 1 shared))"),
        ("atomics", "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))"),
        ("memory64", "(module (memory i64 1))"),
        ("table64", "(module (table i64 1 funcref))"),
        ("gc structs", "(module (type (struct (field i32))))"),
        ("gc i31", "(module (func (param i31ref)))"),
        ("function references", "(module (type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0))))"),
        ("exceptions", "(module (tag $e) (func (throw $e)))"),
        ("stack switching", "(module (type $f (func)) (type $c (cont $f)))"),
        ("custom page sizes", "(module (memory 1 (pagesize 1)))"),
        (
            "wide arithmetic",
            "(module (func (param i64 i64 i64 i64) (result i64 i64) local.get 0 local.get 1 local.get 2 local.get 3 i64.add128))",
        ),
        (
            "stackful async",
            "(component (core module $m (func (export \"f\"))) (core instance $i (instantiate $m)) (func (export \"f\") async (canon lift (core func $i \"f\") async)))",
        ),
        ("error context", "(component (core func (canon error-context.drop)))"),
    ];
    let engine = compiler_engine(true);
    for (proposal, text) in table {
        assert!(refusal(&engine, text).is_some(), "{proposal} is accepted");
    }
}

#[test]
fn what_guests_do_use_is_accepted() {
    let table = [
        ("simd", "(module (func (param v128) (drop (i32x4.add (local.get 0) (local.get 0)))))"),
        ("bulk memory", "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 1))))"),
        ("reference types", "(module (table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1)))))"),
        ("tail calls", "(module (func $f (return_call $f)))"),
        ("multi value", "(module (func (result i32 i32) i32.const 1 i32.const 2))"),
        ("sign extension", "(module (func (drop (i32.extend8_s (i32.const 1)))))"),
    ];
    let engine = compiler_engine(true);
    for (proposal, text) in table {
        assert_eq!(refusal(&engine, text), None, "{proposal}");
    }
}

#[test]
fn async_components_need_wasi_0_3() {
    let text = r#"(component (type $t (func async)) (import "f" (func (type $t))))"#;
    assert_eq!(refusal(&compiler_engine(true), text), None);
    assert!(refusal(&compiler_engine(false), text).is_some());
}

#[test]
fn every_sandbox_has_a_memory_and_all_fit_into_the_address_space() {
    for (capacity, wasi03) in [(1, true), (1_000, true), (10_000, true), (10_000, false)] {
        let sandboxes = capacity + capacity / 4;
        let memories = memories(sandboxes, wasi03);
        assert!(memories >= sandboxes, "{memories} memories for {sandboxes} sandboxes");
        let all = u64::from(memories) * MEMORY_SLOT_BYTES * if wasi03 { 2 } else { 1 };
        assert!(all < 120 << 40, "{} TiB", all >> 40);
    }
}

#[test]
fn swap_areas_are_seen() {
    let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
    assert!(has_no_swap(heading));
    assert!(!has_no_swap(&format!("{heading}/dev/sda2  partition 1024 0 -2\n")));
    assert!(!has_no_swap(""), "unreadable means careful");
}

#[test]
fn warm_slots_hold_a_quarter_of_the_machine_at_most() {
    let mebibytes = |count: usize| count << 20;
    assert_eq!(kept(mebibytes(32), 200, 64 << 30), mebibytes(32));
    for (slots, machine) in [(200, 16 << 30), (200, 1 << 30), (1, 4096), (0, 1 << 20)] {
        let bytes = kept(mebibytes(32), slots, machine);
        assert!(bytes as u64 * u64::from(slots) <= machine / 4 && bytes.is_multiple_of(PAGE), "{bytes}");
    }
    assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       24600000 kB\n"), Some(24_600_000 << 10));
    assert_eq!(total_memory("MemTotal: much"), None);
    assert!(machine_memory() > 1 << 20);
}

#[test]
fn the_engine_version_is_the_locked_one() {
    let lock = include_str!("../../../../Cargo.lock");
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"wasmtime\"");
    assert_eq!(lines.nth(1), Some(format!("version = \"{ENGINE_VERSION}\"").as_str()));
}

#[test]
fn cpu_baselines_survive_being_written_and_read() {
    for cpu in [CpuBaseline::X86_64V2, CpuBaseline::X86_64V3] {
        assert_eq!(cpu.to_string().parse(), Ok(cpu));
    }
    assert!("native".parse::<CpuBaseline>().is_err());
}
