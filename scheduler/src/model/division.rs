//! How calls divide over versions. Which caller goes where is the gateways' to find out: here is only what they need for it,
//! and which division it is, since callers keep their places within one.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{AliasId, FunctionUid, VersionNumber},
    model::Sticky,
    names::FunctionRef,
};
use serde::{Deserialize, Serialize};

use super::{FunctionRecord, Time};

/// A share of a function's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share(pub(crate) VersionNumber, pub(crate) u32);

/// A name of a function's for weighted versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AliasRecord {
    /// Whose it is.
    pub(crate) uid: FunctionUid,
    /// Unique among those of its function.
    pub(crate) name: AliasId,
    /// How its calls divide.
    pub(crate) shares: Vec<Share>,
    /// How callers are told apart.
    pub(crate) sticky: Sticky,
    /// Which division it is.
    pub(crate) division: i64,
    /// When it was made.
    pub(crate) create_time: Time,
    /// When it was last changed.
    pub(crate) update_time: Time,
}

impl AliasRecord {
    /// The alias that every function has.
    pub(crate) fn live(function: &FunctionRecord) -> Option<Self> {
        Some(Self {
            uid: function.uid,
            name: AliasId::LIVE.parse().ok()?,
            shares: function.traffic.clone(),
            sticky: function.sticky.clone(),
            division: function.division,
            create_time: function.create_time,
            update_time: function.update_time,
        })
    }

    /// Divides the calls anew, at a revision of the function.
    pub(crate) fn divide(&mut self, shares: Vec<Share>, revision: i64) {
        self.division = division(&self.shares, self.division, revision);
        (self.shares, self.update_time) = (shares, Time::now());
    }
}

/// The version that has all the calls.
pub(crate) fn full(shares: &[Share]) -> Option<VersionNumber> {
    match shares {
        [Share(version, 100)] => Some(*version),
        _ => None,
    }
}

/// The newest version with a share.
pub(crate) fn newest(shares: &[Share]) -> Option<VersionNumber> {
    shares.iter().map(|share| share.0).max()
}

/// Shares for people, as in `v7=90,v8=10`.
pub(crate) fn text(shares: &[Share]) -> String {
    shares.iter().map(|Share(version, percent)| format!("v{version}={percent}")).collect::<Vec<_>>().join(",")
}

/// Which division a change at this revision makes: the same while calls go on being divided.
pub(super) fn division(before: &[Share], known: i64, revision: i64) -> i64 {
    if before.len() > 1 { known } else { revision }
}

/// The shares with a new version beside the one that has everything, which gives it so many percent. The first version of all
/// gets everything.
///
/// # Errors
/// The calls are divided already.
pub(crate) fn with_canary(
    function: &FunctionRef,
    before: &[Share],
    new: VersionNumber,
    percent: u32,
) -> Result<Vec<Share>, ApiError> {
    if before.is_empty() {
        return Ok(vec![Share(new, 100)]);
    }
    let Some(old) = full(before) else {
        let message = format!("the traffic of {function} is divided already ({})", text(before));
        let error = ApiError::new(ErrorCode::FailedPrecondition, message);
        return Err(error.hint("end that first: dunlin promote, or dunlin rollback"));
    };
    Ok(vec![Share(old, 100_u32.saturating_sub(percent)), Share(new, percent)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(shares: &[(u32, u32)]) -> Vec<Share> {
        shares.iter().map(|(version, percent)| Share((*version).try_into().unwrap(), *percent)).collect()
    }

    #[test]
    fn a_division_stays_the_same_until_one_version_has_everything() {
        let (one, two) = (shares(&[(1, 100)]), shares(&[(1, 90), (2, 10)]));
        assert_eq!(division(&[], 0, 3), 3);
        assert_eq!(division(&one, 3, 4), 4);
        assert_eq!(division(&two, 4, 9), 4, "other weights, and other versions, leave callers at their places");
    }

    #[test]
    fn a_canary_comes_beside_what_has_everything() {
        let function = "namespaces/shop/functions/till".parse().unwrap();
        let canary = |before: &[(u32, u32)]| with_canary(&function, &shares(before), 9.try_into().unwrap(), 10);
        assert_eq!(canary(&[(7, 100)]), Ok(shares(&[(7, 90), (9, 10)])));
        assert_eq!(canary(&[]), Ok(shares(&[(9, 100)])), "the first version of all");
        let error = canary(&[(7, 90), (8, 10)]).unwrap_err();
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
        assert!(error.message.contains("v7=90,v8=10"), "{error:?}");
    }

    #[test]
    fn who_has_everything_and_who_is_the_newest() {
        assert_eq!(full(&shares(&[(7, 100)])), Some(7.try_into().unwrap()));
        assert_eq!((full(&[]), full(&shares(&[(8, 10), (7, 90)]))), (None, None));
        assert_eq!(newest(&shares(&[(8, 10), (7, 90)])), Some(8.try_into().unwrap()));
    }
}
