//! How much a gateway wants to use of a loan before it says so: what is left beyond that, it promises not to use. When its process
//! dies, only the window counts as used, so it is about what is admitted in a second. But a call that finds it used up has the
//! scheduler asked, which shall be seldom. Numbers alone, without a clock.
//!
//! It becomes larger at once, and smaller by a half at most for each 200 admissions. So it is used up once in 200 admissions at
//! most, but for the first few times: with the loans themselves, of at least as much, that makes a question in a hundred.

use std::time::Duration;

/// More than the calls of a second, for those that come unevenly; and the least.
const LEAST: u64 = 8;
/// The most: no loan is larger.
const MOST: u64 = 1_000_000;
/// It becomes smaller once for so many admissions.
const COST: u64 = 200;
/// So many admissions count at the most that it has not become smaller for.
const BANK: u64 = 8 * COST;
/// A pace is not told from a shorter time.
const SHORT: Duration = Duration::from_millis(250);

/// A window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    size: u64,
    /// Admissions in a second, on the average of late.
    pace: u64,
    /// Admissions that it may become smaller for.
    bank: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { size: LEAST, pace: 0, bank: 0 }
    }
}

impl Window {
    /// Admissions that need not be spoken of before.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether it stays as it is while nothing is admitted.
    pub(super) fn is_still(&self) -> bool {
        self.pace == 0 && !self.shrinks(LEAST)
    }

    fn shrinks(&self, wanted: u64) -> bool {
        wanted < self.size - self.size / 4 && self.bank >= COST
    }

    /// So much was admitted.
    pub(super) fn used(&mut self, admitted: u64) {
        self.bank = self.bank.saturating_add(admitted).min(BANK);
    }

    /// So much was admitted in a time that has passed.
    pub(super) fn paced(&mut self, admitted: u64, time: Duration) {
        self.pace = self.pace.saturating_add(per_second(admitted, time)) / 2;
        let wanted = self.pace.saturating_add(LEAST).min(MOST);
        if wanted >= self.size {
            self.size = wanted;
        } else if self.shrinks(wanted) {
            self.bank -= COST;
            self.size = (self.size / 2).max(wanted);
        }
    }

    /// It has been used up, although so much only was admitted since a while ago.
    pub(super) fn exceeded(&mut self, admitted: u64, time: Duration) {
        let wanted = per_second(admitted, time).saturating_add(LEAST);
        let (least, most) = (self.size.saturating_mul(2), self.size.saturating_mul(4));
        self.size = wanted.clamp(least, most).min(MOST);
    }
}

fn per_second(admitted: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.max(SHORT).as_millis()).unwrap_or(u64::MAX);
    admitted.saturating_mul(1_000) / millis
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALF: Duration = Duration::from_millis(500);

    fn window(size: u64, pace: u64, bank: u64) -> Window {
        Window { size, pace, bank }
    }

    #[test]
    fn it_follows_what_is_admitted_in_a_second() {
        let mut calm = Window::default();
        for (half, size) in [(0, 8), (1, 9), (10, 18), (10, 23), (10, 25), (10, 26), (100, 117), (0, 117)] {
            calm.paced(half, HALF);
            assert_eq!(calm.size(), size, "{half} {calm:?}");
        }
        // Smaller only for what was admitted.
        for (bank, size, rest) in [(199, 121, 199), (200, 60, 0), (1_000, 60, 800)] {
            let mut falls = window(121, 0, bank);
            falls.paced(0, HALF);
            assert_eq!(falls, window(size, 0, rest));
        }
        let mut close = window(28, 20, 1_000);
        close.paced(8, HALF);
        assert_eq!(close.size(), 28, "it does not tremble");
        let mut idle = window(1_008, 1_000, BANK);
        for size in [508, 258, 133, 70, 39, 23, 15, 11] {
            idle.paced(0, HALF);
            assert_eq!(idle.size(), size);
        }
    }

    #[test]
    fn a_jump_makes_it_two_to_four_times_as_large() {
        for (size, admitted, millis, after) in [
            (8, 8, 8, 32),
            (32, 32, 32, 128),
            (128, 128, 128, 512),
            (8, 8, 400, 28),
            (28, 28, 700, 56),
            (28, 2, 5, 56),
            (8, 0, 60_000, 16),
            (MOST, MOST, 1, MOST),
        ] {
            let mut window = window(size, 0, 0);
            window.exceeded(admitted, Duration::from_millis(millis));
            assert_eq!(window.size(), after, "{size} {admitted} {millis}");
        }
    }

    proptest! {
        /// Whatever comes, it is used up seldom: of loans of 200 that are larger than it.
        #[test]
        fn it_is_used_up_once_in_two_hundred_admissions(calls in prop::collection::vec(0..400_u64, 1..400)) {
            let (mut window, mut open, mut admitted, mut exceeded) = (Window::default(), 8_u64, 0, 0);
            for calls in calls {
                for call in 0..calls {
                    if open == 0 && window.size() < COST {
                        exceeded += 1;
                        window.exceeded(call, HALF);
                    }
                    open = if open == 0 { window.size() } else { open } - 1;
                    admitted += 1;
                    window.used(1);
                }
                window.paced(calls, HALF);
                open = window.size();
            }
            prop_assert!(exceeded <= 6 + admitted / COST, "{exceeded} in {admitted}");
        }
    }
}
