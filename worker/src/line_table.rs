//! Source lines of compiled code, so that a trap can say where it was: a table behind the compiled component in the same
//! file, which its seal covers and the engine does not look at. The compiler's process writes it (`compile/lines.rs`); a
//! worker reads the few bytes that it needs when a guest traps, and keeps nothing. Debug information itself is read elsewhere.
//!
//! All numbers are 32 bits, little-endian, but for those in rows, which are LEB128:
//!
//! ```text
//! component | body | footer
//! body      = counts (modules, functions, files, bytes of paths, bytes of rows) modules functions files paths rows
//! modules   = (index of its first function in `functions`, functions, imported functions)...
//! functions = (start: offset of its body in the component, where its rows begin)..., by start
//! files     = (where its path ends)...
//! row       = offset from the row before * 2 + (1 where a file follows), file?, zigzag of line - line before
//! footer    = state, bytes of the body, magic
//! ```
//!
//! Line 0 means that nothing is known from there on. Files without a footer are as good as those with one.

mod read;
mod write;

pub(crate) use read::LineTable;
pub(crate) use write::{Builder, absent};

/// The last bytes of a file with a footer.
const MAGIC: [u8; 8] = *b"DNLNLIN1";
/// Bytes of a footer.
const FOOTER: usize = 16;
/// Numbers of 32 bits before the modules.
const COUNTS: usize = 5;
/// Largest body in bytes.
pub(crate) const MAX_BODY: usize = 2 << 20;
/// Longest path in bytes.
pub(crate) const MAX_PATH: usize = 120;

/// Where in the source a function's code comes from, from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Bytes after the start of the function's body.
    pub(crate) offset: u32,
    /// Index of its file.
    pub(crate) file: u32,
    /// Counted from 1; 0 where nothing is known.
    pub(crate) line: u32,
}

/// Why there is no table though the artifact has debug information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// It would be larger than [`MAX_BODY`].
    TooLarge,
    /// No line could be read.
    Unreadable,
}

impl Absent {
    /// What developers are told.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "no source lines: the artifact's debug information is too large",
            Self::Unreadable => "no source lines: the artifact's debug information can't be read",
        }
    }

    fn state(self) -> u32 {
        match self {
            Self::TooLarge => 1,
            Self::Unreadable => 2,
        }
    }

    fn from_state(state: u32) -> Option<Self> {
        [Self::TooLarge, Self::Unreadable].into_iter().find(|absent| absent.state() == state)
    }
}

#[cfg(test)]
mod tests;
