//! Sizes, durations, times and ages, as people write and read them. Pure functions: the present is an argument.

use std::time::{Duration, SystemTime};

/// Reads a size in bytes: `64KiB`, `1.5MiB`, `10MB`, `512` and `512B`. Units of 1,024 have an `i`, those of 1,000 do not.
///
/// # Errors
/// Why the text is not a size.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write a number and a unit, such as 64KiB, 128MiB or 1GiB");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "Ki" => 1 << 10,
        "MiB" | "Mi" => 1 << 20,
        "GiB" | "Gi" => 1 << 30,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(|| format!("{text:?} is more than can be counted"));
    }
    let fraction: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = fraction * factor as f64;
    if bytes.fract() != 0.0 || bytes >= u64::MAX as f64 {
        return Err(format!("{text:?} is not a whole number of bytes"));
    }
    Ok(bytes as u64)
}

/// Reads a duration: `500ms`, `30s`, `1m30s`, `2h`, `7d`.
///
/// # Errors
/// Why the text is not a duration.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|_| format!("{text:?} is not a duration; write a number and a unit, such as 500ms, 30s or 5m"))
}

/// Reads a moment in the past: a duration before `now`, or a time of RFC 3339.
///
/// # Errors
/// Why the text is neither.
pub(crate) fn parse_since(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text.trim()) {
        return Ok(time);
    }
    let ago = parse_duration(text)
        .map_err(|_| format!("{text:?} is neither a duration such as 5m nor a time such as 2026-01-31T12:00:00Z"))?;
    now.checked_sub(ago).ok_or_else(|| format!("{text:?} lies before all time"))
}

/// A size for people: `3 B`, `89.9 KiB`, `128 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    let text = if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.1}") };
    format!("{text} {unit}")
}

/// A duration for people, in the unit that leaves few digits: `87 us`, `1.24 ms`, `2.50 s`, `15 m`.
pub(crate) fn duration(value: Duration) -> String {
    let micros = value.as_micros();
    match micros {
        0 => "0".to_owned(),
        1..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{:.2} ms", micros as f64 / 1e3),
        1_000_000..60_000_000 => format!("{:.2} s", micros as f64 / 1e6),
        _ => humantime::format_duration(Duration::from_secs(value.as_secs())).to_string(),
    }
}

/// A configured duration for people, exact: `30s`, `1m 30s`, `500ms`.
pub(crate) fn setting(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}

/// The most letters of a text that a table shows where it may be very long.
const LONG: usize = 120;

/// The beginning of a text that may be very long.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// A number of things: `1 call`, `2 calls`.
pub(crate) fn count(count: impl Into<u64>, what: &str) -> String {
    let count = count.into();
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// An age within a sentence: `5m ago`, `just now`.
pub(crate) fn ago(age: &str) -> String {
    if age == "now" { "just now".to_owned() } else { format!("{age} ago") }
}

/// How long ago something was: `now`, `42s`, `5m`, `3h`, `12d`. The future is `now` too: clocks differ a little.
pub(crate) fn age(time: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(time).map_or(0, |age| age.as_secs());
    match seconds {
        0..2 => "now".to_owned(),
        2..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time in RFC 3339, UTC, with milliseconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// A time in RFC 3339, UTC, with microseconds.
pub(crate) fn rfc3339_micros(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            ("128MiB", 134_217_728),
            ("1.5KiB", 1_536),
            ("1GiB", 1 << 30),
            ("10MB", 10_000_000),
            ("1kB", 1_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1MiB", "1.5B", "128 bytes", "1e3", "1..5KiB", "99999999999GiB", "128mb", "0x10"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "30", "s", "-1s", "1 fortnight"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn since_is_a_duration_or_a_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(parse_since("5m", now), Ok(now - Duration::from_secs(300)));
        assert_eq!(parse_since("1970-01-01T00:00:10Z", now), Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(10)));
        assert!(parse_since("yesterday", now).unwrap_err().contains("2026-01-31T12:00:00Z"));
    }

    #[test]
    fn people_can_read_them() {
        for (bytes, text) in [(0, "0 B"), (1_023, "1023 B"), (92_058, "89.9 KiB"), (128 << 20, "128 MiB")] {
            assert_eq!(size(bytes), text);
        }
        for (micros, text) in [(0, "0"), (87, "87 us"), (1_240, "1.24 ms"), (2_500_000, "2.50 s"), (900_000_000, "15m")]
        {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000);
        for (seconds, text) in [(0, "now"), (42, "42s"), (300, "5m"), (10_800, "3h"), (864_000, "10d")] {
            assert_eq!(age(now - Duration::from_secs(seconds), now), text);
        }
        assert_eq!(age(now + Duration::from_secs(5), now), "now");
        assert_eq!((count(1_u32, "call"), count(2_u32, "call")), ("1 call".to_owned(), "2 calls".to_owned()));
        assert_eq!((ago("now"), ago("5m")), ("just now".to_owned(), "5m ago".to_owned()));
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn of_a_long_text_the_beginning_is_shown() {
        let most = "ä".repeat(LONG);
        assert_eq!((short(&most), short(&format!("{most}/"))), (most.clone(), format!("{most}…")));
    }
}
