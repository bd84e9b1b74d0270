//! Processes under measurement: asked by the kernel's own accounting, those that were started here ended by their id.

use std::{
    fs,
    process::{self, Command, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::client::{Connection, Request};

/// Clock ticks a second in `/proc`, the same on every Linux (`USER_HZ`).
const TICKS: f64 = 100.0;
/// How long a program may take to its first answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process whose CPU time is wanted, `NAME=PID`.
#[derive(Debug, Clone)]
pub struct Watched {
    name: String,
    pid: u32,
}

impl FromStr for Watched {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, pid) = text.split_once('=').context("it must be NAME=PID")?;
        Ok(Self { name: name.to_owned(), pid: pid.parse().context("the process id is a number")? })
    }
}

/// CPU time of several processes at one moment; this one, the client, is among them.
pub struct Cpu(Vec<(Watched, Duration)>);

/// CPU time that a process has used.
pub struct Used {
    /// As it was called.
    pub name: String,
    /// User and system time of all its threads.
    pub cpu: Duration,
}

impl Cpu {
    /// The time used until now.
    pub fn read(processes: &[Watched]) -> anyhow::Result<Self> {
        let client = Watched { name: "client".to_owned(), pid: process::id() };
        let all = processes.iter().cloned().chain([client]);
        Ok(Self(all.map(|watched| Ok((watched.clone(), cpu(watched.pid)?))).collect::<anyhow::Result<_>>()?))
    }

    /// The time used since.
    pub fn since(self) -> anyhow::Result<Vec<Used>> {
        let used = |(watched, before): (Watched, Duration)| {
            Ok(Used { cpu: cpu(watched.pid)?.saturating_sub(before), name: watched.name })
        };
        self.0.into_iter().map(used).collect()
    }
}

/// User and system time of a process (fields 14 and 15 of proc_pid_stat(5)).
fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("read the account of process {pid}"))?;
    let (_, fields) = stat.rsplit_once(')').context("an account without a name")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

/// Starts a program, times it to the first 200 of `url`, lets it rest, reads its memory, and ends it by SIGTERM.
pub fn start(url: &str, rest: Duration, program: &str, args: &[String]) -> anyhow::Result<Value> {
    let request = Request::new(url, None, 0)?;
    let child = Child::start(program, args)?;
    let first = child.first_answer(&request)?;
    thread::sleep(rest);
    let memory = resident_kib(child.0.id())?;
    Ok(json!({
        "first_answer_ms": (first.as_secs_f64() * 1e4).round() / 10.0,
        "resident_mib_at_rest": (memory as f64 / 102.4).round() / 10.0,
    }))
}

/// A running process. It is ended when the value is dropped.
struct Child(process::Child, Instant);

impl Child {
    /// Starts a program; its standard output is not of interest, its errors are shown.
    fn start(program: &str, args: &[String]) -> anyhow::Result<Self> {
        let started = Instant::now();
        let child = Command::new(program).args(args).stdout(Stdio::null()).stdin(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("start {program}"))?, started))
    }

    /// Asks until it answers; says how long after the start that was.
    fn first_answer(&self, request: &Request) -> anyhow::Result<Duration> {
        loop {
            let asked = smol::block_on(async { Connection::open(request).await?.exchange(request).await });
            match asked {
                Ok(200) => return Ok(self.1.elapsed()),
                _ if self.1.elapsed() > PATIENCE => bail!("no answer within {PATIENCE:?}: {asked:?}"),
                _ => thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell.
        let _ = Command::new("kill").arg("-TERM").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Resident memory in KiB (`VmRSS` of proc_pid_status(5)).
fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the process has no memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
