//! A program run with limits, in a process group of its own, with an empty environment. Limits are set from outside right
//! after the start (`prlimit`), which needs no unsafe code. The program may run for the moments before that: they count
//! towards its processor time and memory all the same, since limits look at what it has used and not at what it will use.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

/// Output that is read, in bytes; a program that prints more is ended.
const MAX_STDOUT: u64 = 4 << 20;
/// Complaints that are read, in bytes; a program that prints more is ended.
const MAX_STDERR: u64 = 256 << 10;

/// Time on the wall for each second of processor time: a compiler yields to everything else on the machine.
const WALL_PER_CPU: u32 = 3;

/// What a program may use.
#[derive(Debug, Clone)]
pub(crate) struct ChildLimits {
    /// Address space in bytes.
    pub(crate) memory: u64,
    /// Processor time.
    pub(crate) cpu: Duration,
    /// The largest file that it may write, in bytes.
    pub(crate) file: u64,
    /// Time on the wall. Compilers have the lowest priority, so on a busy machine it is far from the processor time.
    pub(crate) wall: Duration,
}

impl ChildLimits {
    /// What compiling needs at the most, with so much address space and processor time.
    pub(crate) fn for_compiling(memory: u64, cpu: Duration) -> Self {
        Self { memory, cpu, file: 256 << 20, wall: cpu * WALL_PER_CPU }
    }
}

/// A program and what always stands before its arguments.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: Vec<String>,
}

/// How a program failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChildError {
    #[error("it can't be started: {0}")]
    Start(std::io::Error),
    #[error("it took more than {} s of processor time", .0.as_secs())]
    Cpu(Duration),
    #[error("it took more than {} s", .0.as_secs())]
    Wall(Duration),
    #[error("it needs more than {} MiB of memory", .limit >> 20)]
    Memory { limit: u64, stderr: String },
    #[error("what is made from it is larger than {} MiB", .0 >> 20)]
    File(u64),
    #[error("its compiler prints without end")]
    Output,
    #[error("its compiler ended by signal {signal}")]
    Crashed { signal: i32, stderr: String },
    #[error("its compiler ended with code {code}")]
    Failed { code: i32, stdout: Vec<u8>, stderr: String },
}

impl ChildError {
    /// Whether what it was given is to blame: the same would happen to it again.
    pub(super) fn is_artifacts_fault(&self) -> bool {
        !matches!(self, Self::Start(_))
    }

    /// What the program complained of.
    pub(super) fn stderr(&self) -> &str {
        match self {
            Self::Memory { stderr, .. } | Self::Crashed { stderr, .. } | Self::Failed { stderr, .. } => stderr,
            Self::Start(_) | Self::Cpu(_) | Self::Wall(_) | Self::File(_) | Self::Output => "",
        }
    }
}

/// Ends a whole process group when it is dropped, unless its leader has been waited for: the id may be another's then.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may have ended by itself.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Program {
    /// Runs it to its end in `workplace`; its standard output.
    pub(super) async fn run(
        &self,
        args: &[&str],
        workplace: &Path,
        limits: &ChildLimits,
    ) -> Result<Vec<u8>, ChildError> {
        let mut child = self.start(args, workplace).map_err(ChildError::Start)?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).unwrap_or(0)));
        let mut group = Group(pid);
        if let Some(pid) = pid {
            restrict(pid, limits).map_err(|error| ChildError::Start(error.into()))?;
        }
        let ended = tokio::time::timeout(limits.wall, finish(&mut child)).await;
        let (status, stdout, stderr) = ended.map_err(|_| ChildError::Wall(limits.wall))??;
        group.0 = None;
        judge(status, stdout, &stderr, limits)
    }

    fn start(&self, args: &[&str], workplace: &Path) -> std::io::Result<Child> {
        Command::new(&self.path)
            .args(&self.args)
            .args(args)
            .current_dir(workplace)
            .env_clear()
            .env("TMPDIR", workplace)
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

fn restrict(pid: Pid, limits: &ChildLimits) -> rustix::io::Result<()> {
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    let limits = [
        (Resource::As, both(limits.memory)),
        // One second later the system ends even a program that ignores the first signal.
        (Resource::Cpu, Rlimit { current: Some(limits.cpu.as_secs()), maximum: Some(limits.cpu.as_secs() + 1) }),
        (Resource::Fsize, both(limits.file)),
        (Resource::Nofile, both(64)),
        (Resource::Core, both(0)),
    ];
    for (resource, limit) in limits {
        match rustix::process::prlimit(Some(pid), resource, limit) {
            // It has ended already: waiting for it will tell how.
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            ended => ended?,
        };
    }
    match rustix::process::setpriority_process(Some(pid), 19) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        ended => ended,
    }
}

/// Waits for the end and for all output; too much output ends it at once.
async fn finish(child: &mut Child) -> Result<(ExitStatus, Vec<u8>, String), ChildError> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = async { tokio::try_join!(read_bounded(stdout, MAX_STDOUT), read_bounded(stderr, MAX_STDERR)) };
    let (stdout, stderr) = read.await?;
    let status = child.wait().await.map_err(ChildError::Start)?;
    let tail = stderr.len().saturating_sub(4096);
    let stderr = String::from_utf8_lossy(stderr.get(tail..).unwrap_or_default()).into_owned();
    Ok((status, stdout, stderr))
}

async fn read_bounded(from: Option<impl AsyncRead + Unpin>, most: u64) -> Result<Vec<u8>, ChildError> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(most + 1).read_to_end(&mut bytes).await.map_err(ChildError::Start)?;
    }
    if bytes.len() as u64 > most { Err(ChildError::Output) } else { Ok(bytes) }
}

fn judge(status: ExitStatus, stdout: Vec<u8>, stderr: &str, limits: &ChildLimits) -> Result<Vec<u8>, ChildError> {
    let out_of_memory = || {
        let said = stderr.to_ascii_lowercase();
        ["memory allocation", "memory exhausted", "out of memory", "cannot allocate memory"]
            .iter()
            .any(|text| said.contains(text))
    };
    let memory = || ChildError::Memory { limit: limits.memory, stderr: stderr.to_owned() };
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(stdout),
        (None, Some(signal)) if signal == Signal::XCPU.as_raw() || signal == Signal::KILL.as_raw() => {
            Err(ChildError::Cpu(limits.cpu))
        }
        (None, Some(signal)) if signal == Signal::XFSZ.as_raw() => Err(ChildError::File(limits.file)),
        (None, Some(_)) if out_of_memory() => Err(memory()),
        (None, Some(signal)) => Err(ChildError::Crashed { signal, stderr: stderr.to_owned() }),
        (Some(_), _) if stdout.is_empty() && out_of_memory() => Err(memory()),
        (code, _) => Err(ChildError::Failed { code: code.unwrap_or(-1), stdout, stderr: stderr.to_owned() }),
    }
}
