//! Whether a log is the one that was written: the first entry that is not, where there is one. Pure; entries come in as they
//! are read, so that a log of any length needs no memory.

use std::fmt;

use super::{BEGINNING, DISTRUST, Entry, Head, HeadKind};
use crate::ids::Digest;

/// What is wrong with a log, and at which entry that shows first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The first entry that can't be trusted.
    pub sequence: u64,
    /// Why.
    pub why: Why,
}

/// Why an entry can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its hash is another one than it says: it, or the one before, was changed.
    Hash,
    /// Another entry stands in its place: some were removed, added or put in another order.
    Order,
    /// It is not there, although a signed end says that it was written.
    Missing,
    /// It is there, but behind the signed end.
    Unsigned,
    /// The end of the log, or the checkpoint where it begins, has no valid signature.
    Signature,
    /// It is not the one of which the saved end was taken: the log was written anew.
    Saved,
    /// The saved end was signed by another key than this log's.
    Key,
    /// The cluster itself found here that the log before was not signed by it.
    Distrusted,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Hash => "its hash does not fit: it, or the one before it, was changed",
            Why::Order => "another entry stands in its place: entries were removed, added or put in another order",
            Why::Missing => "it is missing, although a signed end of the log says that it was written",
            Why::Unsigned => "it stands behind the signed end of the log: somebody else has written it",
            Why::Signature => "the end of the log, or the checkpoint where it begins, has no valid signature",
            Why::Saved => "it is another one than when the head was saved: the log was written anew",
            Why::Key => "the saved head was signed with another key than this log",
            Why::Distrusted => "the cluster found that the log before it was not signed by its key",
        };
        write!(f, "entry {}: {why}", self.sequence)
    }
}

impl std::error::Error for Break {}

fn broken(sequence: u64, why: Why) -> Break {
    Break { sequence, why }
}

/// A log that is being checked, from its beginning.
#[derive(Debug, Clone)]
pub struct Chain {
    last: u64,
    hash: Digest,
    saved: Option<Head>,
    head: Head,
}

impl Chain {
    /// Begins at a checkpoint, or at the first entry, and goes to a signed end. An end that was saved before must lie on it.
    ///
    /// # Errors
    /// A signature does not hold, or the log ends before the saved end.
    pub fn begin(
        head: Head,
        checkpoint: Option<&Head>,
        public_key: &[u8],
        saved: Option<(Head, &[u8])>,
    ) -> Result<Self, Break> {
        if let Some((saved, key)) = &saved {
            if *key != public_key {
                return Err(broken(saved.sequence, Why::Key));
            }
            if !saved.is_signed(HeadKind::Head, public_key) {
                return Err(broken(saved.sequence, Why::Signature));
            }
        }
        let saved = saved.map(|(saved, _)| saved);
        if let Some(saved) = saved.as_ref().filter(|saved| head.sequence < saved.sequence) {
            return Err(broken(head.sequence.saturating_add(1).min(saved.sequence), Why::Missing));
        }
        if !head.is_signed(HeadKind::Head, public_key) {
            return Err(broken(head.sequence, Why::Signature));
        }
        if let Some(checkpoint) = checkpoint.filter(|it| !it.is_signed(HeadKind::Checkpoint, public_key)) {
            return Err(broken(checkpoint.sequence, Why::Signature));
        }
        let (last, hash) = checkpoint.map_or((0, BEGINNING), |checkpoint| (checkpoint.sequence, checkpoint.hash));
        let chain = Self { last, hash, saved, head };
        chain.check_saved()?;
        Ok(chain)
    }

    /// Takes the next entry, with the hash that it says to have.
    ///
    /// # Errors
    /// It is not the one that was written.
    pub fn take(&mut self, entry: &Entry, hash: &Digest) -> Result<(), Break> {
        let next = self.last.saturating_add(1);
        if entry.sequence != next {
            return Err(broken(next, Why::Order));
        }
        if next > self.head.sequence {
            return Err(broken(next, Why::Unsigned));
        }
        if entry.hash_after(&self.hash) != *hash {
            return Err(broken(next, Why::Hash));
        }
        (self.last, self.hash) = (next, *hash);
        if next == self.head.sequence && *hash != self.head.hash {
            return Err(broken(next, Why::Hash));
        }
        self.check_saved()?;
        let known = self.saved.as_ref().is_some_and(|saved| saved.sequence >= next);
        if entry.action == DISTRUST && !known { Err(broken(next, Why::Distrusted)) } else { Ok(()) }
    }

    /// The signed end to which it goes.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Goes on to a later end: the log has grown while it was read.
    ///
    /// # Errors
    /// Its signature does not hold.
    pub fn extend(&mut self, head: Head, public_key: &[u8]) -> Result<(), Break> {
        if !head.is_signed(HeadKind::Head, public_key) {
            return Err(broken(head.sequence, Why::Signature));
        }
        if head.sequence > self.head.sequence {
            self.head = head;
        }
        Ok(())
    }

    /// Says how many entries there are up to the signed end, once no more come.
    ///
    /// # Errors
    /// Some are missing, or the end was signed for others.
    pub fn end(self) -> Result<u64, Break> {
        if self.last < self.head.sequence {
            return Err(broken(self.last.saturating_add(1), Why::Missing));
        }
        if self.hash == self.head.hash { Ok(self.last) } else { Err(broken(self.last, Why::Hash)) }
    }

    fn check_saved(&self) -> Result<(), Break> {
        let here = self.saved.as_ref().filter(|saved| saved.sequence == self.last);
        match here {
            Some(saved) if saved.hash != self.hash => Err(broken(self.last, Why::Saved)),
            _ => Ok(()),
        }
    }
}

/// Checks a whole log at once; says how many entries it has up to its end.
///
/// # Errors
/// It is not the one that was written.
pub fn verify(mut chain: Chain, entries: &[(Entry, Digest)]) -> Result<u64, Break> {
    for (entry, hash) in entries {
        chain.take(entry, hash)?;
    }
    chain.end()
}
