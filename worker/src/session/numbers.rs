//! Which invocation numbers a gateway has used. Each is used once; they may arrive a little out of order, since a gateway
//! numbers its invocations before it queues them.

use std::collections::BTreeSet;

use super::Fault;

/// How many numbers below the highest may still be on their way; the lowest are given up first.
const MAX_GAPS: usize = 4096;

/// The numbers of a session.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    highest: u64,
    gaps: BTreeSet<u64>,
}

/// What is known of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// It has been used, and may have ended.
    Begun,
    /// It has not.
    Unknown,
}

impl Numbers {
    /// Uses a number.
    ///
    /// # Errors
    /// It is 0, was used before, or is far from all others.
    pub(super) fn begin(&mut self, number: u64) -> Result<(), Fault> {
        if number > self.highest {
            if number - self.highest > MAX_GAPS as u64 {
                return Err(Fault::new(format!("invocation {number} begins after {}", self.highest)));
            }
            self.gaps.extend(self.highest + 1..number);
            self.highest = number;
            while self.gaps.len() > MAX_GAPS {
                self.gaps.pop_first();
            }
            return Ok(());
        }
        let first_time = self.gaps.remove(&number);
        first_time.then_some(()).ok_or_else(|| Fault::new(format!("invocation {number} begins twice")))
    }

    /// What is known of a number.
    pub(super) fn state(&self, number: u64) -> Number {
        let begun = number != 0 && number <= self.highest && !self.gaps.contains(&number);
        if begun { Number::Begun } else { Number::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_once_in_about_any_order() {
        let mut numbers = Numbers::default();
        for number in [1, 3, 2, 7, 5] {
            assert_eq!(numbers.state(number), Number::Unknown);
            numbers.begin(number).unwrap();
            assert_eq!(numbers.state(number), Number::Begun);
        }
        for used in [0, 1, 2, 3, 5, 7] {
            assert!(numbers.begin(used).is_err(), "{used}");
        }
        assert_eq!(numbers.state(4), Number::Unknown);
        assert_eq!(numbers.state(0), Number::Unknown);
        assert!(numbers.begin(u64::MAX).is_err());
    }

    #[test]
    fn numbers_that_never_come_take_no_memory() {
        let mut numbers = Numbers::default();
        for number in (2..100_000).step_by(2) {
            numbers.begin(number).unwrap();
        }
        assert_eq!(numbers.gaps.len(), MAX_GAPS);
        assert!(numbers.begin(1).is_err());
        assert!(numbers.begin(99_997).is_ok());
    }
}
