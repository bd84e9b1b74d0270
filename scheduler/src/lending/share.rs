//! How a rate is divided: to each gateway in proportion to what its callers want, so that all of them refuse alike, and a
//! little to those that nobody asks for now. Pure numbers; who has what, and when it may move, is in `lender.rs`.

/// Of the rate, what all gateways have in equal parts whatever their callers want.
const FLOOR: f64 = 0.01;
/// Of the burst, the same; and the most admissions of it for one gateway.
const BURST_FLOOR: (f64, f64) = (0.25, 2.0);
/// Of rate and burst, what is kept for gateways that have no part yet.
const RESERVE: (f64, f64) = (0.01, 0.125);
/// Of rate and burst, what is too little to move.
const TOO_LITTLE: (f64, f64) = (0.005, 0.01);

/// A part of a limited rate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Share {
    /// Admissions a second.
    pub(crate) per_second: f64,
    /// Admissions at once.
    pub(crate) burst: f64,
}

impl Share {
    /// So many calls at once.
    pub(super) fn of_slots(calls: u32) -> Self {
        Self { per_second: 0.0, burst: calls.into() }
    }

    fn each(self, other: Self, of: impl Fn(f64, f64) -> f64) -> Self {
        Self { per_second: of(self.per_second, other.per_second), burst: of(self.burst, other.burst) }
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }

    /// What is left without the other; never less than nothing.
    pub(super) fn without(self, other: Self) -> Self {
        self.each(other, |a, b| (a - b).max(0.0))
    }

    /// Of each number the smaller.
    pub(super) fn smaller(self, other: Self) -> Self {
        self.each(other, f64::min)
    }

    /// Of each number the larger.
    pub(super) fn larger(self, other: Self) -> Self {
        self.each(other, f64::max)
    }

    /// Whether it differs from the other by more than is too little to move of `whole`.
    pub(super) fn differs(self, other: Self, whole: Self) -> bool {
        let far = self.each(other, |a, b| (a - b).abs());
        far.per_second > whole.per_second * TOO_LITTLE.0 || far.burst > whole.burst * TOO_LITTLE.1
    }

    /// As much as a report may say; nothing instead of what is no number.
    pub(super) fn sane(self, whole: Self) -> Self {
        let sane = |value: f64, most: f64| if value.is_finite() { value.clamp(0.0, most) } else { 0.0 };
        self.each(whole, sane)
    }
}

/// What each of several gateways should have of `whole`, whose callers want so many admissions a second; `others` says
/// that there are gateways that have not asked yet.
pub(super) fn divide(whole: Share, wanted: &[f64], others: bool) -> Vec<Share> {
    let count = f64::from(u32::try_from(wanted.len()).unwrap_or(u32::MAX)).max(1.0);
    let reserve = if others { RESERVE } else { (0.0, 0.0) };
    let (rate, burst) = (whole.per_second * (1.0 - reserve.0), whole.burst * (1.0 - reserve.1));
    let floor = Share { per_second: rate * FLOOR / count, burst: (burst * BURST_FLOOR.0 / count).min(BURST_FLOOR.1) };
    let total: f64 = wanted.iter().sum();
    let part = |wanted: &f64| {
        let weight = if total > 0.0 { wanted / total } else { 1.0 / count };
        Share {
            per_second: floor.per_second + (rate - count * floor.per_second) * weight,
            burst: floor.burst + (burst - count * floor.burst) * weight,
        }
    };
    wanted.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Share = Share { per_second: 100.0, burst: 50.0 };

    #[test]
    fn parts_follow_demand_and_sum_up_to_the_whole() {
        for (wanted, others, least) in [
            (&[120.0][..], false, &[100.0][..]),
            (&[60.0, 60.0], false, &[50.0, 50.0]),
            (&[114.0, 6.0], false, &[94.0, 5.0]),
            (&[120.0, 0.0], false, &[99.4, 0.4]),
            (&[0.0, 0.0], false, &[50.0, 50.0]),
            (&[120.0], true, &[98.9]),
            (&[], true, &[]),
        ] {
            let parts = divide(WHOLE, wanted, others);
            assert!(parts.iter().zip(least).all(|(part, least)| part.per_second >= *least), "{wanted:?} {parts:?}");
            assert!(parts.iter().all(|part| part.burst >= 1.0), "{wanted:?} {parts:?}");
            let sum = parts.into_iter().fold(Share::default(), Share::plus);
            assert!(sum.per_second <= 100.001 && sum.burst <= 50.001, "{wanted:?} {sum:?}");
        }
    }
}
