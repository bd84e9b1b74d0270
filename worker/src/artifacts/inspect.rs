//! Whether a file of the cache is what its seal says. It reads, and never follows a link; removing and fetching is the
//! caller's.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use dunlin_proto::internal::v1::CompiledCode;
use rustix::fs::OFlags;

/// A file whose bytes this process has read and found to be those that were sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trusted {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    body_sha256: String,
    /// Whether the clock has moved on since the file last changed. Before that, a further change would not show.
    settled: bool,
}

/// How coarse the file system's clock may be.
const CLOCK_TICK: Duration = Duration::from_millis(20);

impl Trusted {
    /// The identity of a file; taken before its bytes are read.
    pub(super) fn new(metadata: &Metadata, code: &CompiledCode) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::new(
            u64::try_from(metadata.ctime()).unwrap_or(u64::MAX),
            u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
        );
        Self {
            settled: now.checked_sub(changed).is_some_and(|age| age > CLOCK_TICK),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            body_sha256: code.body_sha256.clone(),
        }
    }

    /// Whether this is still the same file, unchanged.
    fn still_holds(&self, now: &Self) -> bool {
        self.settled && self == now
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inspection {
    /// It may be mapped.
    Trusted(Trusted),
    /// There is nothing.
    Absent,
    /// It must not be used, and why.
    Rejected(&'static str),
}

/// Looks at the file; reads its bytes unless it is the one that is `known`.
pub(super) fn inspect(path: &Path, code: &CompiledCode, known: Option<Trusted>) -> io::Result<Inspection> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Inspection::Absent),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Ok(Inspection::Rejected("it is a symbolic link"));
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if let Some(reason) = strange(&metadata, code) {
        return Ok(Inspection::Rejected(reason));
    }
    let found = Trusted::new(&metadata, code);
    if known.is_some_and(|known| known.still_holds(&found)) || digest_of(file)? == code.body_sha256 {
        return Ok(Inspection::Trusted(found));
    }
    Ok(Inspection::Rejected("its bytes are not those that were sealed"))
}

/// Opens for reading; fails on a link, and does not wait for the other end of a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// What is wrong with a file before a byte of it is read.
fn strange(metadata: &Metadata, code: &CompiledCode) -> Option<&'static str> {
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    match () {
        () if !metadata.is_file() => Some("it is no file"),
        () if !own => Some("it belongs to another user"),
        () if metadata.mode() & 0o022 != 0 => Some("others may write it"),
        () if metadata.size() != code.size_bytes => Some("its size is not what was sealed"),
        () => None,
    }
}

/// The hexadecimal SHA-256 of the rest of the file.
fn digest_of(mut file: File) -> io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        context.update(bytes);
    }
    Ok(hex::encode(context.finish()))
}
