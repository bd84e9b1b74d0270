//! Numbers, sizes and times as people read them. Pure: now is an argument.

use std::time::{Duration, SystemTime};

use crate::admin::model::Time;

/// A moment, for a `<time>` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct When {
    /// For programs.
    pub(super) iso: String,
    /// For people, exactly.
    pub(super) absolute: String,
    /// For people, at a glance.
    pub(super) relative: String,
}

impl When {
    /// A moment seen from another.
    pub(super) fn new(time: Time, now: SystemTime) -> Self {
        let relative = match time.age(now) {
            Some(age) => ago(age),
            None => format!("in {}", span(nearest(time.at().duration_since(now).unwrap_or_default()))),
        };
        Self { iso: time.rfc3339(), absolute: time.for_people(), relative }
    }
}

fn ago(age: Duration) -> String {
    if age < Duration::from_secs(2) { "just now".to_owned() } else { format!("{} ago", span(age)) }
}

/// A span that is rounded by half of its unit: what ends in 90 days does so a moment later, too.
fn nearest(time: Duration) -> Duration {
    let half = match time.as_secs() {
        // What ends soon is not to seem to last longer.
        0..86_400 => 0,
        86_400..5_184_000 => 43_200,
        _ => 1_296_000,
    };
    time.saturating_add(Duration::from_secs(half))
}

/// A span of time in its largest unit.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3_600 => return format!("{} min", seconds / 60),
        3_600..86_400 => return format!("{} h", seconds / 3_600),
        86_400..5_184_000 => (seconds / 86_400, "day"),
        _ => (seconds / 2_592_000, "month"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Microseconds, with three figures that matter.
pub(in crate::admin) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", three(micros as f64 / 1e3)),
        1_000_000..60_000_000 => format!("{} s", three(micros as f64 / 1e6)),
        _ if micros % 60_000_000 < 1_000_000 => format!("{} min", micros / 60_000_000),
        _ => format!("{} min {} s", micros / 60_000_000, micros / 1_000_000 % 60),
    }
}

fn three(value: f64) -> String {
    let text = match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Bytes in the units that limits are written in (1 KiB is 1,024 bytes).
pub(in crate::admin) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1_023.95 {
            break;
        }
        value /= 1_024.0;
        unit = larger;
    }
    format!("{} {unit}", three(value))
}

/// A part of a whole, in percent.
pub(super) fn share(part: usize, whole: usize) -> String {
    match (part, whole) {
        (0, _) | (_, 0) => String::new(),
        (part, whole) => match part as f64 * 100.0 / whole as f64 {
            share if share < 0.1 => "under 0.1 %".to_owned(),
            share => format!("{} %", three((share * 10.0).round() / 10.0)),
        },
    }
}

/// CPU in cores, from thousandths.
pub(super) fn cores(millis: u32) -> String {
    format!("{:.2} cores", f64::from(millis) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn times_are_told_by_their_largest_unit() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let told = |seconds: u64| When::new(Time::from(now - Duration::from_secs(seconds)), now).relative;
        for (seconds, text) in [
            (0, "just now"),
            (2, "2 s ago"),
            (119, "1 min ago"),
            (7_200, "2 h ago"),
            (86_400, "1 day ago"),
            (864_000, "10 days ago"),
            (86_400 * 90, "3 months ago"),
        ] {
            assert_eq!(told(seconds), text);
        }
        let ahead = When::new(Time::from(now + Duration::from_secs(3_600)), now);
        assert_eq!(ahead.relative, "in 1 h");
        for (seconds, text) in [(86_400 * 90 - 1, "in 3 months"), (86_400 * 30 - 1, "in 30 days"), (3_599, "in 59 min")]
        {
            assert_eq!(When::new(Time::from(now + Duration::from_secs(seconds)), now).relative, text);
        }
        assert_eq!(ahead.absolute, "2001-09-09 02:46:40.000 UTC");
    }

    #[test]
    fn durations_sizes_and_shares_have_three_figures() {
        for (value, text) in [
            (0, "0 µs"),
            (412, "412 µs"),
            (1_000, "1 ms"),
            (1_234, "1.23 ms"),
            (99_960, "100 ms"),
            (1_500_000, "1.5 s"),
            (60_000_000, "1 min"),
            (61_000_000, "1 min 1 s"),
        ] {
            assert_eq!(micros(value), text);
        }
        for (value, text) in
            [(0, "0 B"), (1_023, "1023 B"), (1_024, "1 KiB"), (1_572_864, "1.5 MiB"), (128 << 20, "128 MiB")]
        {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(bytes(u64::MAX), "16384 PiB");
        assert_eq!(
            (share(0, 5), share(1, 3), share(1, 100_000)),
            (String::new(), "33.3 %".into(), "under 0.1 %".into())
        );
        assert_eq!(cores(1_250), "1.25 cores");
    }
}
