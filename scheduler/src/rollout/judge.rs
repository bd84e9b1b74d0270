//! Whether new versions are worse than the old ones, and whether they have been tried for long enough. Pure: it is given what
//! they did since the step began, and how long ago that was.
//!
//! Functions that move together are each judged by their own calls, and go on together: a step ends when they have had calls
//! enough in sum, and the first one that is worse ends it for all. One that nobody calls holds nothing up.
//!
//! Shares of failures are compared by Newcombe's interval for the difference of two proportions (Statistics in Medicine 17,
//! 1998, method 10), which holds for few failures and few calls as well; durations by the ranks between which the 99th
//! percentile lies.

use std::{fmt, time::Duration};

use super::tally::Tally;

/// By how much the share of failures may be higher.
const MARGIN: f64 = 0.01;
/// One side of 95 % of the normal distribution.
const SURE: f64 = 1.645;
/// One side of 99.99 %: who looks each second, and does not wait for a step's end, must be surer.
const SURE_EARLY: f64 = 3.72;
/// Calls of the new version without which nothing is decided before a step's end.
const EARLY_CALLS: u64 = 50;
/// Failures of the new version without which fewer calls than that say nothing at a step's end.
const FEW_FAILURES: u64 = 3;
/// How much slower the slowest in a hundred calls may be: by this factor, and by this time.
const SLOWER: (f64, Duration) = (1.5, Duration::from_millis(20));
/// Timed calls of each version without which durations are not compared.
const TIMED: u64 = 100;

/// When a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Not before so much time has passed.
    pub(crate) time: Duration,
    /// Nor before the new versions have had so many calls together.
    pub(crate) calls: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Wait,
    /// The next step.
    Advance,
    /// All calls go back to the old versions, because of the function at this place.
    Back(usize, Worse),
}

/// What is worse about the new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Worse {
    /// It fails more often: of so many calls so many, against the old one's.
    Failures { new: (u64, u64), old: (u64, u64) },
    /// Its slowest calls take longer.
    Slower { new: Duration, old: Duration },
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { new: (failures, calls), old: (old_failures, old_calls) } => {
                let percent = |part, whole| 100.0 * share(part, whole);
                let (new, old) = (percent(*failures, *calls), percent(*old_failures, *old_calls));
                write!(f, "{failures} of {calls} calls of the new version failed ({new:.1} %), ")?;
                write!(f, "of the old one {old_failures} of {old_calls} ({old:.1} %)")
            }
            Self::Slower { new, old } => {
                let (new, old) = (new.as_millis(), old.as_millis());
                write!(f, "99 of 100 calls of the new version take up to {new} ms, of the old one {old} ms")
            }
        }
    }
}

/// Judges the new version of each function beside its old one.
pub(crate) fn judge(parts: &[(Tally, Tally)], since: Duration, step: Step) -> Verdict {
    let calls = parts.iter().fold(0_u64, |sum, (_, new)| sum.saturating_add(new.calls));
    let over = since >= step.time && calls >= step.calls;
    let worse = parts.iter().enumerate().find_map(|(at, (old, new))| Some((at, worse(old, new, over)?)));
    match worse {
        Some((at, worse)) => Verdict::Back(at, worse),
        None if over => Verdict::Advance,
        None => Verdict::Wait,
    }
}

/// What is worse about a new version; at the end of a step, less is enough to be sure.
fn worse(old: &Tally, new: &Tally, over: bool) -> Option<Worse> {
    // In a step of several functions, one of them may have had few calls: of those, chance makes much.
    let many = new.calls >= EARLY_CALLS;
    let sure = if over && many { SURE } else { SURE_EARLY };
    let enough = many || (over && new.failures >= FEW_FAILURES);
    if enough && fails_more(old, new, sure) {
        return Some(Worse::Failures { new: (new.failures, new.calls), old: (old.failures, old.calls) });
    }
    slower(old, new).filter(|_| over)
}

/// A count as a number with fractions.
#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 calls a fraction of a call does not matter")]
fn number(count: u64) -> f64 {
    count as f64
}

/// A part of a whole; nothing of nothing is nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { number(part) / number(whole) }
}

/// Whether the share of failures is higher by more than the margin, as sure as `sure` standard deviations are.
fn fails_more(old: &Tally, new: &Tally, sure: f64) -> bool {
    // Without calls of the old one there is nothing to compare with.
    if old.calls == 0 || new.calls == 0 {
        return false;
    }
    let (p_new, p_old) = (share(new.failures, new.calls), share(old.failures, old.calls));
    let (least, _) = wilson(p_new, new.calls, sure);
    let (_, most) = wilson(p_old, old.calls, sure);
    let lower = p_new - p_old - ((p_new - least).powi(2) + (most - p_old).powi(2)).sqrt();
    lower > MARGIN
}

/// Wilson's interval for a proportion.
fn wilson(p: f64, calls: u64, sure: f64) -> (f64, f64) {
    let (n, z) = (number(calls), sure.powi(2));
    let middle = (p + z / (2.0 * n)) / (1.0 + z / n);
    let reach = sure / (1.0 + z / n) * (p * (1.0 - p) / n + z / (4.0 * n * n)).sqrt();
    (middle - reach, middle + reach)
}

/// Compares the least that the new one's p99 may be with the most that the old one's may be.
fn slower(old: &Tally, new: &Tally) -> Option<Worse> {
    if old.timed() < TIMED || new.timed() < TIMED {
        return None;
    }
    let (least, most) = (new.duration_at(rank(new.timed(), -SURE))?, old.duration_at(rank(old.timed(), SURE))?);
    let slow = least.as_secs_f64() > most.as_secs_f64() * SLOWER.0 && least > most + SLOWER.1;
    slow.then_some(Worse::Slower { new: new.p99()?, old: old.p99()? })
}

/// The rank of the 99th percentile of so many calls, so many standard deviations away.
fn rank(calls: u64, away: f64) -> u64 {
    let n = number(calls);
    let rank = (n * 0.99 + away * (n * 0.99 * 0.01).sqrt()).ceil().clamp(1.0, n);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded just above")]
    let rank = rank as u64;
    rank
}

#[cfg(test)]
mod tests {
    use super::{super::tally::tests::tally, *};

    const STEP: Step = Step { time: Duration::from_secs(60), calls: 500 };
    const LATE: Duration = Duration::from_secs(60);

    /// Judges the only function of a rollout.
    fn judge(old: &Tally, new: &Tally, since: Duration, step: Step) -> Verdict {
        super::judge(&[(old.clone(), new.clone())], since, step)
    }

    fn failing(calls: u64, failures: u64) -> Tally {
        tally(calls, failures, 0, &[(10, calls)])
    }

    #[test]
    fn a_step_ends_after_its_time_and_its_calls() {
        let old = failing(10_000, 5);
        for (calls, seconds, verdict) in
            [(499, 3_600, Verdict::Wait), (100_000, 59, Verdict::Wait), (500, 60, Verdict::Advance)]
        {
            assert_eq!(
                judge(&old, &failing(calls, 0), Duration::from_secs(seconds), STEP),
                verdict,
                "{calls} {seconds}"
            );
        }
    }

    #[test]
    fn a_point_more_failures_at_95_percent_lead_back() {
        for (old, new, back) in [
            ((10_000, 0), (500, 5), false),
            ((10_000, 0), (500, 8), false),
            ((10_000, 0), (500, 12), true),
            ((10_000, 0), (10_000, 100), false),
            ((10_000, 0), (10_000, 125), true),
            ((10_000, 500), (500, 30), false),
            ((10_000, 500), (500, 45), true),
            ((10_000, 10_000), (500, 500), false),
            ((10_000, 9_000), (500, 0), false),
            ((0, 0), (500, 500), false),
        ] {
            let verdict = judge(&failing(old.0, old.1), &failing(new.0, new.1), LATE, STEP);
            assert_eq!(
                matches!(verdict, Verdict::Back(0, Worse::Failures { .. })),
                back,
                "{old:?} {new:?} {verdict:?}"
            );
        }
    }

    #[test]
    fn a_disaster_does_not_wait_for_the_steps_end() {
        let soon = Duration::from_secs(2);
        for (new, back) in [((49, 49), false), ((50, 50), true), ((60, 6), true), ((60, 3), false), ((400, 12), false)]
        {
            let verdict = judge(&failing(1_000, 2), &failing(new.0, new.1), soon, STEP);
            assert_eq!(verdict != Verdict::Wait, back, "{new:?}");
        }
    }

    #[test]
    fn the_slowest_in_a_hundred_count() {
        let old = tally(10_000, 0, 0, &[(10, 9_950), (40, 50)]);
        for (took, back) in [
            (&[(10, 495), (40, 5)][..], false),
            (&[(14, 500)], false),
            (&[(10, 480), (120, 20)], true),
            (&[(10, 497), (900, 3)], false),
            (&[(45, 500)], true),
            (&[(10, 99)], false),
        ] {
            let verdict = judge(&old, &tally(500, 0, 0, took), LATE, STEP);
            assert_eq!(verdict != Verdict::Advance, back, "{took:?} {verdict:?}");
        }
        // Twice as slow, but by less than 20 ms.
        let quick = tally(10_000, 0, 0, &[(2, 10_000)]);
        assert_eq!(judge(&quick, &tally(500, 0, 0, &[(4, 500)]), LATE, STEP), Verdict::Advance);
    }

    #[test]
    fn what_is_worse_is_said() {
        let said = Worse::Failures { new: (12, 500), old: (1, 10_000) }.to_string();
        assert_eq!(said, "12 of 500 calls of the new version failed (2.4 %), of the old one 1 of 10000 (0.0 %)");
    }

    /// Of many rollouts of what is as good as before, few may end by chance; of those of what is worse, nearly all must.
    #[test]
    fn chance_rarely_decides() {
        let mut seed = 88_172_645_463_325_252_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            number(seed >> 11) / number(1 << 53)
        };
        let mut draw = |calls: u64, p: f64| {
            let failures = (0..calls).filter(|_| random() < p).count();
            failing(calls, u64::try_from(failures).unwrap())
        };
        let mut backs = |p: f64| {
            let ended = (0..400).filter(|_| judge(&draw(2_000, 0.02), &draw(500, p), LATE, STEP) != Verdict::Advance);
            ended.count()
        };
        let (same, worse) = (backs(0.02), backs(0.08));
        assert!(same <= 8 && worse >= 360, "{same} of 400 as good ones went back, {worse} of 400 worse ones");
    }

    #[test]
    fn functions_go_on_together_and_back_together() {
        let (good, bad) = (failing(5_000, 5), failing(500, 60));
        let part = |calls: u64, failures| (good.clone(), failing(calls, failures));
        let back =
            |at, (calls, failures)| Verdict::Back(at, Worse::Failures { new: (failures, calls), old: (5, 5_000) });
        for (parts, seconds, verdict) in [
            // Calls count together, and time for all.
            (vec![part(300, 0), part(200, 0)], 60, Verdict::Advance),
            (vec![part(300, 0), part(199, 0)], 60, Verdict::Wait),
            (vec![part(300, 0), part(300, 0)], 59, Verdict::Wait),
            // What nobody calls holds nothing up.
            (vec![part(500, 0), (Tally::default(), Tally::default())], 60, Verdict::Advance),
            // One is enough to go back, at the end and before it, however good the others are.
            (vec![part(5_000, 0), (good.clone(), bad.clone())], 60, back(1, (500, 60))),
            (vec![(good.clone(), bad.clone()), part(5_000, 0)], 2, back(0, (500, 60))),
            // Of few calls, chance makes much: one of three that fails is no reason, ten of ten are.
            (vec![part(500, 0), part(3, 1)], 60, Verdict::Advance),
            (vec![part(500, 0), part(10, 10)], 60, back(1, (10, 10))),
            (vec![part(490, 0), part(10, 10)], 2, Verdict::Wait),
        ] {
            assert_eq!(super::judge(&parts, Duration::from_secs(seconds), STEP), verdict, "{parts:?}");
        }
    }
}
