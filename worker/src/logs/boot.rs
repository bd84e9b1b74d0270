//! Numbers the starts of a log, so that each is greater than the one before, whatever the clock says.

use std::{fs, io, path::Path, time::SystemTime};

use super::line::micros;

/// In the folder of all namespaces; no namespace can have this name.
const FILE: &str = "boot.number";

/// The number of this start: microseconds since 1970, or one more than the last.
///
/// # Errors
/// The folder can't be written: without a new number, lines could not be told from those of an earlier start.
pub(super) fn next(folder: &Path) -> io::Result<u64> {
    let file = folder.join(FILE);
    let last = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        text => text?.trim().parse().unwrap_or_default(),
    };
    let boot = after(last, micros(SystemTime::now()));
    let new = folder.join("boot.new");
    fs::write(&new, boot.to_string())?;
    fs::rename(new, file)?;
    Ok(boot)
}

fn after(last: u64, now: u64) -> u64 {
    now.max(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_start_has_a_greater_number() {
        assert_eq!((after(0, 7), after(7, 7), after(9, 7)), (7, 8, 10));
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (next(folder.path()).unwrap(), next(folder.path()).unwrap());
        assert!(first < second);
        fs::write(folder.path().join(FILE), (second + 3_600_000_000).to_string()).unwrap();
        assert!(next(folder.path()).unwrap() > second + 3_600_000_000, "the clock was set back");
    }
}
