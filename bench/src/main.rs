//! Measures Dunlin from outside, over one plain socket, so that the client's own cost stays small and known.
//!
//! `warm` times calls one at a time; `start` times a process from its start to its first answer, then its memory at rest.
//! Results are JSON on standard output; `bench/run` adds the machine and the versions. No number here is a test.

mod http;
mod process;
mod stats;

use std::{env, process::ExitCode, time::Duration};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["warm", url, calls] => warm(url, None, calls),
        ["warm", url, calls, token] => warm(url, Some(token), calls),
        ["start", url, rest_seconds, program, rest @ ..] => start(url, rest_seconds, program, rest),
        _ => Err("usage: dunlin-bench warm URL CALLS [TOKEN] | start URL REST_SECONDS PROGRAM [ARG...]".into()),
    };
    match result {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Calls `url` so many times, one at a time on one connection, after a tenth as many to warm up.
fn warm(url: &str, token: Option<&str>, calls: &str) -> Result<String> {
    let calls: usize = calls.parse()?;
    let mut connection = http::Connection::open(url, token)?;
    for _ in 0..calls / 10 {
        connection.get()?;
    }
    let times = (0..calls).map(|_| connection.get()).collect::<Result<Vec<Duration>>>()?;
    Ok(stats::json(&times))
}

/// Starts a process, times it to the first 200 of `url`, lets it rest, reads its memory, and ends it by SIGTERM.
fn start(url: &str, rest_seconds: &str, program: &str, args: &[&str]) -> Result<String> {
    let rest = Duration::from_secs(rest_seconds.parse()?);
    let mut child = process::Child::start(program, args)?;
    let first = child.until(|| http::Connection::open(url, None)?.get(), Duration::from_secs(60))?;
    std::thread::sleep(rest);
    let memory = child.resident_kib()?;
    child.stop()?;
    Ok(format!(r#"{{"first_answer_ms": {:.1}, "resident_mib_at_rest": {:.1}}}"#, first.as_secs_f64() * 1e3, memory as f64 / 1024.0))
}
