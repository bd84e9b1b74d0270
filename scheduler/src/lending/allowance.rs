//! What a limit allows in the whole cluster: so many calls in a time, or so many at once. How it is divided is in `share.rs` and
//! `slots.rs`.

use dunlin_proto::model::Rate;

use super::share::Share;

/// What a limit allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Allowance {
    /// So many in a time, with a burst.
    Rate(Rate),
    /// So many at once.
    AtOnce(u32),
    /// Nothing: there is no such limit any more, and what was lent of it has to come back before it can be lent anew.
    Nothing,
}

impl Allowance {
    /// All of it, as one part.
    pub(super) fn whole(self) -> Share {
        match self {
            Self::Rate(rate) => Share { per_second: rate.per_second(), burst: rate.burst.into() },
            Self::AtOnce(calls) => Share { per_second: 0.0, burst: calls.into() },
            Self::Nothing => Share::default(),
        }
    }

    /// Admissions that can be saved up; what runs at once is not saved up.
    pub(super) fn saves(self) -> f64 {
        match self {
            Self::Rate(rate) => rate.burst.into(),
            Self::AtOnce(_) | Self::Nothing => 0.0,
        }
    }

    /// The most that callers can be said to want.
    pub(super) fn most_wanted(self) -> f64 {
        match self {
            Self::Rate(rate) => rate.per_second() * 1000.0,
            Self::AtOnce(calls) => calls.into(),
            Self::Nothing => 0.0,
        }
    }

    /// Whether a part is so much another one that its holder must hear of it. Of calls at once, each counts.
    pub(super) fn differ(self, one: Share, other: Share) -> bool {
        match self {
            Self::Rate(_) => one.differs(other, self.whole()),
            Self::AtOnce(_) | Self::Nothing => one != other,
        }
    }
}
