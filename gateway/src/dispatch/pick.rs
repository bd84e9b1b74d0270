//! Which endpoint takes an invocation: power of two choices on in-flight work. Pure; the random number is an argument.
//!
//! Two random candidates and the less loaded of them: nearly as even as asking all, and gateways that know only their own
//! load do not all run to the same worker (Mitzenmacher, "The Power of Two Choices", 2001).

/// The index of the endpoint to use among `count`; `load` says nothing of those that can't be used.
pub(super) fn pick(count: usize, load: impl Fn(usize) -> Option<u32>, random: u64) -> Option<usize> {
    let usable = || (0..count).filter_map(|index| Some((index, load(index)?)));
    let total = usable().count();
    let (first, second) = two(total, random)?;
    let (one, other) = (usable().nth(first)?, usable().nth(second)?);
    Some(if other.1 < one.1 { other.0 } else { one.0 })
}

/// Two different numbers below `total`, or twice the only one.
fn two(total: usize, random: u64) -> Option<(usize, usize)> {
    let total = u64::try_from(total).ok()?;
    let (low, high) = (random & 0xffff_ffff, random >> 32);
    let first = low.checked_rem(total)?;
    let second = high.checked_rem(total - 1).map_or(first, |step| (first + 1 + step) % total);
    Some((usize::try_from(first).ok()?, usize::try_from(second).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn randoms() -> impl Iterator<Item = u64> {
        // Any spread will do: a linear congruential generator (Knuth's constants).
        std::iter::successors(Some(1_u64), |n| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)))
            .take(5_000)
    }

    #[test]
    fn only_what_can_be_used_is_picked() {
        let loads = [None, Some(3), None, Some(9)];
        for random in randoms() {
            // With two that can be used, both are always looked at.
            assert_eq!(pick(4, |index| loads[index], random), Some(1));
        }
        assert_eq!(pick(4, |_| None, 7), None);
        assert_eq!(pick(0, |_| Some(0), 7), None);
        assert_eq!(pick(1, |_| Some(u32::MAX), 7), Some(0));
    }

    #[test]
    fn work_spreads_evenly() {
        let mut loads = [0_u32; 10];
        for random in randoms() {
            loads[pick(10, |index| Some(loads[index]), random).unwrap()] += 1;
        }
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 5, "{loads:?}");
    }

    #[test]
    fn the_most_loaded_of_several_is_never_picked() {
        let loads = [1, 1, 9, 1];
        assert!(randoms().all(|random| pick(4, |index| Some(loads[index]), random) != Some(2)));
    }
}
