//! Compiles, loads and calls guests as the worker does, and collects what comes out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use dunlin_worker::compile::{CompileOptions, compile};
use dunlin_worker::sandbox::{
    Call, Completion, EgressConfig, Failure, Left, Limits, LogRecord, LogSink, Outcome, Policy, Program, RequestBody,
    ResponseEvent, ResponseSink, Runtime, Sandbox, SandboxConfig,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// A pool that is large enough for tests that run at once and small enough to make quickly.
pub(crate) fn small() -> SandboxConfig {
    SandboxConfig { max_sandboxes: 150, max_unused_warm_slots: 10, ..SandboxConfig::default() }
}

/// The one runtime that most tests share, as all functions of a worker do. Loopback is open to it, so that guests can reach
/// listeners of the tests; what is forbidden is tested with runtimes of their own.
pub(crate) fn shared() -> Arc<Runtime> {
    static SHARED: OnceLock<Arc<Runtime>> = OnceLock::new();
    let open = || EgressConfig { allow_private: vec!["127.0.0.1/32".parse().unwrap()], ..EgressConfig::default() };
    SHARED.get_or_init(|| Runtime::new(&SandboxConfig { egress: open(), ..small() }).unwrap()).clone()
}

/// The path of a guest's source.
pub(crate) fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name)
}

/// A guest of `guests/*.wat`, loaded into the shared runtime.
pub(crate) fn wat(name: &str, policy: Policy) -> Program {
    load(&shared(), &wat::parse_file(guest(name)).unwrap(), policy)
}

/// Compiles and loads an artifact.
pub(crate) fn load(runtime: &Arc<Runtime>, wasm: &[u8], policy: Policy) -> Program {
    let compiled = compile(wasm, &CompileOptions { single_thread: false, ..CompileOptions::default() }).unwrap();
    assert_eq!(compiled.fingerprint, runtime.fingerprint());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &compiled.bytes).unwrap();
    // The mapping outlives the name.
    runtime.load(file.path(), compiled.kind, policy).unwrap()
}

/// For guests that are to end by something else than time, which must not come first: neither on a slow machine, nor on one
/// that stands still for a while, which may count as CPU time.
pub(crate) fn patient() -> Limits {
    Limits { cpu: Duration::from_secs(20), wall: Duration::from_secs(50), ..Limits::default() }
}

/// For guests that wait without end: their deadline ends them soon.
pub(crate) fn brief() -> Limits {
    Limits { wall: Duration::from_secs(2), ..patient() }
}

/// For guests that compute without end: their CPU time ends them. They have low priority, so that on a busy machine that is long
/// in coming, and their deadline must not come first.
pub(crate) fn busy() -> Limits {
    Limits { cpu: Duration::from_millis(300), ..patient() }
}

/// What a guest is given that does what its path says: little of what it is to use up, and plenty of all else.
pub(crate) fn limits_of(path: &str) -> Limits {
    if path.contains("loop") {
        busy()
    } else if path.contains("sleep") || path.contains("wait") {
        brief()
    } else {
        patient()
    }
}

/// Measures until one time is below a bound, five times at the most: a machine that stands still, or is taken away by its host,
/// adds to what clocks show, also to CPU time, but does so now and then. What is always late is not forgiven. No time may come
/// near the ten seconds, at least, after which something else would end what is measured.
pub(crate) async fn once_below(bound: Duration, mut measure: impl AsyncFnMut() -> Duration) {
    let mut times = Vec::new();
    while times.iter().all(|time| *time >= bound) {
        assert!(times.len() < 5, "never below {bound:?}: {times:?}");
        let time = measure().await;
        assert!(time < Duration::from_secs(8), "{time:?}, where {bound:?} are right");
        times.push(time);
    }
}

pub(crate) fn policy(limits: Limits) -> Policy {
    Policy { limits, ..Policy::default() }
}

/// Everything that one call came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    pub(crate) headers: ::http::HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) logs: Vec<LogRecord>,
    pub(crate) completion: Completion,
    pub(crate) took: Duration,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The failure's code, or "ok".
    pub(crate) fn code(&self) -> &'static str {
        match &self.completion.outcome {
            Outcome::Ok => "ok",
            Outcome::Failed(failure) => failure.code(),
        }
    }

    pub(crate) fn failure(&self) -> &Failure {
        match &self.completion.outcome {
            Outcome::Ok => panic!("the guest succeeded: {self:?}"),
            Outcome::Failed(failure) => failure,
        }
    }
}

pub(crate) fn get(path: &str) -> ::http::Request<RequestBody> {
    ::http::Request::get(format!("http://fn.example{path}")).body(RequestBody::empty()).unwrap()
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> ::http::Request<RequestBody> {
    let body = body.into();
    let request = ::http::Request::post(format!("http://fn.example{path}")).header("content-length", body.len());
    request.body(RequestBody::full(body)).unwrap()
}

pub(crate) async fn call(program: &Program, request: ::http::Request<RequestBody>) -> Answer {
    call_with(program, request, CancellationToken::new()).await
}

/// Makes a sandbox, runs one call in it and reads everything that comes out.
pub(crate) async fn call_with(
    program: &Program,
    request: ::http::Request<RequestBody>,
    cancel: CancellationToken,
) -> Answer {
    call_in(program.prepare().await.unwrap(), 1, request, cancel).await.0
}

/// Runs one of so many calls in a sandbox and reads everything that comes out.
pub(crate) async fn call_in(
    sandbox: Sandbox,
    max_calls: u32,
    request: ::http::Request<RequestBody>,
    cancel: CancellationToken,
) -> (Answer, Left) {
    let began = Instant::now();
    let (response, mut events) = ResponseSink::channel(8);
    let (sender, mut records) = mpsc::channel(10_000);
    let logs = LogSink::new(move |record| sender.try_send(record).is_ok());
    let deadline = began + Duration::from_secs(60);
    let running =
        sandbox.run_one_of(max_calls, Call { id: uuid::Uuid::now_v7(), deadline, request, response, logs, cancel });
    let reading = async {
        let mut seen = (None, ::http::HeaderMap::new(), Vec::new(), false);
        while let Some(event) = events.recv().await {
            match event {
                ResponseEvent::Head(status, headers) => (seen.0, seen.1) = (Some(status.as_u16()), headers),
                ResponseEvent::Data(data) => {
                    assert!(!data.is_empty() && data.len() <= 64 << 10, "a frame of {} bytes", data.len());
                    seen.2.extend_from_slice(&data);
                }
                ResponseEvent::Trailers(_) => {}
                ResponseEvent::End => seen.3 = true,
            }
        }
        seen
    };
    let ((completion, left), (status, headers, body, ended)) = tokio::join!(running, reading);
    let took = began.elapsed();
    let logs = std::iter::from_fn(|| records.try_recv().ok()).collect();
    (Answer { status, headers, body, ended, logs, completion, took }, left)
}

/// What this process grew by since a moment; the shared runtime is made and has served before.
pub(crate) struct Growth(u64);

impl Growth {
    pub(crate) async fn since_now() -> Self {
        assert_eq!(call(&wat("hello.wat", Policy::default()), get("/")).await.code(), "ok");
        Self(resident())
    }

    /// The room is what huge pages, the allocator and what earlier tests let go late may take. A guest that could make the
    /// host hold what it sends would pass it many times over within its time.
    pub(crate) fn is_small(&self) {
        self.is_below(64 << 20);
    }

    pub(crate) fn is_below(&self, bytes: u64) {
        let grown = resident().saturating_sub(self.0);
        assert!(grown < bytes, "the process grew by {grown} bytes");
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
