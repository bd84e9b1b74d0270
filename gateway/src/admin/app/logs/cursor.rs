//! Where a reader of all workers' logs is: what it hands out so that it can go on there later. Opaque to its holder, who can do
//! no harm with another one: it says from where to read, and not what. Where lines are handed out by their calls, it also says of
//! which calls they have been, beyond the first line that has not.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use dunlin_proto::{
    ApiError,
    ids::InvocationId,
    internal::v1::{HandedOut, LogCursor, LogPosition, WorkerPosition},
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
    /// By workers, up to where lines of calls have been handed out beyond their places; without a call, what is said of lines that
    /// are missing.
    beyond: BTreeMap<String, BTreeMap<Option<InvocationId>, LogPosition>>,
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
        let mut parsed = Self { places, since: cursor.since, beyond: BTreeMap::new() };
        for HandedOut { worker, invocation, to } in cursor.handed_out {
            let call = (!invocation.is_empty()).then(|| InvocationId::from_slice(&invocation)).transpose();
            parsed.hand_out(&worker, call.map_err(|_| wrong())?, to.ok_or_else(wrong)?);
        }
        Ok(parsed)
    }

    /// The cursor for its holder.
    pub(super) fn text(&self) -> String {
        let of = |(worker, place): (&String, &LogPosition)| WorkerPosition {
            worker: worker.clone(),
            position: Some(*place),
        };
        let handed_out = self.beyond.iter().flat_map(|(worker, calls)| {
            calls.iter().map(|(call, to)| HandedOut {
                worker: worker.clone(),
                invocation: call.map(|id| id.uuid().as_bytes().to_vec().into()).unwrap_or_default(),
                to: Some(*to),
            })
        });
        let (workers, handed_out) = (self.places.iter().map(of).collect(), handed_out.collect());
        URL_SAFE_NO_PAD.encode(LogCursor { workers, since: self.since, handed_out }.encode_to_vec())
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
            Some(at) if key(*at) < key(to) => *at = to,
            Some(_) => {}
            None => drop(self.places.insert(worker.to_owned(), to)),
        }
        let Some(calls) = self.beyond.get_mut(worker) else { return };
        calls.retain(|_, handed_out| key(to) < key(*handed_out));
        if calls.is_empty() {
            self.beyond.remove(worker);
        }
    }

    /// A line of a call was handed out, while earlier ones of others were not; or, without a call, that lines are missing.
    pub(super) fn hand_out(&mut self, worker: &str, call: Option<InvocationId>, to: LogPosition) {
        if self.place(worker).is_some_and(|place| key(to) <= key(place)) {
            return;
        }
        let handed_out = self.beyond.entry(worker.to_owned()).or_default().entry(call).or_insert(to);
        if key(*handed_out) < key(to) {
            *handed_out = to;
        }
    }

    /// Whether that has been handed out.
    pub(super) fn has_handed_out(&self, worker: &str, call: Option<InvocationId>, at: LogPosition) -> bool {
        let to = self.beyond.get(worker).and_then(|calls| calls.get(&call));
        to.is_some_and(|to| key(at) <= key(*to)) || self.place(worker).is_some_and(|place| key(at) <= key(place))
    }

    /// How many calls it names.
    pub(super) fn calls(&self) -> usize {
        self.beyond.values().map(BTreeMap::len).sum()
    }
}

/// What places are ordered by.
pub(super) fn key(LogPosition { boot, sequence }: LogPosition) -> (u64, u64) {
    (boot, sequence)
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
    fn what_was_handed_out_beyond_a_place_is_known_until_the_place_is_beyond_it() {
        let at = |sequence| LogPosition { boot: 1, sequence };
        let (one, other) = (Some(InvocationId::new()), Some(InvocationId::new()));
        let mut cursor = Cursor::new(7);
        cursor.advance("w1", at(3));
        for (worker, call, sequence) in
            [("w1", one, 5), ("w1", one, 8), ("w1", None, 6), ("w2", other, 2), ("w1", other, 3)]
        {
            cursor.hand_out(worker, call, at(sequence));
        }
        let again = Cursor::parse(&cursor.text()).unwrap();
        assert_eq!((&again, again.calls()), (&cursor, 3));
        let has = |cursor: &Cursor, worker, call, sequence| cursor.has_handed_out(worker, call, at(sequence));
        assert!(has(&again, "w1", one, 8) && has(&again, "w1", one, 4) && !has(&again, "w1", one, 9));
        assert!(has(&again, "w1", other, 3) && !has(&again, "w1", other, 4) && has(&again, "w1", None, 6));
        assert!(has(&again, "w2", other, 2) && !has(&again, "w2", one, 1));
        cursor.advance("w1", at(6));
        assert_eq!(cursor.calls(), 2, "{cursor:?}");
        cursor.advance("w1", at(8));
        cursor.advance("w2", at(2));
        assert_eq!((cursor.calls(), has(&cursor, "w1", one, 8)), (0, true));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["!", "YQ", "2026-11-23T16:00:35Z", &"A".repeat(300 << 10)] {
            assert_eq!(Cursor::parse(text).unwrap_err().field.as_deref(), Some("cursor"), "{text:.20}");
        }
    }
}
