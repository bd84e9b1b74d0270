//! Which old versions are deleted: those that are old, that many newer ones have followed, and that nobody can get any more.
//!
//! Pure: now is an argument. Artifacts and compiled code stay for a while, since another version may come to be made of them; what
//! becomes of them is in `garbage.rs`.

use std::{collections::BTreeSet, time::Duration};

use dunlin_proto::ids::VersionNumber;

use crate::{
    catalog::CatalogFunction,
    model::{FunctionRecord, Time, VersionRecord},
    releases::FunctionState,
};

/// What is kept whatever becomes of it: versions, and what comes with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keeping {
    /// So many of the newest ones of each function.
    pub(crate) count: usize,
    /// Those that are no older.
    pub(crate) age: Duration,
    /// What was used within this time.
    pub(crate) usage: Duration,
    /// Artifacts that no version has been made of for no longer than that.
    pub(crate) artifacts: Duration,
    /// The shares of limits of gateways that have not been heard for no longer than that.
    pub(crate) shares: Duration,
}

impl Keeping {
    /// The versions that are deleted, unless something holds them.
    pub(crate) fn surplus<'a>(
        &self,
        versions: impl IntoIterator<Item = &'a VersionRecord>,
        now: Time,
    ) -> Vec<VersionNumber> {
        let mut versions: Vec<_> = versions.into_iter().collect();
        versions.sort_unstable_by_key(|version| std::cmp::Reverse(version.number));
        let old = |version: &&&VersionRecord| version.create_time.after(self.age) < now;
        // What is being deployed is waited for, however long that takes.
        let idle = |version: &&&VersionRecord| !version.activation;
        let beyond = versions.get(self.count..).unwrap_or_default();
        beyond.iter().filter(old).filter(idle).map(|version| version.number).collect()
    }

    /// Whether a function may have versions to delete.
    pub(crate) fn concerns(&self, function: &CatalogFunction, now: Time) -> bool {
        let surplus = self.surplus(function.versions.values().map(AsRef::as_ref), now);
        surplus.into_iter().any(|number| !function.serves(number))
    }
}

/// The versions of a function that callers get, or got in releases to which one may go back.
pub(crate) fn held<'a>(
    function: &FunctionRecord,
    states: impl IntoIterator<Item = &'a FunctionState>,
) -> BTreeSet<VersionNumber> {
    let own = states.into_iter().filter(|state| state.uid == function.uid);
    let shares = own.flat_map(|state| state.divisions().flat_map(|division| &division.shares));
    shares.map(|share| share.0).chain(function.traffic.iter().map(|share| share.0)).collect()
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{
        ids::{Digest, FunctionUid},
        model::VersionSpec,
    };

    use super::*;
    use crate::model::{Kind, Policy};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A version of so many days ago.
    fn version(number: u32, days: u32, activation: bool) -> VersionRecord {
        VersionRecord {
            function: "namespaces/shop/functions/pay".parse().unwrap(),
            uid: FunctionUid::new(),
            number: number.try_into().unwrap(),
            artifact: Digest::of(b""),
            artifact_size: 1,
            kind: Kind::Http02,
            spec: VersionSpec::default(),
            imports: vec![],
            creator: String::new(),
            note: String::new(),
            create_time: Time(Time(0).after(DAY * (1_000 - days)).0),
            compiled_size: 1,
            activation,
            canary: None,
            reuse_refusal: None,
            policy: Policy::default(),
        }
    }

    #[test]
    fn a_version_goes_when_it_is_old_and_many_have_followed() {
        let now = Time(0).after(DAY * 1_000);
        let versions = [
            version(1, 90, false),
            version(2, 80, true),
            version(3, 31, false),
            version(4, 29, false),
            version(5, 1, false),
        ];
        let surplus = |count, days| {
            let found =
                Keeping { count, age: DAY * days, usage: DAY, artifacts: DAY, shares: DAY }.surplus(&versions, now);
            found.into_iter().map(VersionNumber::get).collect::<Vec<_>>()
        };
        for (count, days, expected) in [
            (1, 30, &[3, 1][..]),
            (1, 28, &[4, 3, 1]),
            (3, 30, &[1]),
            (4, 30, &[1]),
            (5, 30, &[]),
            (50, 0, &[]),
            (1, 100, &[]),
        ] {
            assert_eq!(surplus(count, days), expected, "{count} {days}");
        }
    }
}
