//! Measures HTTP servers from outside, in one thread, so that the client's own cost stays small and known.
//!
//! `closed` keeps so many calls in flight: throughput, and CPU time of each process for each call. `open` sends by a fixed
//! schedule, whatever comes back: latency counts from the scheduled time. `once` calls each URL of a list once. `start` times
//! a process from its start to its first answer, then its memory at rest. `serve` is what others are compared with. Results are JSON on standard output; the scripts
//! add the machine and the versions. No number here is a test.

mod client;
mod load;
mod process;
mod report;
mod serve;

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use client::Request;
use load::{Once, Open, Step};
use process::Watched;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps so many calls in flight
    Closed {
        /// http://host:port/path
        url: String,
        #[command(flatten)]
        call: Call,
        /// Calls in flight
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// Seconds that count
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Seconds before that
        #[arg(long, default_value_t = 1.0)]
        warm_up: f64,
    },
    /// Sends calls by a schedule that no answer delays
    Open {
        /// http://host:port/path
        url: String,
        #[command(flatten)]
        call: Call,
        /// RATE:SECONDS, calls a second for so long; may be repeated, one after the other
        #[arg(long = "step", required = true)]
        steps: Vec<Step>,
        /// Calls in flight at the most; a call that finds as many is counted as skipped
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        /// Milliseconds of a window of the time series
        #[arg(long, default_value_t = 100)]
        window: u64,
    },
    /// Calls each URL of a list once
    Once {
        /// File with a URL on each line, all of one host
        urls: PathBuf,
        #[command(flatten)]
        call: Call,
        /// Calls in flight; up to a thousand connections are open before the first
        #[arg(long, default_value_t = 1)]
        connections: usize,
    },
    /// Answers every request with the same bytes, until it is ended
    Serve {
        /// host:port
        listen: SocketAddr,
        /// Of each answer
        #[arg(long, default_value_t = 1024)]
        bytes: usize,
        /// Threads
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// NAME: VALUE of a header of each answer; may be repeated
        #[arg(long = "header")]
        headers: Vec<String>,
    },
    /// Starts a program, times its first answer, and reads its memory at rest
    Start {
        /// http://host:port/path
        url: String,
        /// Seconds of rest
        rest: u64,
        /// What to start
        program: String,
        /// With which arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// What every call is like, and whose CPU time is read meanwhile.
#[derive(Args)]
struct Call {
    /// Bearer token
    #[arg(long)]
    token: Option<String>,
    /// Bytes of body; with any, the call is a POST
    #[arg(long, default_value_t = 0)]
    body: usize,
    /// NAME=PID of a process whose CPU time is wanted; may be repeated
    #[arg(long = "process")]
    processes: Vec<Watched>,
}

impl Call {
    fn request(&self, url: &str) -> anyhow::Result<Request> {
        Request::new(url, self.token.as_deref(), self.body)
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<Value> {
    match command {
        Command::Closed { url, call, connections, seconds, warm_up } => {
            let times = [warm_up, seconds].map(Duration::from_secs_f64);
            load::closed(call.request(&url)?, connections, times, &call.processes)
        }
        Command::Open { url, call, steps, connections, window } => load::open(Open {
            request: call.request(&url)?,
            steps,
            connections,
            window: Duration::from_millis(window.max(1)),
            processes: call.processes,
        }),
        Command::Once { urls, call, connections } => {
            let list = fs::read_to_string(&urls).with_context(|| format!("read {}", urls.display()))?;
            let requests = list.lines().map(|url| call.request(url)).collect::<anyhow::Result<_>>()?;
            load::once(Once { requests, in_flight: connections, processes: call.processes })
        }
        Command::Serve { listen, bytes, threads, headers } => {
            serve::run(listen, bytes, threads, &headers).map(|()| Value::Null)
        }
        Command::Start { url, rest, program, args } => process::start(&url, Duration::from_secs(rest), &program, &args),
    }
}
