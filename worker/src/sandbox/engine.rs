//! The configuration of the engine, in one place for the compiler and for the runtime, because code loads only where both
//! agree. Everything that guests do not need is off; each switch has a test in `engine/tests.rs`.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy, OptLevel, PoolingAllocationConfig,
    Strategy, WasmBacktraceDetails,
};

use super::limits::SandboxConfig;
use super::native;

/// The engine's version; a test compares it with `Cargo.lock`. Code is bound to all of it, not only to the major version.
const ENGINE_VERSION: &str = "48.0.8";
/// Bytes of stack for WebAssembly code.
pub(crate) const WASM_STACK_BYTES: usize = 512 << 10;
/// Bytes of a whole fiber stack. What exceeds the WebAssembly part is for host code; running out of it kills the process.
const FIBER_STACK_BYTES: usize = 2 << 20;
/// Core instances of one component. Python guests need 14 and one more for each native extension.
pub(crate) const CORE_INSTANCES: u32 = 64;
/// Linear memories of one component.
pub(crate) const MEMORIES: u32 = 4;
/// Tables of one component.
pub(crate) const TABLES: u32 = 10;
/// Elements of one table. JavaScript guests need 7,785.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;

/// Address space of one linear memory: all that 32-bit addresses reach, so that they need no checks, and the guard after it.
const MEMORY_SLOT_BYTES: u64 = (4 << 30) + (32 << 20);
/// Address space for the linear memories of all engines of a process; the system gives 128 TiB (x86-64 without five-level pages).
const ADDRESS_SPACE_BYTES: u64 = 104 << 40;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Most bytes of a memory or table that stay mapped where touched pages cannot be found cheaply.
const KEPT_WITHOUT_SCAN: usize = 128 << 10;

/// The CPU that code is compiled for: never the one that the compiler happens to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CpuBaseline {
    /// Nehalem and later.
    X86_64V2,
    /// Haswell, Zen and later.
    #[default]
    X86_64V3,
}

impl CpuBaseline {
    fn flags(self) -> &'static [&'static str] {
        const V3: &[&str] = &[
            "has_cmpxchg16b",
            "has_sse3",
            "has_ssse3",
            "has_sse41",
            "has_sse42",
            "has_popcnt",
            "has_avx",
            "has_avx2",
            "has_fma",
            "has_bmi1",
            "has_bmi2",
            "has_lzcnt",
        ];
        match self {
            Self::X86_64V2 => V3.split_at(6).0,
            Self::X86_64V3 => V3,
        }
    }
}

impl fmt::Display for CpuBaseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64V2 => "x86-64-v2",
            Self::X86_64V3 => "x86-64-v3",
        })
    }
}

/// A word that names no [`CpuBaseline`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown CPU baseline {0:?}, expected x86-64-v2 or x86-64-v3")]
pub struct UnknownCpuBaseline(String);

impl FromStr for CpuBaseline {
    type Err = UnknownCpuBaseline;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "x86-64-v2" => Ok(Self::X86_64V2),
            "x86-64-v3" => Ok(Self::X86_64V3),
            other => Err(UnknownCpuBaseline(other.to_owned())),
        }
    }
}

/// What guests are offered, which decides the engines of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Whether WASI 0.3 is offered besides 0.2.
    pub(crate) wasi03: bool,
    /// The CPU that all code is compiled for.
    pub(crate) cpu: CpuBaseline,
}

impl Offer {
    /// The classes of engines, the cheapest first. Async components make every call dearer, also of those that are none, so
    /// they have an engine of their own. Engines of one process share nothing but the handler of signals, which asks each
    /// whose code it was.
    pub(crate) fn classes(self) -> impl Iterator<Item = Class> {
        [false, true].into_iter().filter(move |wasi03| self.wasi03 || !wasi03).map(move |wasi03| self.class(wasi03))
    }

    fn class(self, wasi03: bool) -> Class {
        Class { wasi03, cpu: self.cpu }
    }
}

/// What compiled code depends on besides the engine's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    /// WASI 0.3, which means async components and their cost.
    pub(crate) wasi03: bool,
    /// The CPU.
    pub(crate) cpu: CpuBaseline,
}

impl Class {
    /// The target that code is compiled for. The C library is part of the name only because the engine insists that it match.
    fn target(self) -> &'static str {
        if cfg!(target_env = "musl") { "x86_64-unknown-linux-musl" } else { "x86_64-unknown-linux-gnu" }
    }
}

/// The engine that compiles.
pub(crate) fn compiler(class: Class, single_thread: bool) -> wasmtime::Result<Engine> {
    let mut config = shared(class)?;
    config.target(class.target())?;
    native::allow_cpu_features(&mut config, class.cpu.flags());
    config.strategy(Strategy::Cranelift).cranelift_opt_level(OptLevel::Speed).parallel_compilation(!single_thread);
    Engine::new(&config)
}

/// The engine that runs guests of a class. It has no compiler, so hostile code cannot reach one here.
pub(super) fn runtime(class: Class, settings: &SandboxConfig) -> wasmtime::Result<Engine> {
    let mut config = shared(class)?;
    config.enable_compiler(false).allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings)));
    Engine::new(&config)
}

/// Names everything that decides whether compiled code loads: engine version, target, CPU, classes and a hash of all
/// settings. It names all classes together: whoever offers them can load code of each.
pub(crate) fn fingerprint(offer: Offer) -> wasmtime::Result<String> {
    let mut settings = SettingsHasher(Sha256::new());
    for class in offer.classes() {
        std::hash::Hash::hash(&compiler(class, true)?.precompile_compatibility_hash(), &mut settings);
    }
    let digest = hex::encode(settings.0.finalize());
    let offered = if offer.wasi03 { "wasi0.3" } else { "wasi0.2" };
    let short = digest.get(..16).unwrap_or(&digest);
    let target = offer.class(false).target();
    Ok(format!("wasmtime-{ENGINE_VERSION}-{target}-{}-{offered}-{short}", offer.cpu))
}

/// The settings that compiler and runtime share.
fn shared(class: Class) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config.module_version(ModuleVersionStrategy::Custom(ENGINE_VERSION.to_owned()))?;
    // Proposals that no toolchain in use needs and that most of the engine's advisories were about.
    config
        .wasm_threads(false)
        .wasm_shared_everything_threads(false)
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .gc_support(false)
        .wasm_stack_switching(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    // Async components make a small call dearer (`Offer::classes`).
    config
        .concurrency_support(class.wasi03)
        .wasm_component_model_async(class.wasi03)
        .wasm_component_model_async_stackful(false)
        .wasm_component_model_threading(false)
        .wasm_component_model_error_context(false)
        .wasm_component_model_gc(false);
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .async_stack_zeroing(true)
        .memory_may_move(false);
    // Debug information is attacker-controlled input to the host's parsers; frames are bounded.
    config
        .debug_info(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(20));
    Ok(config)
}

/// The pool of instances. One sandbox may use several core instances and tables, so the totals are multiples.
fn pool(settings: &SandboxConfig) -> PoolingAllocationConfig {
    let sandboxes = settings.max_sandboxes.max(1);
    let scan = swap_is_off() && PoolingAllocationConfig::is_pagemap_scan_available();
    // Without a scan the engine clears all of it after every guest, touched or not.
    let keep = |bytes: usize| if scan { bytes } else { bytes.min(KEPT_WITHOUT_SCAN) };
    let memory = kept(settings.memory_keep_resident_bytes, settings.max_unused_warm_slots, machine_memory());
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(sandboxes)
        .total_stacks(sandboxes)
        .total_gc_heaps(sandboxes)
        .total_core_instances(sandboxes.saturating_mul(CORE_INSTANCES))
        .total_memories(memories(sandboxes, settings.wasi03))
        .total_tables(sandboxes.saturating_mul(TABLES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .max_memories_per_module(MEMORIES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(settings.max_memory_bytes).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(keep(memory))
        .table_keep_resident(keep(settings.table_keep_resident_bytes))
        .async_stack_keep_resident(settings.stack_keep_resident_bytes)
        .max_unused_warm_slots(settings.max_unused_warm_slots)
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool
}

/// How much of each memory stays, so that all warm slots together never hold more than a quarter of the machine's memory.
fn kept(wanted: usize, warm_slots: u32, machine: u64) -> usize {
    let share = machine / 4 / u64::from(warm_slots.max(1));
    wanted.min(usize::try_from(share).unwrap_or(usize::MAX)) & !(PAGE - 1)
}

/// The memory of this machine, in bytes.
fn machine_memory() -> u64 {
    std::fs::read_to_string("/proc/meminfo").ok().and_then(|table| total_memory(&table)).unwrap_or(1 << 30)
}

/// Reads `/proc/meminfo`: a line for each figure, in units of 1024 bytes.
fn total_memory(table: &str) -> Option<u64> {
    let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// The linear memories of an engine: as many as its sandboxes could have, or as many as there is room for. Next to all
/// components have one, and a sandbox that finds none is refused before it runs.
fn memories(sandboxes: u32, wasi03: bool) -> u32 {
    let engines = if wasi03 { 2 } else { 1 };
    let room = ADDRESS_SPACE_BYTES / engines / MEMORY_SLOT_BYTES;
    sandboxes.saturating_mul(MEMORIES).min(u32::try_from(room).unwrap_or(u32::MAX))
}

/// Whether this machine has no swap. Resetting slots by scanning the page map misses pages that were swapped out, which
/// would hand one guest's memory to the next.
fn swap_is_off() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|table| has_no_swap(&table))
}

/// Reads `/proc/swaps`: a heading, then one line for each swap area.
fn has_no_swap(table: &str) -> bool {
    let mut lines = table.lines();
    lines.next().is_some_and(|heading| heading.starts_with("Filename")) && lines.all(|line| line.trim().is_empty())
}

/// Feeds what the engine hashes into SHA-256, whose output does not depend on the version of the standard library.
struct SettingsHasher(Sha256);

impl std::hash::Hasher for SettingsHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests;
