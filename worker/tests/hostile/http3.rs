//! The same with WASI 0.3, where the response comes before the guest is done and bodies are streams of the engine.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use dunlin_worker::compile::{CompileOptions, compile};
use dunlin_worker::sandbox::{GuestKind, Limits, Policy, Program, Runtime, SandboxConfig};

use tokio::task::JoinSet;

use super::build::build_rust;
use super::http;
use super::support::{Answer, call, get, guest, limits_of, load, patient, policy, post, shared, small};

pub(crate) fn hostile(policy: Policy) -> Program {
    static LOADED: OnceLock<Program> = OnceLock::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/hostile-http3");
    let loaded = LOADED.get_or_init(|| load(&shared(), &build_rust(&folder, "hostile_http3.wasm"), Policy::default()));
    loaded.with_policy(policy).unwrap()
}

async fn visit(path: &str) -> Answer {
    call(&hostile(policy(limits(path))), get(path)).await
}

fn limits(path: &str) -> Limits {
    Limits { memory_bytes: 32 << 20, ..limits_of(path) }
}

#[tokio::test]
async fn a_fine_request_is_answered() {
    let answer = visit("/").await;
    assert_eq!((answer.status, answer.text().as_str(), answer.ended, answer.code()), (Some(200), "some", true, "ok"));
    assert_eq!(hostile(Policy::default()).kind(), GuestKind::Http03);
}

#[tokio::test]
async fn a_request_body_can_be_sent_back_unread() {
    let answer = call(&hostile(policy(patient())), post("/forward", vec![b'x'; 300_000])).await;
    assert_eq!((answer.code(), answer.body.len(), answer.ended), ("ok", 300_000, true), "{:?}", answer.completion);
}

#[tokio::test]
async fn every_way_to_fail_has_its_own_word() {
    let table = [
        ("/loop", "cpu_exceeded"),
        ("/sleep", "deadline_exceeded"),
        ("/memory", "memory_exceeded"),
        ("/panic", "trap"),
        ("/error", "guest_error"),
        ("/handles", "handles_exceeded"),
        ("/status", "invalid_response"),
        ("/trap-in-body", "trap"),
        ("/loop-in-body", "cpu_exceeded"),
        ("/wait-in-body", "deadline_exceeded"),
        ("/endless", "response_too_large"),
    ];
    for (path, code) in table {
        let answer = visit(path).await;
        assert_eq!(answer.code(), code, "{path}: {:?}", answer.completion);
        assert!(!answer.ended, "{path} ended as if it were whole");
        assert!(answer.took < Duration::from_secs(40), "{path} took {:?}", answer.took);
    }
    assert_eq!(visit("/").await.code(), "ok");
}

#[tokio::test]
async fn a_failure_after_the_end_leaves_the_response_whole() {
    let answer = visit("/trap-after-body").await;
    assert_eq!((answer.code(), answer.text().as_str(), answer.ended), ("trap", "some", true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_engines_of_a_process_stop_their_guests_at_the_same_time() {
    for (path, code) in
        [("/loop", "cpu_exceeded"), ("/panic", "trap"), ("/memory", "memory_exceeded"), ("/trap-in-body", "trap")]
    {
        let plain = http::hostile(policy(limits(path)));
        let mut both = JoinSet::new();
        both.spawn(async move { call(&plain, get(path)).await });
        both.spawn(visit(path));
        let codes: Vec<_> = both.join_all().await.iter().map(Answer::code).collect();
        assert_eq!(codes, [code, code], "{path}");
    }
    assert_eq!(visit("/").await.code(), "ok");
    assert_eq!(call(&http::hostile(Policy::default()), get("/")).await.code(), "ok");
}

#[tokio::test]
async fn only_what_needs_wasi_0_3_runs_on_its_engine() {
    let without = Runtime::new(&SandboxConfig { wasi03: false, ..small() }).unwrap();
    let loads = |wasm: &[u8]| {
        let compiled = compile(wasm, &CompileOptions::default()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &compiled.bytes).unwrap();
        without.load(file.path(), compiled.kind, Policy::default()).is_ok()
    };
    assert!(loads(&wat::parse_file(guest("hello.wat")).unwrap()));
    let folder = guest("hostile-http3");
    assert!(!loads(&build_rust(&folder, "hostile_http3.wasm")));
}
