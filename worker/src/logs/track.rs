//! Goes through a log from entry to entry and says what is missing between them. Pure: no files, no clock.

use super::line::{Entry, Line, Mark, Position, Why};

/// What a reader learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Line(Line),
    Gap(Mark),
}

/// Where a reader is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Track {
    /// Nothing before the first entry of a reader that came without a place.
    at: Option<Position>,
    /// The start that it is in closed its log here.
    ended: bool,
}

impl Track {
    /// Goes on after a place; its zero value is before everything.
    pub(super) fn after(place: Position) -> Self {
        Self { at: Some(place).filter(|place| *place != Position::default()), ended: false }
    }

    pub(super) fn at(&self) -> Option<Position> {
        self.at
    }

    /// Takes the next entry, which may have been seen, and says what it tells.
    pub(super) fn step(&mut self, entry: &Entry, mut tell: impl FnMut(Item)) {
        let position = entry.position();
        let ends = matches!(entry, Entry::Mark(mark) if mark.why == Why::End);
        if self.at.is_some_and(|at| position <= at) {
            self.ended |= ends && self.at == Some(position);
            return;
        }
        let seen =
            self.at.map_or(position.sequence.saturating_sub(entry.lines()), |at| self.cross(at, entry, &mut tell));
        let missing = position.sequence.saturating_sub(entry.lines()).saturating_sub(seen);
        if missing > 0 {
            let sequence = seen + missing;
            tell(Item::Gap(Mark {
                time: entry.time(),
                sequence,
                lines: missing,
                why: Why::Removed,
                ..place(position)
            }));
        }
        (self.at, self.ended) = (Some(position), ends);
        match entry {
            Entry::Line(line) => tell(Item::Line(line.clone())),
            // Of a mark that was seen in part, what is new.
            Entry::Mark(mark) if !ends => {
                let lines = mark.lines.min(position.sequence.saturating_sub(seen));
                tell(Item::Gap(Mark { lines, ..mark.clone() }));
            }
            Entry::Mark(_) | Entry::Passed(_) => {}
        }
    }

    /// Comes from a place to an entry of the same or a later start; returns up to which line of that start all is known.
    fn cross(&self, at: Position, entry: &Entry, tell: &mut impl FnMut(Item)) -> u64 {
        let position = entry.position();
        if at.boot == position.boot {
            return at.sequence;
        }
        if !self.ended {
            tell(Item::Gap(restart(position.boot, entry.time())));
        }
        0
    }

    /// There is no more for now, in this start of the log: an earlier one that was not closed may have lost lines.
    pub(super) fn settle(&mut self, boot: u64, now: u64, mut tell: impl FnMut(Item)) {
        match self.at {
            Some(at) if at.boot == boot => return,
            Some(_) if !self.ended => tell(Item::Gap(restart(boot, now))),
            _ => {}
        }
        (self.at, self.ended) = (Some(Position { boot, sequence: 0 }), false);
    }
}

fn place(Position { boot, sequence }: Position) -> Mark {
    Mark { time: 0, boot, sequence, lines: 0, why: Why::Restart }
}

fn restart(boot: u64, time: u64) -> Mark {
    Mark { time, ..place(Position { boot, sequence: 0 }) }
}

#[cfg(test)]
mod tests;
