//! Purges of stored answers: the last ones, in memory, for gateways to follow.
//!
//! Nothing here is durable. A gateway that starts anew has nothing stored; one that has missed more than is remembered here, or a
//! restart of the scheduler, forgets everything. Pure.

use std::collections::VecDeque;

use dunlin_proto::route::Purge;

/// Purges that are remembered.
const MOST: usize = 1_000;

/// Up to which purge: a start of the scheduler, and the count within it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

/// The last purges.
#[derive(Debug, Clone)]
pub(crate) struct PurgeLog {
    newest: Position,
    /// The oldest first.
    recent: VecDeque<Purge>,
}

/// What somebody has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missed {
    /// These, in their order.
    These(Vec<Purge>),
    /// More than is known.
    More,
}

impl PurgeLog {
    /// One in which nothing has been purged.
    pub(crate) fn new(epoch: u64) -> Self {
        Self { newest: Position { epoch, sequence: 0 }, recent: VecDeque::new() }
    }

    /// The newest position.
    pub(crate) fn newest(&self) -> Position {
        self.newest
    }

    /// Adds a purge.
    pub(crate) fn add(&mut self, purge: Purge) {
        self.newest.sequence += 1;
        self.recent.push_back(purge);
        if self.recent.len() > MOST {
            self.recent.pop_front();
        }
    }

    /// What somebody has missed who has followed up to here; nothing where that is all.
    pub(crate) fn missed(&self, has: Position) -> Option<Missed> {
        if has == self.newest {
            return None;
        }
        let behind = self.newest.sequence.checked_sub(has.sequence).filter(|_| has.epoch == self.newest.epoch);
        let behind = behind.and_then(|behind| usize::try_from(behind).ok());
        let skipped = behind.and_then(|behind| self.recent.len().checked_sub(behind));
        Some(skipped.map_or(Missed::More, |skipped| Missed::These(self.recent.iter().skip(skipped).cloned().collect())))
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::route::Purged;

    use super::*;

    fn purge(number: usize) -> Purge {
        Purge { namespace: "shop".parse().unwrap(), what: Purged::Path(format!("/{number}")) }
    }

    #[test]
    fn who_was_away_hears_what_it_has_missed_or_forgets_everything() {
        let mut log = PurgeLog::new(7);
        let at = |epoch, sequence| Position { epoch, sequence };
        assert_eq!(log.missed(at(7, 0)), None);
        assert_eq!(log.missed(Position::default()), Some(Missed::More), "it comes from somewhere else");
        (1..=3).for_each(|number| log.add(purge(number)));
        assert_eq!(log.newest(), at(7, 3));
        assert_eq!(log.missed(at(7, 3)), None);
        assert_eq!(log.missed(at(7, 1)), Some(Missed::These(vec![purge(2), purge(3)])));
        assert_eq!(log.missed(at(7, 0)), Some(Missed::These((1..=3).map(purge).collect())));
        for has in [at(6, 3), at(8, 3), at(7, 4)] {
            assert_eq!(log.missed(has), Some(Missed::More), "{has:?}");
        }
        (4..=MOST + 1).for_each(|number| log.add(purge(number)));
        assert_eq!(log.missed(at(7, 0)), Some(Missed::More));
        assert_eq!(log.missed(at(7, 1)), Some(Missed::These((2..=MOST + 1).map(purge).collect())));
    }
}
