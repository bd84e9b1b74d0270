//! The data folder of a process: private to its user, and used by one process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// A data folder that this process, and no other, uses until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The kernel lets go of the lock with the file, however the process ends.
    _lock: File,
}

impl DataDir {
    /// Makes the folder (mode 0700) where it is missing, and locks it.
    ///
    /// # Errors
    /// It can't be made, is open to others, or another process uses it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("make data folder {name}"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("close data folder {name} to others"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"));
        let lock = lock.with_context(|| format!("open the lock of data folder {name}"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => {
                bail!(
                    "data folder {name} is in use by another process; stop it, or name another folder with --data-dir"
                )
            }
            Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("lock data folder {name}")),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it, made (mode 0700) where it is missing.
    ///
    /// # Errors
    /// It can't be made.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("make folder {}", path.display()))?;
        Ok(path)
    }
}

/// Writes a file that only its user can read, whole or not at all: a reader never sees half of it, nor does a restart.
///
/// # Errors
/// The disk is full, or the folder can't be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // Nothing more can be done about the rest of a failed write.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_and_free_again_afterwards() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("in use by another process"), "{error}");
        drop(first);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn a_private_file_is_private_and_whole() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("secret");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
