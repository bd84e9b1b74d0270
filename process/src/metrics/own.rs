//! What every process says of itself, by the names that Prometheus's own libraries use, so that dashboards for any process work.
//!
//! Read from the kernel at a scrape; what can't be read is left out.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::page::{Kind, Page};

/// What does not change.
#[derive(Debug)]
pub(super) struct Own {
    version: &'static str,
    /// Since 1970.
    started: Duration,
}

impl Own {
    /// Of a process that begins now.
    pub(super) fn new(version: &'static str) -> Self {
        Self { version, started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    pub(super) fn write(&self, page: &mut Page) {
        let mut build = page.family(Kind::Gauge, "dunlin_build_info", "The software's version, always 1.");
        build.add(&[("version", self.version)], 1_u64);
        page.gauge("process_start_time_seconds", "When the process began, since 1970 in seconds.", self.started);
        page.counter("process_cpu_seconds_total", "CPU time of the process, in user and system mode.", cpu());
        if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().and_then(|status| resident(&status)) {
            page.gauge("process_resident_memory_bytes", "Memory of the process that is in RAM.", bytes);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            page.gauge("process_open_fds", "Open file descriptors.", open.count());
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            page.gauge("process_max_fds", "File descriptors that may be open.", most);
        }
    }
}

/// CPU time of the process so far.
fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Resident bytes, as `/proc/self/status` says them (proc_pid_status(5)).
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::page::Format;

    #[test]
    fn resident_memory_is_found_or_left_out() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t     120 kB\nThreads:\t1\n"), Some(120 << 10));
        assert_eq!(resident("VmRSS:\t120 MB\n"), None);
        assert_eq!(resident(""), None);
    }

    #[test]
    fn a_process_knows_itself() {
        let mut page = Page::new(Format::Prometheus);
        Own::new("1").write(&mut page);
        let text = page.finish();
        let value = |name: &str| -> f64 {
            let line =
                text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}"));
            line.split(' ').next_back().unwrap().parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total") > 0.0 && value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_start_time_seconds") > 1.7e9);
    }
}
