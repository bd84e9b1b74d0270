//! Runs Dunlin's own placement and autoscaling code over a large cluster in virtual time, and other ways to spread the same
//! calls for comparison. Prints figures as JSON; nothing here is a test, and no process is started.
//!
//! The model: a call needs a sandbox of its function on a worker. A worker that lacks the function loads it first. Calls on
//! a worker share its cores: each runs at full speed until their demand exceeds them, then all slow down alike.

mod cluster;
mod decisions;
mod engine;
mod policy;
mod report;
mod traffic;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use serde_json::{Map, json};

use self::{
    engine::Engine,
    policy::{Dunlin, Hashing, Knative, LeastLoaded, Policy, Random},
    traffic::{Traffic, azure, synthetic},
};

/// What is simulated.
#[derive(Debug, Clone, Parser)]
#[command(version, about)]
struct Options {
    /// Workers, all equal
    #[arg(long, default_value_t = 1000)]
    workers: usize,
    /// Functions of the synthetic traffic
    #[arg(long, default_value_t = 10_000)]
    functions: usize,
    /// Minutes of traffic
    #[arg(long, default_value_t = 5)]
    minutes: usize,
    /// Share of the cluster that the synthetic traffic needs on average
    #[arg(long, default_value_t = 0.5)]
    load: f64,
    /// Factor on the published durations, whose mean is 11 s
    #[arg(long, default_value_t = 0.05)]
    duration_scale: f64,
    /// Cores of a worker
    #[arg(long, default_value_t = 4)]
    cores: u32,
    /// Share of a call's duration that it needs a core
    #[arg(long, default_value_t = 0.5)]
    cpu_share: f64,
    /// Sandboxes of a worker, all functions together
    #[arg(long, default_value_t = 100)]
    capacity: u32,
    /// Milliseconds until a function is loaded where its code is on the worker's disk
    #[arg(long, default_value_t = 3.0)]
    map_ms: f64,
    /// Milliseconds more where it has to be fetched
    #[arg(long, default_value_t = 20.0)]
    fetch_ms: f64,
    /// Seconds until a function that nobody calls is let go
    #[arg(long, default_value_t = 60.0)]
    idle: f64,
    /// Files of the Azure Functions trace of 2019: invocations, then durations
    #[arg(long, num_args = 2, value_names = ["INVOCATIONS", "DURATIONS"])]
    trace_2019: Option<Vec<PathBuf>>,
    /// File of the Azure Functions trace of 2021
    #[arg(long, value_name = "FILE", conflicts_with = "trace_2019")]
    trace_2021: Option<PathBuf>,
    /// Only these ways
    #[arg(long, value_delimiter = ',', default_values_t = Name::ALL)]
    only: Vec<Name>,
}

/// A way to spread calls.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    Dunlin,
    Random,
    LeastLoaded,
    Hashing,
    Knative,
}

impl Name {
    const ALL: [Self; 5] = [Self::Dunlin, Self::Random, Self::LeastLoaded, Self::Hashing, Self::Knative];
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dunlin => "dunlin",
            Self::Random => "random",
            Self::LeastLoaded => "least-loaded",
            Self::Hashing => "hashing",
            Self::Knative => "knative",
        })
    }
}

impl Options {
    /// Calls that a worker runs at full speed, which is also what a function may have on each.
    fn concurrency(&self) -> u32 {
        (f64::from(self.cores) / self.cpu_share).floor().max(1.0) as u32
    }

    fn traffic(&self) -> anyhow::Result<Traffic> {
        match (&self.trace_2019, &self.trace_2021) {
            (Some(files), _) => azure::load_2019(&files[0], &files[1], self.minutes, self.duration_scale),
            (None, Some(file)) => azure::load_2021(file, self.minutes, self.duration_scale),
            (None, None) => Ok(synthetic(self)),
        }
    }

    fn policy(&self, name: Name, functions: usize) -> Box<dyn Policy> {
        match name {
            Name::Dunlin => Box::new(Dunlin::new(self, functions)),
            Name::Random => Box::new(Random),
            Name::LeastLoaded => Box::new(LeastLoaded),
            Name::Hashing => Box::new(Hashing),
            Name::Knative => Box::new(Knative::new(self, functions)),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let traffic = options.traffic()?;
    eprintln!("  {} calls of {} functions", traffic.calls.len(), traffic.functions);
    let mut policies = Map::new();
    for name in &options.only {
        let figures = Engine::new(&options, &traffic, options.policy(*name, traffic.functions)).run();
        eprintln!("  {name:<13} {}", report::line(&figures));
        policies.insert(name.to_string(), figures);
    }
    let figures = json!({
        "parameters": {
            "workers": options.workers, "functions": traffic.functions, "minutes": options.minutes,
            "calls": traffic.calls.len(), "load": traffic.load(&options), "cores": options.cores,
            "cpu_share": options.cpu_share, "sandboxes_of_a_function_on_a_worker": options.concurrency(),
            "map_ms": options.map_ms, "fetch_ms": options.fetch_ms, "idle_seconds": options.idle,
        },
        "policies": policies,
        "decisions": decisions::measure(options.workers, options.functions, options.capacity),
    });
    println!("{figures}");
    Ok(())
}
