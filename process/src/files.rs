//! Room for open files, and what happens at a limit of their size. A connection is an open file, and there may be many of them.
//!
//! What a process opens is its own business; this only prepares the table in which the kernel keeps it.

use std::{fs::File, io};

use rustix::process::{Resource, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

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

/// Has a write beyond the limit of a file's size fail, as on a full disk, instead of ending the process. To be called in a runtime.
///
/// # Errors
/// The system gives no signal handler.
pub fn outlive_size_limit() -> io::Result<()> {
    // The handler stays when nobody listens: that there is one is enough for the write to say what is wrong.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
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

    #[tokio::test]
    async fn a_write_beyond_the_limit_of_a_files_size_fails_and_ends_nothing() {
        outlive_size_limit().unwrap();
        let most = getrlimit(Resource::Fsize).maximum;
        let mut file = tempfile::tempfile().unwrap();
        setrlimit(Resource::Fsize, rustix::process::Rlimit { current: Some(4), maximum: most }).unwrap();
        let results = [&b"1234"[..], b"5"].map(|text| std::io::Write::write_all(&mut file, text));
        setrlimit(Resource::Fsize, rustix::process::Rlimit { current: most, maximum: most }).unwrap();
        let kinds = results.map(|result| result.err().map(|error| error.kind()));
        assert_eq!(kinds, [None, Some(io::ErrorKind::FileTooLarge)]);
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
