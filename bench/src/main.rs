//! Measures HTTP servers from outside, in one thread, so that the client's own cost stays small and known.
//!
//! `closed` keeps so many calls in flight: throughput, and CPU time of each process for each call. `open` sends by a fixed
//! schedule, whatever comes back: latency counts from the scheduled time. `start` times a process from its start to its first
//! answer, then its memory at rest. Results are JSON on standard output; the scripts add the machine and the versions. No
//! number here is a test.

mod client;
mod load;
mod process;
mod report;

use std::{process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

use client::Request;
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
        #[command(flatten)]
        target: Target,
        /// Calls in flight
        #[arg(long, default_value_t = 1)]
        connections: usize,
    },
    /// Sends calls by a schedule that no answer delays
    Open {
        #[command(flatten)]
        target: Target,
        /// Calls a second
        #[arg(long)]
        rate: f64,
        /// Connections at the most; a call that finds none free is counted as not sent
        #[arg(long, default_value_t = 2000)]
        connections: usize,
    },
    /// Starts a program, times its first answer, and reads its memory at rest
    Start {
        url: String,
        /// Seconds of rest
        rest: u64,
        program: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// What is called, for how long, and whose CPU time is read meanwhile.
#[derive(Args)]
struct Target {
    /// http://host:port/path
    url: String,
    /// Seconds that count
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
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

impl Target {
    fn request(&self) -> anyhow::Result<Request> {
        Request::new(&self.url, self.token.as_deref(), self.body)
    }

    fn times(&self) -> [Duration; 2] {
        [self.warm_up, self.seconds].map(Duration::from_secs_f64)
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

fn run(command: Command) -> anyhow::Result<serde_json::Value> {
    match command {
        Command::Closed { target, connections } => {
            load::closed(target.request()?, connections, target.times(), &target.processes)
        }
        Command::Open { target, rate, connections } => {
            load::open(target.request()?, rate, connections, target.times(), &target.processes)
        }
        Command::Start { url, rest, program, args } => process::start(&url, Duration::from_secs(rest), &program, &args),
    }
}
