//! A WebAssembly file on this machine, checked before it travels: what the cluster would refuse anyway is refused here,
//! with what to do about it.

use std::{fs, path::Path};

use bytes::Bytes;
use dunlin_proto::{MAX_ARTIFACT_BYTES, ids::Digest};

use crate::{exit::Failure, units};

/// The beginning of every WebAssembly file (Core specification 5.5.16), before its version.
const MAGIC: &[u8] = b"\0asm";

/// The version fields of a module and of a component.
const VERSIONS: [[u8; 4]; 2] = [[1, 0, 0, 0], [0x0d, 0, 1, 0]];

/// A file that may be an artifact.
#[derive(Debug)]
pub(crate) struct Artifact {
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// Their SHA-256.
    pub(crate) digest: Digest,
}

impl Artifact {
    /// Reads a file and checks its beginning and size.
    ///
    /// # Errors
    /// It can't be read, is too large, or is not WebAssembly in binary form.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let unreadable = |error| Failure::usage(format!("cannot read {name}")).because(error);
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Failure::usage(format!("{name} is not a file")));
        }
        check_size(metadata.len()).map_err(|why| Failure::usage(format!("{name} {why}")).hint(SIZE_HINT))?;
        let bytes = fs::read(path).map_err(unreadable)?;
        check_beginning(&bytes).map_err(|(why, hint)| Failure::usage(format!("{name} {why}")).hint(hint))?;
        Ok(Self::of(bytes.into()))
    }

    /// An artifact of these bytes.
    pub(crate) fn of(bytes: Bytes) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }
}

const SIZE_HINT: &str = "strip debug information, or build for release";

fn check_size(bytes: u64) -> Result<(), String> {
    if bytes <= MAX_ARTIFACT_BYTES {
        return Ok(());
    }
    Err(format!("has {}, but an artifact may have {} at most", units::size(bytes), units::size(MAX_ARTIFACT_BYTES)))
}

/// Says why a file is not WebAssembly, and what to do, by its first bytes.
fn check_beginning(bytes: &[u8]) -> Result<(), (&'static str, &'static str)> {
    let rest = match bytes.strip_prefix(MAGIC) {
        Some(rest) => rest,
        None if bytes.starts_with(b"\x7fELF") => {
            return Err(("is compiled code, not WebAssembly", "deploy the .wasm file; the cluster compiles it itself"));
        }
        None if bytes.trim_ascii_start().starts_with(b"(") || bytes.trim_ascii_start().starts_with(b";;") => {
            return Err(("is WebAssembly in text form", "turn it into binary form, such as with: wasm-tools parse"));
        }
        None if bytes.is_empty() => return Err(("is empty", "build it again")),
        None => return Err(("is not a WebAssembly file", "name the .wasm file that your build makes")),
    };
    match rest.first_chunk::<4>() {
        Some(version) if VERSIONS.contains(version) => Ok(()),
        Some(_) => Err(("has a version of WebAssembly that is not known", "build a component or a core module")),
        None => Err(("ends within its first eight bytes", "build it again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_components_may_travel_and_nothing_else() {
        for good in [&b"\0asm\x01\0\0\0"[..], b"\0asm\x0d\0\x01\0rest"] {
            assert_eq!(check_beginning(good), Ok(()));
        }
        for (bad, why) in [
            (&b""[..], "is empty"),
            (b"\0as", "not a WebAssembly file"),
            (b"\0asm\x01", "first eight bytes"),
            (b"\0asm\x02\0\0\0", "version"),
            (b"\x7fELF\x02\x01", "compiled code"),
            (b"(module)", "text form"),
            (b" ;; c\n(module)", "text form"),
            (b"#!/bin/sh", "not a WebAssembly file"),
        ] {
            assert!(check_beginning(bad).unwrap_err().0.contains(why), "{bad:?}");
        }
    }

    #[test]
    fn a_file_over_the_limit_is_refused_without_reading_it() {
        assert!(check_size(MAX_ARTIFACT_BYTES).is_ok());
        assert_eq!(check_size(100_000_000).unwrap_err(), "has 95.4 MiB, but an artifact may have 64 MiB at most");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.wasm");
        fs::File::create(&path).unwrap().set_len(MAX_ARTIFACT_BYTES + 1).unwrap();
        let text = Artifact::load(&path).unwrap_err().text(crate::output::Style::PLAIN);
        assert!(text.contains("64 MiB at most") && text.contains("hint: strip"), "{text}");
        assert!(Artifact::load(folder.path()).is_err());
    }
}
