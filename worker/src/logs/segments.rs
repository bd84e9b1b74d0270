//! The files of one namespace's log: `0000000001.jsonl` and so on, the oldest removed when all are too large together.
//!
//! A process begins a new file instead of going on with an old one, whose last line may be torn.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

/// Files of a namespace, whatever their size.
const MAX_FILES: usize = 64;
/// Into how many files a namespace's share is divided.
const FILES_OF_A_SHARE: u64 = 8;
/// A file is written for no longer than this part of the time for which lines are kept.
const FILES_OF_AN_AGE: u32 = 8;

/// The files, oldest first.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    files: VecDeque<Segment>,
    /// The last one, while this process writes it.
    open: Option<File>,
    /// When this process began the last one; nothing where it does not go on with it.
    begun: Option<Instant>,
}

/// What is kept of a namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) bytes: u64,
    pub(super) age: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    number: u64,
    bytes: u64,
}

impl Segments {
    /// What is in `folder`; it need not exist.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        let mut files = Vec::new();
        for (number, path) in list(&folder)? {
            files.push(Segment { number, bytes: fs::metadata(path)?.len() });
        }
        Ok(Self { folder, files: files.into(), open: None, begun: None })
    }

    /// Size of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Appends whole lines, and removes the oldest file where there is too much.
    pub(super) fn append(&mut self, lines: &[u8], share: Share) -> io::Result<()> {
        self.leave_removed()?;
        self.write(lines, share)?;
        // Somebody removed the file meanwhile: nobody could read the lines there.
        if self.leave_removed()? {
            self.write(lines, share)?;
            if self.leave_removed()? {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed while it was written"));
            }
        }
        self.keep_bytes(share.bytes)
    }

    /// Leaves a file that somebody has removed, and begins another one with a number of its own; says whether that was so.
    fn leave_removed(&mut self) -> io::Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        if open.metadata()?.nlink() > 0 {
            return Ok(false);
        }
        self.begin();
        let there = list(&self.folder)?;
        let newest = self.files.back().map_or(0, |file| file.number);
        self.files.retain(|file| file.number == newest || there.iter().any(|(number, _)| *number == file.number));
        Ok(true)
    }

    fn write(&mut self, lines: &[u8], share: Share) -> io::Result<()> {
        let full = self.files.back().is_none_or(|last| last.bytes >= share.bytes / FILES_OF_A_SHARE);
        // A file goes as a whole, once its last line is too old: so it must not be written for long.
        let long = self.begun.is_none_or(|begun| begun.elapsed() >= share.age / FILES_OF_AN_AGE);
        if full || long {
            self.begin();
        }
        let last = self.files.back().map_or(1, |file| file.number);
        let file = match &mut self.open {
            Some(file) => file,
            closed => closed.insert(create(&self.folder, last)?),
        };
        // It may have been removed while it was closed.
        let length = file.metadata()?.len();
        if let Err(error) = file.write_all(lines) {
            // What was written of it is not to be read later: it counts as lost.
            if file.set_len(length).is_err() {
                self.begun = None;
            }
            return Err(error);
        }
        if let Some(file) = self.files.back_mut() {
            file.bytes = length + lines.len() as u64;
        }
        Ok(())
    }

    /// Removes what is more or older than that.
    pub(super) fn keep(&mut self, share: Share) -> io::Result<()> {
        self.forget_old(share.age)?;
        self.keep_bytes(share.bytes)
    }

    fn keep_bytes(&mut self, most: u64) -> io::Result<()> {
        while self.files.len() > 1 && (self.bytes() > most || self.files.len() > MAX_FILES) {
            self.remove_oldest()?;
        }
        Ok(())
    }

    /// Removes the oldest file; says whether there was one.
    pub(super) fn remove_oldest(&mut self) -> io::Result<bool> {
        let Some(oldest) = self.files.pop_front() else { return Ok(false) };
        if self.files.is_empty() {
            (self.open, self.begun) = (None, None);
        }
        match fs::remove_file(path(&self.folder, oldest.number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    }

    /// Removes files that were last written too long ago.
    fn forget_old(&mut self, max_age: Duration) -> io::Result<()> {
        while let Some(oldest) = self.files.front() {
            let written = match fs::metadata(path(&self.folder, oldest.number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                metadata => Some(metadata?.modified()?),
            };
            // A clock that was set back makes nothing old.
            if written.is_some_and(|written| !written.elapsed().is_ok_and(|age| age > max_age)) {
                return Ok(());
            }
            self.remove_oldest()?;
        }
        Ok(())
    }

    /// Closes the file until there is something to write again.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn begin(&mut self) {
        let number = self.files.back().map_or(0, |file| file.number) + 1;
        self.files.push_back(Segment { number, bytes: 0 });
        (self.open, self.begun) = (None, Some(Instant::now()));
    }
}

/// The files of a namespace, oldest first.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jsonl"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.jsonl"))
}

fn create(folder: &Path, number: u64) -> io::Result<File> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path(folder, number))
}
