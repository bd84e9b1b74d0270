//! This gateway's place among all of them, where nobody says what its part of a limit is: with the scheduler away, each takes the
//! part that follows from the names that it told last. Pure.

/// This gateway's place among all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// How many there are; one at least.
    gateways: u32,
    /// How many come before this one in the order of names.
    before: u32,
}

impl Place {
    /// The place of `own` among these names, which may or may not hold it.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>, own: &str) -> Self {
        let mut place = Self { gateways: 1, before: 0 };
        for name in names.filter(|name| *name != own) {
            place.gateways += 1;
            place.before += u32::from(name < own);
        }
        place
    }

    /// This gateway's part of a whole number; the parts of all gateways sum up to it.
    pub(super) fn exactly(self, amount: u32) -> u32 {
        let (whole, rest) = (amount.checked_div(self.gateways), amount.checked_rem(self.gateways));
        whole.unwrap_or(amount) + u32::from(self.before < rest.unwrap_or_default())
    }

    /// Its part of what can be divided at will.
    pub(super) fn part(self) -> f64 {
        1.0 / f64::from(self.gateways)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_share_a_limit_exactly() {
        let names = ["a", "b", "c"];
        for limit in 0..20 {
            let parts = names.map(|own| Place::of(names.into_iter(), own).exactly(limit));
            assert_eq!(parts.iter().sum::<u32>(), limit);
        }
        assert_eq!(Place::of([].into_iter(), "a"), Place { gateways: 1, before: 0 });
        assert_eq!(Place::of(["b"].into_iter(), "a"), Place { gateways: 2, before: 0 });
    }
}
