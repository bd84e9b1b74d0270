//! T01-T12 with WASI commands: every limit ends the guest with its own word, in time, and the next guest works.

use std::time::Duration;

use bytes::Bytes;
use dunlin_worker::sandbox::{
    Call, Failure, Limits, LogSink, Outcome, Policy, RequestBody, RequestFrame, ResponseEvent, ResponseSink,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::support::{Growth, busy, call, call_with, get, load, once_below, patient, policy, post, shared, wat};

#[tokio::test]
async fn a_good_command_answers() {
    let answer = call(&wat("hello.wat", Policy::default()), get("/")).await;
    assert_eq!((answer.status, answer.text().as_str(), answer.ended), (Some(200), "hello\n\n", true));
    assert_eq!(answer.headers["content-type"], "text/plain");
    assert_eq!(answer.code(), "ok");
    let usage = answer.completion.usage;
    assert!(usage.cpu > Duration::ZERO && usage.run > Duration::ZERO && usage.peak_memory_bytes >= 65536, "{usage:?}");
    assert_eq!((usage.bytes_in, usage.bytes_out), (0, 7));
    assert!(usage.host_calls > 0 && usage.host_calls < 50, "{usage:?}");
}

/// Where a guest ends that does so in this function, which the system calls by the name of its interface.
fn frames(function: &str) -> String {
    format!("\n  at {function}\n  at wasi:cli/run@0.2.12#run")
}

#[tokio::test]
async fn t01_an_endless_loop_ends_at_its_cpu_limit() {
    let stopped = Failure::CpuExceeded { limit: Duration::from_millis(300), frames: frames("spin") };
    once_below(Duration::from_millis(400), async || {
        let answer = call(&wat("loop.wat", policy(busy())), get("/")).await;
        assert_eq!(answer.failure(), &stopped);
        assert!(answer.completion.usage.cpu >= Duration::from_millis(300), "{:?}", answer.completion.usage);
        answer.completion.usage.cpu
    })
    .await;
}

#[tokio::test]
async fn t01_an_endless_loop_ends_at_its_deadline() {
    let limits = Limits { wall: Duration::from_millis(100), ..patient() };
    once_below(Duration::from_secs(1), async || {
        let answer = call(&wat("loop.wat", policy(limits.clone())), get("/")).await;
        assert_eq!(answer.code(), "deadline_exceeded");
        answer.completion.usage.run
    })
    .await;
}

#[tokio::test]
async fn cancelling_stops_a_guest_at_once_wherever_it_is() {
    for name in ["loop.wat", "sleep.wat", "clock.wat", "fill.wat", "flood.wat", "endless.wat"] {
        let program = wat(name, policy(Limits { response_body_bytes: u64::MAX, ..patient() }));
        once_below(Duration::from_secs(1), async || {
            let cancel = CancellationToken::new();
            let canceller = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                cancel.cancel();
                Instant::now()
            };
            let (answer, cancelled) = tokio::join!(call_with(&program, get("/"), cancel.clone()), canceller);
            assert_eq!(answer.code(), "cancelled", "{name}");
            cancelled.elapsed()
        })
        .await;
    }
}

#[tokio::test]
async fn t02_waiting_in_the_host_ends_at_the_deadline() {
    let limits = Limits { wall: Duration::from_millis(200), ..patient() };
    for name in ["sleep.wat", "clock.wat"] {
        once_below(Duration::from_secs(1), async || {
            let answer = call(&wat(name, policy(limits.clone())), get("/")).await;
            assert_eq!(answer.code(), "deadline_exceeded", "{name}");
            answer.completion.usage.run
        })
        .await;
    }
    // A body that never comes.
    let (_sender, body) = RequestBody::channel(1);
    let request = http::Request::post("http://fn.example/").body(body).unwrap();
    let answer = call(&wat("read.wat", policy(limits)), request).await;
    assert_eq!(answer.code(), "deadline_exceeded");
}

#[tokio::test]
async fn t02_calls_of_the_host_are_charged_as_cpu() {
    let answer = call(&wat("clock.wat", policy(busy())), get("/")).await;
    assert_eq!(answer.code(), "cpu_exceeded");
}

#[tokio::test]
async fn t03_long_instructions_overrun_little() {
    // Its 300 ms, and no more than 100 above them.
    once_below(Duration::from_millis(400), async || {
        let answer = call(&wat("fill.wat", policy(busy())), get("/")).await;
        assert_eq!(answer.code(), "cpu_exceeded");
        answer.completion.usage.cpu
    })
    .await;
}

#[tokio::test]
async fn t04_memory_ends_at_its_limit() {
    let limits = Limits { memory_bytes: 32 << 20, ..patient() };
    let answer = call(&wat("grow.wat", policy(limits)), get("/")).await;
    let gave_up = Failure::MemoryExceeded { limit_bytes: 32 << 20, frames: frames("grow") };
    assert_eq!(answer.failure(), &gave_up);
    let peak = answer.completion.usage.peak_memory_bytes;
    assert!(peak > 30 << 20 && peak <= 32 << 20, "{peak}");
}

#[tokio::test]
async fn t04_an_initial_memory_above_the_limit_is_no_sandbox() {
    let module = r#"(module (memory (export "memory") 1024) (func (export "_start")))"#;
    let program =
        load(&shared(), &wat::parse_str(module).unwrap(), policy(Limits { memory_bytes: 32 << 20, ..patient() }));
    let error = program.prepare().await.unwrap_err();
    assert!(error.to_string().contains("memory limit of 33554432 bytes"), "{error}");
    assert!(matches!(error, dunlin_worker::sandbox::SandboxError::Guest(Failure::MemoryExceeded { .. })), "{error:?}");
}

#[tokio::test]
async fn t05_stack_overflow_traps_a_thousand_times() {
    let program = wat("stack.wat", policy(patient()));
    let process = std::process::id();
    for _ in 0..1000 {
        assert_eq!(call(&program, get("/")).await.code(), "stack_overflow");
    }
    assert_eq!(std::process::id(), process);
    assert_eq!(call(&wat("hello.wat", Policy::default()), get("/")).await.code(), "ok");
}

#[tokio::test]
async fn t05_a_stack_overflow_says_where() {
    let answer = call(&wat("stack.wat", policy(patient())), get("/")).await;
    let Failure::StackOverflow { frames, .. } = answer.failure() else { panic!("{:?}", answer.failure()) };
    let count = frames.matches("\n  at ").count();
    assert!((2..=20).contains(&count), "the innermost of very many: {frames}");
    assert!(answer.failure().to_string().contains(" bytes\n  at "), "{}", answer.failure());
}

#[tokio::test]
async fn t05_recursion_through_the_host_traps_too() {
    let program = wat("realloc.wat", policy(patient()));
    for _ in 0..200 {
        assert_eq!(call(&program, get("/")).await.code(), "stack_overflow");
    }
}

#[tokio::test]
async fn t06_tables_end_at_their_limit() {
    let answer = call(&wat("table.wat", policy(patient())), get("/")).await;
    assert_eq!(answer.failure(), &Failure::TableExceeded { limit: 20_000 });
}

#[tokio::test]
async fn t07_resources_of_the_guest_end_at_their_limit() {
    let growth = Growth::since_now().await;
    let answer = call(&wat("handles.wat", policy(patient())), get("/")).await;
    assert_eq!(answer.code(), "handles_exceeded", "{answer:?}");
    growth.is_small();
}

#[tokio::test]
async fn t07_components_of_too_many_parts_do_not_run() {
    let many = |count: usize, module: &str| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        format!(
            r#"(component (core module $m {module}) {instances}
                (core module $r (func (export "run") (result i32) (i32.const 0))) (core instance $i (instantiate $r))
                (func $run (result (result)) (canon lift (core func $i "run")))
                (instance $exports (export "run" (func $run))) (export "wasi:cli/run@0.2.0" (instance $exports)))"#
        )
    };
    for (what, text) in
        [("instances", many(100, "")), ("memories", many(5, "(memory 1)")), ("tables", many(11, "(table 1 funcref)"))]
    {
        let wasm = wat::parse_str(text).unwrap();
        let options = dunlin_worker::compile::CompileOptions::default();
        let compiled = dunlin_worker::compile::compile(&wasm, &options).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &compiled.bytes).unwrap();
        let refused = shared().load(file.path(), compiled.kind, Policy::default());
        assert!(refused.is_err(), "a component of too many {what} loads");
    }
}

#[tokio::test]
async fn t08_random_bytes_come_in_small_pieces_only() {
    let growth = Growth::since_now().await;
    let answer = call(&wat("random.wat", policy(patient())), get("/")).await;
    assert!(["trap", "handles_exceeded", "cpu_exceeded", "no_response"].contains(&answer.code()), "{answer:?}");
    // The guest's own 64 MiB, and the room; the bytes that it asked for would come on top.
    growth.is_below(128 << 20);
}

#[tokio::test]
async fn t09_a_flood_of_logs_is_cut_and_counted() {
    let growth = Growth::since_now().await;
    let answer = call(&wat("flood.wat", policy(busy())), get("/")).await;
    assert_eq!(answer.code(), "cpu_exceeded");
    let kept: usize = answer.logs.iter().map(|record| record.text.len()).sum();
    assert!(kept <= 64 << 10 && kept > 30 << 10, "{kept} bytes kept");
    assert!(answer.logs.iter().all(|record| record.text.len() <= 16 << 10));
    assert!(answer.completion.usage.log_bytes_dropped > 1 << 20, "{:?}", answer.completion.usage);
    growth.is_small();
}

#[tokio::test]
async fn t10_an_endless_body_ends_at_its_limit_and_never_as_a_whole_one() {
    let answer = call(&wat("endless.wat", policy(patient())), get("/")).await;
    assert_eq!(answer.failure(), &Failure::ResponseTooLarge { limit_bytes: 6 << 20 });
    assert!(answer.body.len() <= 6 << 20 && !answer.ended);
}

#[tokio::test]
async fn t10_a_slow_reader_holds_back_its_guest_and_little_memory() {
    let program = wat(
        "endless.wat",
        policy(Limits { response_body_bytes: u64::MAX, wall: Duration::from_secs(3), ..Limits::default() }),
    );
    let sandbox = program.prepare().await.unwrap();
    let (response, mut events) = ResponseSink::channel(1);
    let growth = Growth::since_now().await;
    let call = Call {
        id: uuid::Uuid::now_v7(),
        deadline: Instant::now() + Duration::from_secs(9),
        request: get("/"),
        response,
        logs: LogSink::discard(),
        cancel: CancellationToken::new(),
    };
    let completion = sandbox.run(call).await;
    assert!(matches!(completion.outcome, Outcome::Failed(Failure::DeadlineExceeded { .. })), "{completion:?}");
    // Who does not wait computes for the three seconds that it has.
    assert!(completion.usage.cpu < Duration::from_millis(1500), "it waited: {:?}", completion.usage);
    growth.is_small();
    assert!(matches!(events.recv().await, Some(ResponseEvent::Head(..))));
}

#[tokio::test]
async fn t10_a_caller_who_leaves_stops_the_guest() {
    let program = wat("sleep.wat", Policy::default());
    once_below(Duration::from_secs(1), async || {
        let sandbox = program.prepare().await.unwrap();
        let (response, events) = ResponseSink::channel(1);
        drop(events);
        let (logs, cancel) = (LogSink::discard(), CancellationToken::new());
        let deadline = Instant::now() + Duration::from_secs(20);
        let completion =
            sandbox.run(Call { id: uuid::Uuid::now_v7(), deadline, request: get("/"), response, logs, cancel }).await;
        assert_eq!(completion.outcome, Outcome::Failed(Failure::Cancelled));
        completion.usage.run
    })
    .await;
}

/// A command that prints `output` and exits with `status`.
fn printer(output: &str, status: i32) -> Vec<u8> {
    let escaped: String = output.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 4)
            (data (i32.const 64) "{escaped}")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (if (i32.const {status}) (then (call $exit (i32.const {status}))))))"#,
        output.len()
    );
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn t11_malformed_cgi_responses_are_refused() {
    let table = [
        ("", 0, "no_response"),
        ("hello", 0, "invalid_response"),
        ("hello\n\n", 0, "invalid_response"),
        ("X: a\rb\n\n", 0, "invalid_response"),
        ("Status: 101\n\n", 0, "invalid_response"),
        ("Status: 103\n\n", 0, "invalid_response"),
        ("Status: 999\n\n", 0, "invalid_response"),
        ("Content-Length: 1\nContent-Length: 2\n\nab", 0, "invalid_response"),
        ("Content-Length: 5\n\nab", 0, "invalid_response"),
        ("Content-Length: 1\n\nab", 0, "invalid_response"),
        ("Status: 200\n\nab", 3, "exit_status"),
        ("", 3, "exit_status"),
        ("Content-Length: 2\n\nab", 3, "ok"),
        ("Status: 200\n\nab", 0, "ok"),
    ];
    for (output, status, code) in table {
        let answer = call(&load(&shared(), &printer(output, status), Policy::default()), get("/")).await;
        assert_eq!(answer.code(), code, "{output:?}: {answer:?}");
        assert_eq!(answer.ended, code == "ok", "{output:?}");
    }
}

#[tokio::test]
async fn t11_fields_of_the_connection_never_leave_the_sandbox() {
    let output = "Connection: close, x-a\nX-A: 1\nTransfer-Encoding: chunked\nUpgrade: h2c\nX-B: 2\n\n";
    let answer = call(&load(&shared(), &printer(output, 0), Policy::default()), get("/")).await;
    assert_eq!(answer.headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-b"]);
}

#[tokio::test]
async fn t12_a_guest_sees_the_declared_environment_and_nothing_of_the_host() {
    // The test's own environment holds PATH, CARGO and much more; none of it may show.
    let canary = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let declared = vec![("GREETING".to_owned(), "hi".to_owned()), ("REQUEST_METHOD".to_owned(), "FORGED".to_owned())];
    let program = wat("dump.wat", Policy { environment: declared, ..Policy::default() });
    let answer = call(&program, get("/dump?x=1")).await;
    let text = answer.text();
    assert_eq!(answer.code(), "ok", "{answer:?}");
    assert!(!text.contains(&canary) && !text.contains("CARGO") && !text.contains("HOME="), "{text}");
    let (environment, rest) = text.split_once("arguments:\n").unwrap();
    let mut names: Vec<&str> = environment
        .trim_start_matches("environment:\n")
        .split('\0')
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    let cgi = [
        "GATEWAY_INTERFACE",
        "GREETING",
        "PATH_INFO",
        "QUERY_STRING",
        "REMOTE_ADDR",
        "REQUEST_METHOD",
        "REQUEST_URI",
        "SCRIPT_NAME",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "SERVER_SOFTWARE",
    ];
    assert_eq!(names, cgi);
    assert!(environment.contains("REQUEST_METHOD=GET\0"), "a declared variable passed for a CGI one");
    let (arguments, files) = rest.split_once("files:\n").unwrap();
    assert_eq!(arguments, "");
    assert_eq!(files, "0 refused\n".repeat(11), "a file was opened");
}

#[tokio::test]
async fn a_request_body_above_its_limit_stops_the_guest() {
    let module = r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2)
        (func (export "_start")
            (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 65536))
            (loop (br_if 0 (i32.eqz (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))))"#;
    let program =
        load(&shared(), &wat::parse_str(module).unwrap(), policy(Limits { request_body_bytes: 1000, ..patient() }));
    let (sender, body) = RequestBody::channel(4);
    let request = http::Request::post("http://fn.example/").body(body).unwrap();
    let sending = async { while sender.send(RequestFrame::Data(Bytes::from_static(&[0; 600]))).await.is_ok() {} };
    let (answer, ()) = tokio::join!(call(&program, request), sending);
    assert_eq!(answer.failure(), &Failure::RequestTooLarge { limit_bytes: 1000 });
    assert_eq!(call(&program, post("/", vec![0; 1001])).await.code(), "request_too_large");
}
