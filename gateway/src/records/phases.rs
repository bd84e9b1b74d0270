//! What a gateway does with a call before it looks for a worker, and when it was done with each part. Noted only where traces are
//! taken; the spans that come of it are made in `traces/spans.rs`.

use std::time::Duration;

/// A part of what a gateway does, in the order in which it does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Finding the function.
    Route,
    /// Finding out who calls, where not anybody may.
    Authenticate,
    /// Looking whether it may be called this often.
    Limits,
    /// Checking that the request is what the route takes.
    Validate,
    /// Looking for a stored answer, or waiting for one that somebody else has asked for.
    Cache,
    /// Looking whether there is room for it. Noted only where there was none.
    Admit,
}

impl Phase {
    const ALL: [Self; 6] = [Self::Route, Self::Authenticate, Self::Limits, Self::Validate, Self::Cache, Self::Admit];

    /// The name of its span.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Authenticate => "authenticate",
            Self::Limits => "limits",
            Self::Validate => "validate",
            Self::Cache => "cache",
            Self::Admit => "admit",
        }
    }
}

/// When a gateway was done with each part, from a call's acceptance on. What it did not do, it was never done with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Phases {
    ends: [Option<Duration>; Phase::ALL.len()],
    /// What the stored answers had for it.
    pub(crate) cached: Option<&'static str>,
    /// Where it was refused, if it was.
    pub(crate) refused: Option<Phase>,
}

impl Phases {
    /// It was done with this after so long.
    pub(crate) fn end(&mut self, phase: Phase, after: Duration) {
        if let Some(end) = self.ends.get_mut(phase as usize) {
            *end = Some(after);
        }
    }

    /// It was refused in this part, after so long.
    pub(crate) fn refuse(&mut self, phase: Phase, after: Duration) {
        self.end(phase, after);
        self.refused = Some(phase);
    }

    /// Each part that there was, from when to when; one begins where another ends.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (Phase, Duration, Duration)> {
        let ended = Phase::ALL.into_iter().zip(self.ends).filter_map(|(phase, end)| Some((phase, end?)));
        ended.scan(Duration::ZERO, |began, (phase, end)| {
            let end = end.max(*began);
            Some((phase, std::mem::replace(began, end), end))
        })
    }

    /// When it was done with all of them.
    pub(crate) fn over(&self) -> Duration {
        self.ends.into_iter().flatten().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another_and_what_was_not_done_is_none() {
        let mut phases = Phases::default();
        assert_eq!((phases.parts().count(), phases.over()), (0, Duration::ZERO));
        for (phase, millis) in [(Phase::Route, 1), (Phase::Limits, 3), (Phase::Cache, 3)] {
            phases.end(phase, Duration::from_millis(millis));
        }
        let millis = |(phase, from, to): (Phase, Duration, Duration)| (phase, from.as_millis(), to.as_millis());
        let expected = [(Phase::Route, 0, 1), (Phase::Limits, 1, 3), (Phase::Cache, 3, 3)];
        assert_eq!(phases.parts().map(millis).collect::<Vec<_>>(), expected);
        assert_eq!(phases.over(), Duration::from_millis(3));
    }
}
