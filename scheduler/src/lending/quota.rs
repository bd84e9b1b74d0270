//! How much of a quota is lent at once. What has been lent is in the store; what gateways have not used of it, they say, and
//! that is known here only for people to see.

use std::collections::BTreeMap;

use dunlin_proto::{ids::GatewayId, limit::LimitId};

/// Of what is free, each of the gateways is lent no more at once than one part in so many.
const PARTS: u64 = 4;

/// What is lent of `allowed`, of which so much is gone, to one of so many gateways that wants so much: never all that is
/// free while there are others, and one at a time in the end.
pub(crate) fn loan(allowed: u64, gone: u64, wanted: u64, gateways: u64) -> u64 {
    let free = allowed.saturating_sub(gone);
    let part = free.checked_div(PARTS.saturating_mul(gateways.max(1))).unwrap_or_default();
    wanted.min(part.max(1)).min(free)
}

/// What gateways have left of loans, as they said last.
#[derive(Debug, Default)]
pub(super) struct Lefts(BTreeMap<GatewayId, BTreeMap<LimitId, (i64, u64)>>);

impl Lefts {
    /// A gateway has so much left of a period.
    pub(super) fn note(&mut self, gateway: &GatewayId, owner: LimitId, period_start: i64, left: u64) {
        self.0.entry(gateway.clone()).or_default().insert(owner, (period_start, left));
    }

    /// What a gateway had left counts as used from now on.
    pub(super) fn forget(&mut self, gateway: &GatewayId) {
        self.0.remove(gateway);
    }

    /// What all of them have left.
    pub(super) fn of(&self, owner: &LimitId, period_start: i64) -> u64 {
        let known = self.0.values().filter_map(|of| of.get(owner));
        known.filter(|(period, _)| *period == period_start).map(|(_, left)| *left).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loans_become_smaller_and_end_with_the_quota() {
        for (allowed, gone, wanted, gateways, expected) in [
            (10_000, 0, 100, 2, 100),
            (10_000, 0, 5_000, 2, 1_250),
            (10_000, 0, 5_000, 0, 2_500),
            (10_000, 9_600, 100, 2, 50),
            (50, 0, 100, 2, 6),
            (10, 9, 100, 2, 1),
            (10, 10, 100, 2, 0),
            (10, 12, 100, 2, 0),
            (10, 0, 0, 2, 0),
        ] {
            assert_eq!(loan(allowed, gone, wanted, gateways), expected, "{allowed} {gone} {wanted} {gateways}");
        }
    }

    #[test]
    fn what_gateways_have_left_is_of_one_period_and_of_those_that_are_heard() {
        let (mut lefts, key): (_, LimitId) = (Lefts::default(), "key/abcdefghijkl".parse().unwrap());
        let [a, b]: [GatewayId; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        lefts.note(&a, key.clone(), 100, 7);
        lefts.note(&b, key.clone(), 100, 5);
        assert_eq!((lefts.of(&key, 100), lefts.of(&key, 200)), (12, 0));
        lefts.note(&a, key.clone(), 200, 3);
        lefts.forget(&b);
        assert_eq!((lefts.of(&key, 100), lefts.of(&key, 200)), (0, 3));
    }

    proptest! {
        #[test]
        fn at_most_one_question_in_a_hundred_admissions(allowed in 10_000..1_000_000_u64, gateways in 1..3_u64) {
            let (mut gone, mut questions) = (0, 0);
            while gone < allowed {
                // The least that gateways ask for.
                gone += loan(allowed, gone, 200, gateways);
                questions += 1;
            }
            prop_assert!(gone == allowed && questions <= allowed / 100, "{questions} for {allowed}");
        }
    }
}
