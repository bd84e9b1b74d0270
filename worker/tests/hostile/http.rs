//! T01-T12 with a WASI HTTP component: the same limits through the other door.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use dunlin_worker::sandbox::{Failure, GuestKind, Limits, Policy, Program};

use super::build::build_rust;
use super::support::{Answer, Growth, call, get, limits_of, load, patient, policy, shared};

/// The guest, built and compiled once.
pub(crate) fn hostile(policy: Policy) -> Program {
    static LOADED: OnceLock<Program> = OnceLock::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/hostile-http");
    let loaded = LOADED.get_or_init(|| load(&shared(), &build_rust(&folder, "hostile_http.wasm"), Policy::default()));
    loaded.with_policy(policy).unwrap()
}

async fn visit(path: &str, limits: Limits) -> Answer {
    call(&hostile(policy(limits)), get(path)).await
}

#[tokio::test]
async fn a_fine_request_is_answered() {
    let answer = visit("/", Limits::default()).await;
    assert_eq!((answer.status, answer.text().as_str(), answer.ended, answer.code()), (Some(200), "fine", true, "ok"));
    assert_eq!(hostile(Policy::default()).kind(), GuestKind::Http02);
}

#[tokio::test]
async fn every_way_to_fail_has_its_own_word() {
    let table = [
        ("/loop", "cpu_exceeded"),
        ("/sleep", "deadline_exceeded"),
        ("/memory", "memory_exceeded"),
        ("/panic", "trap"),
        ("/exit", "exit_status"),
        ("/silent", "no_response"),
        ("/leak-out", "no_response"),
        ("/error", "guest_error"),
        ("/handles", "handles_exceeded"),
        ("/unfinished", "invalid_response"),
        ("/trap-in-body", "trap"),
        ("/endless", "response_too_large"),
        ("/length?2", "invalid_response"),
        ("/length?5", "invalid_response"),
        ("/status?101", "invalid_response"),
        ("/status?103", "invalid_response"),
        ("/status?600", "invalid_response"),
    ];
    for (path, code) in table {
        let answer = visit(path, Limits { memory_bytes: 32 << 20, ..limits_of(path) }).await;
        assert_eq!(answer.code(), code, "{path}: {answer:?}");
        assert!(!answer.ended, "{path} ended as if it were whole");
        assert!(answer.took < Duration::from_secs(40), "{path} took {:?}", answer.took);
    }
    assert_eq!(visit("/", Limits::default()).await.code(), "ok");
}

#[tokio::test]
async fn t08_one_call_cannot_make_the_host_hold_much() {
    let growth = Growth::since_now().await;
    let answer = visit("/random?4294967296", patient()).await;
    assert!(["trap", "handles_exceeded", "memory_exceeded"].contains(&answer.code()), "{answer:?}");
    assert_eq!(visit("/random?65536", patient()).await.text(), "65536");
    growth.is_small();
}

#[tokio::test]
async fn t10_endless_empty_writes_send_nothing_and_end() {
    let growth = Growth::since_now().await;
    let answer = visit("/empty", Limits { response_frames: 100_000, ..patient() }).await;
    assert_eq!(answer.failure(), &Failure::InvalidResponse("more than 100000 body frames".to_owned()));
    assert!(answer.body.is_empty());
    growth.is_small();
}

#[tokio::test]
async fn t11_headers_without_end_are_cut_by_the_host() {
    let answer = visit("/headers", patient()).await;
    let bytes: usize = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(bytes < 128 << 10, "{bytes}");
}

#[tokio::test]
async fn t11_guests_cannot_name_fields_of_the_connection() {
    let text = visit("/fields", patient()).await.text();
    for name in ["connection", "host", "transfer-encoding", "upgrade", "keep-alive", "te", "bad name"] {
        assert!(text.contains(&format!("{name:?} false")), "{name}: {text}");
    }
    assert!(
        text.contains("\"x-fine\" true") && text.contains("\"trailer\" true") && text.contains("crlf false"),
        "{text}"
    );
}

#[tokio::test]
async fn a_failure_after_the_end_leaves_the_response_whole() {
    for (path, code) in [("/trap-after-body", "trap"), ("/loop-after-body", "cpu_exceeded")] {
        let answer = visit(path, limits_of(path)).await;
        assert_eq!((answer.code(), answer.text().as_str(), answer.ended), (code, "whole", true), "{path}");
    }
}

#[tokio::test]
async fn t12_files_sockets_and_the_environment_are_empty() {
    let environment = vec![("DECLARED".to_owned(), "yes".to_owned())];
    let answer = call(&hostile(Policy { environment, ..Policy::default() }), get("/env")).await;
    assert_eq!(answer.text(), r#"[("DECLARED", "yes")] []"#);
    let files = visit("/fs", patient()).await.text();
    assert!(!files.contains("READ") && files.ends_with("refused refused 0"), "{files}");
    let sockets = visit("/sockets", patient()).await.text();
    for opened in ["CONNECTED", "BOUND", "LISTENING", "RESOLVED"] {
        assert!(!sockets.contains(opened), "{sockets}");
    }
}

#[tokio::test]
async fn t13_the_clock_is_coarse() {
    let text = visit("/clock", patient()).await.text();
    let (step, resolution) = text.split_once(' ').unwrap();
    assert!(step.parse::<u64>().unwrap() >= 1_000_000, "{text}");
    assert_eq!(resolution, "1000000");
}

#[tokio::test]
async fn lines_become_records_of_their_stream() {
    let answer = visit("/print?3", patient()).await;
    let lines: Vec<String> = answer.logs.iter().map(|record| format!("{:?} {}", record.stream, record.text)).collect();
    let expected = [
        "Stdout line 0",
        "Stderr error 0\u{1b}[31m",
        "Stdout line 1",
        "Stderr error 1\u{1b}[31m",
        "Stdout line 2",
        "Stderr error 2\u{1b}[31m",
    ];
    assert_eq!(lines, expected);
}
