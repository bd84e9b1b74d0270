//! Room for open files. A connection is an open file, and there may be many of them.
//!
//! What a process opens is its own business; this only prepares the table in which the kernel keeps it.

use std::{fs::File, io};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Files that the table has room for from the start.
const TABLE: u64 = 32_768;

/// Lets the process open as many files as it may, and makes the kernel's table of them large. To be called while there is one
/// thread.
///
/// A shell's usual limit is for programs that wait in `select`. And each time that the table grows, a process with several
/// threads waits for all processors to have seen it: for 20 to 60 ms, in the middle of whichever call opens the connection.
///
/// # Errors
/// The system refuses one of both; the process works without, more slowly or for fewer connections.
pub fn prepare() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let last = limit.current.map_or(TABLE, |most| most.min(TABLE)).saturating_sub(1);
    let last = i32::try_from(last).unwrap_or(i32::MAX);
    // Its number makes the table as large as that; it is closed at once, and the table stays.
    rustix::io::fcntl_dupfd_cloexec(File::open("/dev/null")?, last)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        let before = File::open("/dev/null").unwrap();
        prepare().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        // Nothing stays open.
        let after = File::open("/dev/null").unwrap();
        assert!(std::os::fd::AsRawFd::as_raw_fd(&after) < std::os::fd::AsRawFd::as_raw_fd(&before) + 64);
    }

    #[test]
    fn the_table_has_room_for_many_connections() {
        prepare().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(size.trim().parse::<u64>().unwrap() >= most.min(TABLE), "{size}");
    }
}
