//! How the calls that may run at once are divided, in whole numbers: to each gateway what its callers want, up to an equal part,
//! and what nobody wants to all of them alike. Where there are fewer than gateways that want one, they take turns. Pure numbers;
//! who has what, and when it may move, is in `lender.rs`.

use std::{cmp::Reverse, time::Duration};

/// So long a gateway keeps its only call before another one has its turn: time enough to use it.
const TURN: Duration = Duration::from_millis(250);

/// A gateway among which calls are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seeker {
    /// Calls that its callers want to run.
    pub(super) wanted: u32,
    /// Calls that it may run.
    pub(super) has: u32,
    /// Since when it may run any, or none; nothing where it never could.
    pub(super) since: Option<Duration>,
}

/// What each gateway should have of `whole`.
pub(super) fn divide(whole: u32, seekers: &[Seeker]) -> Vec<u32> {
    let wanting = seekers.iter().filter(|seeker| seeker.wanted > 0).count();
    if u32::try_from(wanting).is_ok_and(|wanting| wanting <= whole) {
        shared(whole, seekers)
    } else {
        turns(whole, seekers)
    }
}

/// Everybody who wants one has one.
fn shared(whole: u32, seekers: &[Seeker]) -> Vec<u32> {
    let has: Vec<_> = seekers.iter().map(|seeker| seeker.has).collect();
    // While nobody lacks anything, nothing is moved.
    let content = seekers.iter().all(|seeker| seeker.has >= seeker.wanted) && total(&has) <= whole;
    let mut parts = if content { has } else { wanted(whole, seekers) };
    spread(whole.saturating_sub(total(&parts)), &mut parts);
    parts
}

fn total(parts: &[u32]) -> u32 {
    parts.iter().copied().fold(0, u32::saturating_add)
}

/// To each what it wants, and to those who want too much equal parts of what the others leave.
fn wanted(whole: u32, seekers: &[Seeker]) -> Vec<u32> {
    let mut order: Vec<_> = (0..seekers.len()).zip(seekers).collect();
    order.sort_by_key(|(_, seeker)| seeker.wanted);
    let (mut left, mut parts) = (whole, vec![0; seekers.len()]);
    for (others, (place, seeker)) in (1..=order.len()).rev().zip(order) {
        let each = left.checked_div(u32::try_from(others).unwrap_or(u32::MAX)).unwrap_or_default();
        let part = seeker.wanted.min(each);
        left -= part;
        parts.get_mut(place).into_iter().for_each(|it| *it = part);
    }
    parts
}

/// What is left to all alike; the first ones have one more where it does not divide.
fn spread(left: u32, parts: &mut [u32]) {
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let (each, more) = (left.checked_div(count), left.checked_rem(count).unwrap_or_default());
    for (place, part) in (0_u32..).zip(parts) {
        *part = part.saturating_add(each.unwrap_or_default() + u32::from(place < more));
    }
}

/// One to each of `whole` gateways: to those whose turn is not over, then to those who have waited longest.
fn turns(whole: u32, seekers: &[Seeker]) -> Vec<u32> {
    let key = |(_, seeker): &(usize, &Seeker)| match (seeker.has > 0, seeker.since) {
        (true, since) if since.is_none_or(|since| since < TURN) => (0, Reverse(Duration::ZERO)),
        (false, since) => (1, Reverse(since.unwrap_or(Duration::MAX))),
        (true, _) => (2, Reverse(Duration::ZERO)),
    };
    let mut order: Vec<_> = (0..seekers.len()).zip(seekers).filter(|(_, seeker)| seeker.wanted > 0).collect();
    order.sort_by_key(key);
    let mut parts = vec![0; seekers.len()];
    for (place, _) in order.into_iter().take(usize::try_from(whole).unwrap_or(usize::MAX)) {
        parts.get_mut(place).into_iter().for_each(|part| *part = 1);
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seeker((wanted, has): (u32, u32)) -> Seeker {
        Seeker { wanted, has, since: None }
    }

    #[test]
    fn each_has_what_it_wants_up_to_an_equal_part() {
        for (whole, seekers, expected) in [
            (10, &[(10, 0)][..], &[10][..]),
            (10, &[(1, 0)], &[10]),
            (10, &[(10, 10), (10, 0)], &[5, 5]),
            (5, &[(9, 0), (9, 0)], &[2, 3]),
            (10, &[(10, 5), (1, 5)], &[9, 1]),
            (10, &[(10, 5), (0, 5)], &[10, 0]),
            (10, &[(2, 10), (3, 0)], &[5, 5]),
            (10, &[(2, 6), (3, 4)], &[6, 4]),
            (10, &[(2, 6), (3, 3)], &[7, 3]),
            (3, &[(2, 6), (1, 1)], &[2, 1]),
            (10, &[(0, 0), (0, 0), (0, 0)], &[4, 3, 3]),
            (0, &[(1, 0), (0, 0)], &[0, 0]),
            (7, &[], &[]),
        ] {
            let seekers: Vec<_> = seekers.iter().copied().map(seeker).collect();
            assert_eq!(divide(whole, &seekers), expected, "{whole} {seekers:?}");
        }
    }

    #[test]
    fn where_there_are_too_few_gateways_take_turns() {
        let at = |wanted, has, millis: Option<u64>| Seeker { wanted, has, since: millis.map(Duration::from_millis) };
        for (whole, seekers, expected) in [
            (1, [at(1, 1, Some(100)), at(1, 0, Some(900)), at(1, 0, None)], [1, 0, 0]),
            (1, [at(1, 1, Some(300)), at(1, 0, Some(900)), at(1, 0, None)], [0, 0, 1]),
            (1, [at(1, 1, Some(300)), at(1, 0, Some(900)), at(1, 0, Some(950))], [0, 0, 1]),
            (2, [at(1, 1, Some(300)), at(9, 1, Some(200)), at(1, 0, Some(950))], [0, 1, 1]),
            (1, [at(0, 1, Some(10)), at(1, 0, None), at(1, 0, None)], [0, 1, 0]),
        ] {
            assert_eq!(divide(whole, &seekers), expected, "{whole} {seekers:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_never_exceed_the_whole_and_leave_nothing_where_somebody_wants_it(
            whole in 0..50_u32,
            seekers in prop::collection::vec((0..20_u32, 0..20_u32), 1..8),
        ) {
            let seekers: Vec<_> = seekers.into_iter().map(seeker).collect();
            let parts = divide(whole, &seekers);
            let wanted = seekers.iter().map(|seeker| seeker.wanted).sum::<u32>();
            prop_assert!(total(&parts) <= whole && total(&parts) >= whole.min(wanted), "{parts:?}");
            if seekers.iter().filter(|seeker| seeker.wanted > 0).count() <= whole as usize {
                prop_assert!(parts.iter().zip(&seekers).all(|(part, seeker)| *part >= seeker.wanted.min(1)), "{parts:?}");
            }
        }
    }
}
