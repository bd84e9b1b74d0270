//! The examples of this repository as guests: they must run, and the time that a warm call takes is printed. `ROUNDS` sets how
//! many calls are measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dunlin_worker::sandbox::{GuestKind, Policy, Program};
use tokio::time::Instant;

use super::build::build_rust;
use super::support::{call, get, load, post, shared};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// Median time and mean CPU time of a call with a fresh sandbox, after some to warm up.
async fn measure(program: &Program, rounds: u32) -> (Duration, Duration) {
    let mut times = Vec::new();
    let mut cpu = Duration::ZERO;
    for round in 0..rounds + 50 {
        let began = Instant::now();
        let answer = call(program, get("/x")).await;
        assert_eq!((answer.code(), answer.status), ("ok", Some(200)), "{answer:?}");
        if round >= 50 {
            times.push(began.elapsed());
            cpu += answer.completion.usage.cpu;
        }
    }
    times.sort_unstable();
    (times[times.len() / 2], cpu / rounds)
}

async fn check(program: &Program, name: &str) {
    let echo = call(program, post("/", "some text")).await;
    assert_eq!((echo.code(), echo.text().as_str()), ("ok", "some text"), "{name}: {echo:?}");
    assert_eq!(echo.completion.usage.bytes_in, 9);
    let answer = call(program, get("/x?y=1")).await;
    assert!(answer.text().contains("/x"), "{name}: {}", answer.text());
    assert!(!answer.logs.is_empty(), "{name} printed nothing");
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let (median, cpu) = measure(program, rounds).await;
    println!("{name}: fresh sandbox and call {median:?} median, {cpu:?} CPU");
}

#[tokio::test]
async fn a_rust_function_on_wasi_0_2_runs() {
    let program = load(&shared(), &build_rust(&example("rust"), "hello-rust.wasm"), Policy::default());
    assert_eq!(program.kind(), GuestKind::Http02);
    check(&program, "rust, WASI 0.2").await;
}

#[tokio::test]
async fn a_rust_function_on_wasi_0_3_runs() {
    let program = load(&shared(), &build_rust(&example("rust-p3"), "hello_rust_p3.wasm"), Policy::default());
    assert_eq!(program.kind(), GuestKind::Http03);
    check(&program, "rust, WASI 0.3").await;
}

/// The other examples need toolchains that not every developer has; those that were built are run.
#[tokio::test]
async fn examples_in_other_languages_run_where_they_were_built() {
    for name in ["c", "zig", "javascript", "python"] {
        let files = ["hello.wasm", "dist/hello.wasm"].map(|file| example(name).join(file));
        let Some(wasm) = files.iter().find_map(|file| std::fs::read(file).ok()) else {
            println!("{name}: not built, not run");
            continue;
        };
        let program = load(&shared(), &wasm, Policy::default());
        let answer = call(&program, get("/x")).await;
        assert_eq!((answer.code(), answer.status), ("ok", Some(200)), "{name}: {answer:?}");
        let (median, cpu) = measure(&program, 100).await;
        let memory = answer.completion.usage.peak_memory_bytes >> 10;
        println!("{name} ({}): {median:?} median, {cpu:?} CPU, {memory} KiB of memory", program.kind());
    }
}
