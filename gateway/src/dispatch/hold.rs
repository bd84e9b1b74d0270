//! How much of an answer, and for how long, is kept from the caller where the call could run again: until it is whole, a lost
//! worker costs time and not the answer. Pure; the waiting is in `attempt.rs`.

use std::time::Duration;

use dunlin_proto::internal::v1::Header;

/// Bytes of a body that are held at the most. Far less than the credit to begin with, so that no function waits for it.
pub(super) const BYTES: u64 = 64 << 10;
/// How long an answer is held that does not say how long it is: it may be one that streams. Its reader sees the first bytes
/// so much later, and none after them; a busy worker has sent the rest of a short answer by then.
const UNKNOWN: Duration = Duration::from_millis(100);
/// How long a short one is held that does say so: there is nothing to be seen of it before.
const SHORT: Duration = Duration::from_secs(1);

/// How long an answer with these headers is held; nothing where it is passed on at once.
pub(super) fn longest(headers: &[Header]) -> Option<Duration> {
    let value = |name: &str| {
        let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name.as_bytes()))?;
        std::str::from_utf8(&header.value).ok().map(str::trim)
    };
    if value("content-type").is_some_and(is_events) {
        return None;
    }
    match value("content-length").and_then(|length| length.parse::<u64>().ok()) {
        None => Some(UNKNOWN),
        // What is longer would be passed on before its end in any case.
        Some(length) => (length <= BYTES).then_some(SHORT),
    }
}

/// Server-sent events: each one is for the reader at once.
fn is_events(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_answers_are_held_and_long_ones_and_events_are_not() {
        type Headers = &'static [(&'static str, &'static str)];
        let cases: [(Headers, Option<Duration>); 9] = [
            (&[], Some(UNKNOWN)),
            (&[("content-type", "text/html")], Some(UNKNOWN)),
            (&[("content-length", "many")], Some(UNKNOWN)),
            (&[("content-length", "0")], Some(SHORT)),
            (&[("content-type", "application/json"), ("content-length", "65536")], Some(SHORT)),
            (&[("content-length", "65537")], None),
            (&[("content-type", "text/event-stream")], None),
            (&[("content-type", "Text/Event-Stream ;charset=utf-8"), ("content-length", "1")], None),
            (&[("content-type", "text/event-streams")], Some(UNKNOWN)),
        ];
        for (headers, expected) in cases {
            let header = |(name, value): &(&'static str, &'static str)| Header {
                name: (*name).into(),
                value: bytes::Bytes::from_static(value.as_bytes()),
            };
            assert_eq!(longest(&headers.iter().map(header).collect::<Vec<_>>()), expected, "{headers:?}");
        }
    }
}
