//! Where a reader of all workers' logs is: what it hands out so that it can go on there later. Opaque to its holder, who can do
//! no harm with another one: it says from where to read, and not what.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use dunlin_proto::{
    ApiError,
    internal::v1::{LogCursor, LogPosition, WorkerPosition},
};
use prost::Message;

/// The longest cursor that is read: some thousand workers.
const MAX_BYTES: usize = 256 << 10;

/// A place on each worker.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cursor {
    places: BTreeMap<String, LogPosition>,
    /// On workers without a place: from this time on, in microseconds since 1970.
    since: u64,
}

impl Cursor {
    /// Nothing is read yet; workers that come later are read from this time on, in microseconds since 1970.
    pub(super) fn new(since: u64) -> Self {
        Self { since, ..Self::default() }
    }

    /// Reads what `text` made.
    ///
    /// # Errors
    /// It is no such text.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let wrong = || {
            ApiError::invalid("cursor", "cursor is not one that an answer had")
                .hint("take the cursor of an answer as it is, or leave it out and ask for lines since a time")
        };
        let bytes =
            Some(text).filter(|text| text.len() <= MAX_BYTES).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let cursor = LogCursor::decode(bytes.ok_or_else(wrong)?.as_slice()).map_err(|_| wrong())?;
        let place = |WorkerPosition { worker, position }| Some((worker, position?));
        let places = cursor.workers.into_iter().map(place).collect::<Option<_>>().ok_or_else(wrong)?;
        Ok(Self { places, since: cursor.since })
    }

    /// The cursor for its holder.
    pub(super) fn text(&self) -> String {
        let of = |(worker, place): (&String, &LogPosition)| WorkerPosition {
            worker: worker.clone(),
            position: Some(*place),
        };
        let cursor = LogCursor { workers: self.places.iter().map(of).collect(), since: self.since };
        URL_SAFE_NO_PAD.encode(cursor.encode_to_vec())
    }

    /// The place on a worker.
    pub(super) fn place(&self, worker: &str) -> Option<LogPosition> {
        self.places.get(worker).copied()
    }

    /// From when on workers without a place are read.
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// How many workers have a place.
    pub(super) fn workers(&self) -> usize {
        self.places.len()
    }

    /// Everything up to a place on a worker has been read. Never goes back.
    pub(super) fn advance(&mut self, worker: &str, to: LogPosition) {
        match self.places.get_mut(worker) {
            Some(at) if (at.boot, at.sequence) < (to.boot, to.sequence) => *at = to,
            Some(_) => {}
            None => drop(self.places.insert(worker.to_owned(), to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_never_goes_back() {
        let mut cursor = Cursor::new(7);
        for (worker, boot, sequence) in [("w1", 3, 9), ("w2", 1, 1), ("w1", 3, 8), ("w1", 2, 20), ("w2", 2, 0)] {
            cursor.advance(worker, LogPosition { boot, sequence });
        }
        let again = Cursor::parse(&cursor.text()).unwrap();
        assert_eq!(again, cursor);
        assert_eq!(again.place("w1"), Some(LogPosition { boot: 3, sequence: 9 }));
        assert_eq!(again.place("w2"), Some(LogPosition { boot: 2, sequence: 0 }));
        assert_eq!((again.place("w3"), again.since()), (None, 7));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["!", "YQ", "2026-11-23T16:00:35Z", &"A".repeat(300 << 10)] {
            assert_eq!(Cursor::parse(text).unwrap_err().field.as_deref(), Some("cursor"), "{text:.20}");
        }
    }
}
