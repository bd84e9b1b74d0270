//! What is deleted and what is not, decided and done, on a real folder.

use super::*;
use crate::model::Time;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn an_artifact_goes_some_time_after_the_last_version_that_was_made_of_it() {
    let now = Time(0).after(DAY * 10);
    let days_ago = |days: u32| Some(Time(0).after(DAY * (10 - days)));
    for (is_used, since, expected) in [
        (true, None, Fate::Keep),
        (true, days_ago(5), Fate::Used),
        (false, None, Fate::Unused),
        (false, days_ago(0), Fate::Keep),
        (false, days_ago(1), Fate::Keep),
        (false, days_ago(2), Fate::Gone),
    ] {
        assert_eq!(fate(is_used, since, now, DAY), expected, "{is_used} {since:?}");
    }
}

#[test]
fn an_object_goes_that_nobody_knows_and_that_is_old() {
    let now = Time(0).after(DAY * 10);
    for (is_known, days, expected) in [(true, 9, false), (false, 9, true), (false, 1, false), (false, 0, false)] {
        let written = Time(0).after(DAY * (10 - days));
        assert_eq!(is_garbage(is_known, written, now, DAY), expected, "{is_known} {days}");
    }
}
