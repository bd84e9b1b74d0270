//! The engines of a process and the programs that are loaded into them: `Runtime` once, `Program` once a version, `Sandbox` once
//! an invocation or, where its version asked for that, for several in turn.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store};
use wasmtime_wasi::p2::bindings::{Command, CommandPre};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};

use super::console::Console;
use super::effort::Usual;
use super::egress::{Egress, Hooks};
use super::engine::{self, Class, Offer};
use super::lanes::Lanes;
use super::limits::{GuestKind, Policy, SandboxConfig};
use super::meter::Meter;
use super::native;
use super::outcome::SandboxError;
use super::run::{Sandbox, bounded, classify, isolated};
use super::state::{self, INSTANTIATION_LIMIT, State};
use super::ticker::Ticker;

/// The engines of a process, one for each class of code, and the thread that interrupts guests.
pub struct Runtime {
    /// The cheapest first.
    hosts: Vec<Host>,
    fingerprint: String,
    max_memory_bytes: u64,
    egress: Arc<Egress>,
    pub(super) lanes: Lanes,
    pub(super) ticker: Ticker,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Starts the engine. Call it once a process.
    pub fn new(config: &SandboxConfig) -> Result<Arc<Self>, SandboxError> {
        let start = |error: wasmtime::Error| SandboxError::Engine(error.into());
        let offer = Offer { wasi03: config.wasi03, cpu: config.cpu };
        let hosts: Vec<Host> =
            offer.classes().map(|class| Host::new(class, config)).collect::<Result<_, _>>().map_err(start)?;
        let fingerprint = engine::fingerprint(offer).map_err(start)?;
        let engines = hosts.iter().map(|host| &host.engine);
        let ticker = Ticker::start(engines).map_err(|error| SandboxError::Engine(error.into()))?;
        let lanes = Lanes::new(config.threads).map_err(|error| SandboxError::Engine(error.into()))?;
        let egress = Arc::new(Egress::new(&config.egress).map_err(SandboxError::Engine)?);
        Ok(Arc::new(Self { hosts, fingerprint, max_memory_bytes: config.max_memory_bytes, egress, lanes, ticker }))
    }

    /// Names engine version, target, CPU, classes and settings. Code that was compiled under another name does not load here.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Maps compiled code and links it. The caller has verified that the file comes from the cluster's compiler and that
    /// nobody can change it; blocking, a few milliseconds for large guests.
    pub fn load(self: &Arc<Self>, compiled: &Path, kind: GuestKind, policy: Policy) -> Result<Program, SandboxError> {
        let (asked, max) = (policy.limits.memory_bytes, self.max_memory_bytes);
        if asked > max {
            return Err(SandboxError::MemoryAboveMaximum { asked, max });
        }
        let (host, component) = self.map(compiled)?;
        let pre = host.linker.instantiate_pre(&component).and_then(|pre| Pre::new(kind, pre));
        let pre = pre.map_err(|error| SandboxError::Link(error.into()))?;
        let (engine, policy, code) = (host.engine.clone(), Arc::new(policy), Arc::from(compiled));
        Ok(Program(Arc::new(ProgramInner { runtime: self.clone(), engine, pre, policy, usual: Arc::default(), code })))
    }

    /// Maps compiled code into the engine of its class: an engine refuses code of another one by the file's first bytes.
    fn map(&self, compiled: &Path) -> Result<(&Host, Component), SandboxError> {
        let mut refusal = wasmtime::Error::msg("there is no engine");
        for host in &self.hosts {
            match native::map_compiled(&host.engine, compiled) {
                Ok(component) => return Ok((host, component)),
                Err(error) => refusal = error,
            }
        }
        Err(SandboxError::Load(refusal.into()))
    }
}

/// An engine with its instance pool and what its guests may import.
struct Host {
    engine: Engine,
    linker: Linker<State>,
}

impl Host {
    fn new(class: Class, config: &SandboxConfig) -> wasmtime::Result<Self> {
        let engine = engine::runtime(class, config)?;
        let linker = state::linker(&engine, class.wasi03)?;
        Ok(Self { engine, linker })
    }
}

/// Loaded and linked code of one version, with its policy. Cheap to clone; the code is unmapped with the last clone.
#[derive(Clone)]
pub struct Program(Arc<ProgramInner>);

pub(super) struct ProgramInner {
    pub(super) runtime: Arc<Runtime>,
    engine: Engine,
    pre: Pre,
    pub(super) policy: Arc<Policy>,
    /// The CPU time of a call.
    pub(super) usual: Arc<Usual>,
    /// The file of its compiled code, which also has its source lines.
    pub(super) code: Arc<Path>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

impl Program {
    /// How it is called.
    pub fn kind(&self) -> GuestKind {
        match &self.0.pre {
            Pre::Http02(_) => GuestKind::Http02,
            Pre::Http03(_) => GuestKind::Http03,
            Pre::Command(_) => GuestKind::Command,
        }
    }

    /// The same code under another policy, without loading it again.
    pub fn with_policy(&self, policy: Policy) -> Result<Self, SandboxError> {
        let (asked, max) = (policy.limits.memory_bytes, self.0.runtime.max_memory_bytes);
        if asked > max {
            return Err(SandboxError::MemoryAboveMaximum { asked, max });
        }
        let ProgramInner { runtime, engine, pre, usual, code, .. } = &*self.0;
        let (runtime, engine, pre, usual) = (runtime.clone(), engine.clone(), pre.clone(), usual.clone());
        let (policy, code) = (Arc::new(policy), code.clone());
        Ok(Self(Arc::new(ProgramInner { runtime, engine, pre, policy, usual, code })))
    }

    /// The CPU time that a call takes; nothing before the first.
    pub(crate) fn usual_cpu(&self) -> Option<Duration> {
        self.0.usual.cpu()
    }

    /// Makes a fresh sandbox, which takes a place in the pool until it has run or is dropped. Runs the guest's start code, if it
    /// has any, under the limits of an invocation and for ten seconds at most.
    pub async fn prepare(&self) -> Result<Sandbox, SandboxError> {
        let began = Instant::now();
        let meter = Arc::new(Meter::new(self.0.policy.limits.clone()));
        let work = instantiate(self.0.clone(), meter.clone(), began);
        let made = isolated(&self.0.runtime.lanes, &meter, self.0.usual.lane(), None, work)
            .await
            .map_err(SandboxError::Guest)?;
        made.map(|sandbox| Sandbox { instantiation: began.elapsed(), ..sandbox })
    }
}

async fn instantiate(program: Arc<ProgramInner>, meter: Arc<Meter>, began: Instant) -> Result<Sandbox, SandboxError> {
    let runtime = program.runtime.clone();
    let console = Console::new(meter.clone());
    let hooks = Hooks::new(runtime.egress.clone(), program.policy.clone(), meter.clone());
    let state = State::new(meter.clone(), hooks, &console, &program.policy.environment);
    let mut store = state::store(&program.engine, state);
    let mut full = false;
    let guest = {
        let work = pin!(async {
            program.pre.instantiate(&mut store).await.map_err(|error| {
                full = error.is::<PoolConcurrencyLimitError>();
                classify(&error, &meter, &program.code)
            })
        });
        let until = began + INSTANTIATION_LIMIT;
        bounded(&meter, began, until, runtime.ticker.running(), std::future::pending(), work).await
    };
    match guest {
        Ok(guest) => {
            let instantiation = began.elapsed();
            Ok(Sandbox { store, guest, program, meter, console, instantiation, effort: None, served: 0 })
        }
        Err(_) if full => Err(SandboxError::PoolExhausted),
        Err(failure) => Err(SandboxError::Guest(failure)),
    }
}

/// A linked component, by kind.
#[derive(Clone)]
enum Pre {
    Http02(ProxyPre<State>),
    Http03(ServicePre<State>),
    Command(CommandPre<State>),
}

impl Pre {
    fn new(kind: GuestKind, pre: wasmtime::component::InstancePre<State>) -> wasmtime::Result<Self> {
        Ok(match kind {
            GuestKind::Http02 => Self::Http02(ProxyPre::new(pre)?),
            GuestKind::Http03 => Self::Http03(ServicePre::new(pre)?),
            GuestKind::Command => Self::Command(CommandPre::new(pre)?),
        })
    }

    async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Guest> {
        Ok(match self {
            Self::Http02(pre) => Guest::Http02(pre.instantiate_async(store).await?),
            Self::Http03(pre) => Guest::Http03(pre.instantiate_async(store).await?),
            Self::Command(pre) => Guest::Command(pre.instantiate_async(store).await?),
        })
    }
}

/// An instance, by kind.
pub(super) enum Guest {
    Http02(Proxy),
    Http03(Service),
    Command(Command),
}

impl Guest {
    pub(super) fn kind(&self) -> GuestKind {
        match self {
            Self::Http02(_) => GuestKind::Http02,
            Self::Http03(_) => GuestKind::Http03,
            Self::Command(_) => GuestKind::Command,
        }
    }
}
