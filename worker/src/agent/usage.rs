//! What the process itself uses of the machine: resident memory and CPU.

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Remembers the last look, to tell the CPU used since.
#[derive(Debug, Default)]
pub(super) struct Usage {
    last: Option<(Instant, u64)>,
    millis: u32,
}

impl Usage {
    /// CPU used since the last call, in thousandths of a core.
    pub(super) fn cpu_millis(&mut self) -> u32 {
        let (now, used) = (Instant::now(), cpu_micros());
        if let Some((then, before)) = self.last {
            let wall = now.saturating_duration_since(then).as_micros();
            // Two looks at the same moment say nothing.
            if wall < 10_000 {
                return self.millis;
            }
            self.millis = u32::try_from(u128::from(used.saturating_sub(before)) * 1000 / wall).unwrap_or(u32::MAX);
        }
        self.last = Some((now, used));
        self.millis
    }
}

fn cpu_micros() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000);
    u64::try_from(micros).unwrap_or_default()
}

/// Resident memory in bytes; 0 where the system does not tell.
pub(super) fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = resident.and_then(|text| text.trim().strip_suffix(" kB")).and_then(|text| text.trim().parse().ok());
    kibibytes.map_or(0, |kibibytes: u64| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_uses_memory_and_cpu() {
        assert!((1 << 20..1 << 40).contains(&memory_bytes()));
        let mut usage = Usage::default();
        assert_eq!(usage.cpu_millis(), 0);
        // The machine may be busy with others or stand still for a while, but some of it was ours.
        let shares: Vec<_> = (0..10).map(|_| share_of_a_loop(&mut usage)).collect();
        assert!(shares.iter().any(|share| *share > 50), "{shares:?}");
    }

    fn share_of_a_loop(usage: &mut Usage) -> u32 {
        let until = Instant::now() + std::time::Duration::from_millis(20);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        usage.cpu_millis()
    }
}
