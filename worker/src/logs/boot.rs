//! Numbers the starts of a log, so that each is greater than the one before, whatever the clock says.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path, time::SystemTime};

use super::line::micros;

/// In the folder of all namespaces; no namespace can have this name.
const FILE: &str = "boot.number";

/// The number of this start: microseconds since 1970, or one more than the last. No line with it may be written before it is kept.
pub(super) fn choose(folder: &Path) -> u64 {
    // What can't be read was chosen by a clock, too.
    after(last(folder).unwrap_or_default(), micros(SystemTime::now()))
}

/// Writes down the number, so that later starts have greater ones; makes the folder where it is missing.
///
/// # Errors
/// The folder can't be written, or holds a number that is as great: lines could not be told from those of another start.
pub(super) fn keep(folder: &Path, boot: u64) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if last(folder)? >= boot {
        return Err(io::Error::other("an earlier start has a greater number; start the worker again"));
    }
    let new = folder.join("boot.new");
    fs::write(&new, boot.to_string())?;
    fs::rename(new, folder.join(FILE))
}

/// The number of the last start that kept its own; 0 where there was none.
fn last(folder: &Path) -> io::Result<u64> {
    match fs::read_to_string(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        text => Ok(text?.trim().parse().unwrap_or_default()),
    }
}

fn after(last: u64, now: u64) -> u64 {
    now.max(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(folder: &Path) -> io::Result<u64> {
        let boot = choose(folder);
        keep(folder, boot).map(|()| boot)
    }

    #[test]
    fn a_later_start_has_a_greater_number() {
        assert_eq!((after(0, 7), after(7, 7), after(9, 7)), (7, 8, 10));
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (next(folder.path()).unwrap(), next(folder.path()).unwrap());
        assert!(first < second);
        fs::write(folder.path().join(FILE), (second + 3_600_000_000).to_string()).unwrap();
        assert!(next(folder.path()).unwrap() > second + 3_600_000_000, "the clock was set back");
    }

    #[test]
    fn a_number_that_is_not_greater_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let boot = next(folder.path()).unwrap();
        keep(folder.path(), boot).unwrap_err();
        keep(folder.path(), boot - 1).unwrap_err();
        assert_eq!(last(folder.path()).unwrap(), boot);
    }
}
