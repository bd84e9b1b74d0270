//! A process under measurement: started here, asked by the kernel's own accounting, ended by its id.

use std::{
    fs,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Result;

/// A running process. It is ended when the value is dropped.
pub struct Child {
    child: process::Child,
    started: Instant,
}

impl Child {
    /// Starts a program; its standard output is not of interest, its errors are shown.
    pub fn start(program: &str, args: &[&str]) -> Result<Self> {
        let started = Instant::now();
        let child = Command::new(program).args(args).stdout(Stdio::null()).stdin(Stdio::null()).spawn()?;
        Ok(Self { child, started })
    }

    /// Tries until something works; says how long after the start that was.
    pub fn until<T>(&mut self, mut works: impl FnMut() -> Result<T>, limit: Duration) -> Result<Duration> {
        while works().is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the process ended early: {status}").into());
            }
            if self.started.elapsed() > limit {
                return Err(format!("no answer within {limit:?}").into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(self.started.elapsed())
    }

    /// Its resident memory in KiB (`VmRSS` of proc(5)).
    pub fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the process has no memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Ends it by SIGTERM and waits.
    pub fn stop(&mut self) -> Result<()> {
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
