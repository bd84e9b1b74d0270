//! What lives in a guest's store: its WASI context with nothing granted, its handles, its HTTP hooks and its limiter.
//! Also everything that a guest may import, in one linker; what is not added here does not exist.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{CallHook, Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::clock::{CoarseMonotonic, CoarseWall};
use super::console::Console;
use super::egress::Hooks;
use super::engine;
use super::meter::Meter;

/// Most bytes that one call may ask of the random generator.
const RANDOM_BYTES: u64 = 64 << 10;

/// The data of one store.
pub(crate) struct State {
    pub(super) wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(super) table: ResourceTable,
    pub(super) hooks: Hooks,
    /// What the guest held at the end of its last call and may not keep; see `again.rs`.
    pub(super) unsettled: Option<&'static str>,
    limiter: Limiter,
    pub(super) meter: Arc<Meter>,
}

impl State {
    /// A fresh state that grants only `environment`.
    pub(super) fn new(meter: Arc<Meter>, hooks: Hooks, console: &Console, environment: &[(String, String)]) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(meter.limits.response_header_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(meter.limits.handles);
        let mut wasi = bare_wasi(environment);
        wasi.stdout(console.stdout()).stderr(console.stderr());
        Self {
            wasi: wasi.build(),
            http,
            table,
            hooks,
            unsettled: None,
            limiter: Limiter { tables: 0, grown: 0, meter: meter.clone() },
            meter,
        }
    }
}

impl State {
    /// Charges another account from now on. Memories and tables stay, and so does what they count.
    pub(super) fn renew(&mut self, meter: &Arc<Meter>) {
        self.hooks.renew(meter.clone());
        self.limiter.meter = meter.clone();
        self.meter = meter.clone();
    }
}

/// A WASI context that grants an environment and coarse clocks: no folder, no socket, no argument, empty stdin.
pub(super) fn bare_wasi(environment: &[(String, String)]) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .envs(environment)
        .max_random_size(RANDOM_BYTES)
        .monotonic_clock(CoarseMonotonic::starting_now())
        .wall_clock(CoarseWall)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    builder
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Everything that a guest may import.
pub(crate) fn linker(engine: &Engine, wasi03: bool) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if wasi03 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}

/// A store with every limit set, ready to instantiate into.
pub(super) fn store(engine: &Engine, state: State) -> Store<State> {
    let limits = state.meter.limits.clone();
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.call_hook(|store, change| {
        if matches!(change, CallHook::CallingHost) {
            store.data().meter.host_called();
        }
        Ok(())
    });
    store.set_hostcall_fuel(limits.hostcall_bytes);
    store.set_max_component_handles(limits.handles);
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(limits.handles);
    }
    store.epoch_deadline_callback(|store| match store.data().meter.over_cpu() {
        Some(failure) => {
            store.data().meter.halt(failure);
            Ok(UpdateDeadline::Interrupt)
        }
        // Everybody gets a turn at every tick.
        None => Ok(UpdateDeadline::Yield(1)),
    });
    store.set_epoch_deadline(1);
    store
}

/// Keeps the sums over all memories and all tables of a store below the limits, and notes what it refused.
struct Limiter {
    tables: usize,
    /// Bytes that the last growth of a memory was charged, taken back if it then fails.
    grown: u64,
    meter: Arc<Meter>,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let now = self.meter.memory();
        let grown = desired.saturating_sub(current) as u64;
        if now.saturating_add(grown) > self.meter.limits.memory_bytes {
            self.meter.deny_memory();
            self.grown = 0;
            return Ok(false);
        }
        self.grown = grown;
        self.meter.set_memory(now + grown);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.meter.set_memory(self.meter.memory().saturating_sub(std::mem::take(&mut self.grown)));
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.tables.saturating_add(desired.saturating_sub(current));
        if wanted > self.meter.limits.table_elements {
            self.meter.deny_table();
            return Ok(false);
        }
        self.tables = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        engine::CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        engine::TABLES as usize
    }

    fn memories(&self) -> usize {
        engine::MEMORIES as usize
    }
}

/// Time after which a guest that was never called is abandoned while it is being instantiated.
pub(super) const INSTANTIATION_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;
    use super::*;

    fn limiter(limits: Limits) -> Limiter {
        Limiter { tables: 0, grown: 0, meter: Arc::new(Meter::new(limits)) }
    }

    #[test]
    fn t04_the_memory_limit_holds_for_the_sum_of_all_memories() {
        let mut limiter = limiter(Limits { memory_bytes: 10 << 16, ..Limits::default() });
        assert!(limiter.memory_growing(0, 6 << 16, None).unwrap());
        assert!(limiter.memory_growing(0, 4 << 16, None).unwrap());
        assert_eq!(limiter.meter.denial(), None);
        limiter.memory_grow_failed(wasmtime::Error::msg("out of address space")).unwrap();
        assert!(limiter.memory_growing(0, 4 << 16, None).unwrap());
        assert!(!limiter.memory_growing(4 << 16, 5 << 16, None).unwrap());
        assert_eq!(limiter.meter.denial().unwrap().code(), "memory_exceeded");
        assert_eq!(limiter.meter.usage(Duration::ZERO, Duration::ZERO).peak_memory_bytes, 10 << 16);
    }

    #[test]
    fn t06_the_table_limit_holds_for_the_sum_of_all_tables() {
        let mut limiter = limiter(Limits { table_elements: 100, ..Limits::default() });
        assert!(limiter.table_growing(0, 60, None).unwrap());
        assert!(!limiter.table_growing(0, usize::MAX, None).unwrap());
        assert!(!limiter.table_growing(0, 41, None).unwrap());
        assert!(limiter.table_growing(0, 40, None).unwrap());
        assert_eq!(limiter.meter.denial().unwrap().code(), "table_exceeded");
    }
}
