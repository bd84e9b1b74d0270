//! A moment as clients read it. Out-of-range values of a message become the nearest moment that RFC 3339 can write.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, schema::Type},
};

/// The last second that a four-digit year can write: 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

/// A moment in UTC, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(SystemTime);

impl Time {
    /// The moment itself.
    pub(crate) fn at(self) -> SystemTime {
        self.0
    }

    /// How long before `now` it was; nothing where it lies ahead.
    pub(crate) fn age(self, now: SystemTime) -> Option<Duration> {
        now.duration_since(self.0).ok()
    }

    /// As `2026-11-23T16:00:35.123Z`.
    pub(crate) fn rfc3339(self) -> String {
        humantime::format_rfc3339_millis(self.0).to_string()
    }

    /// As `2026-11-23T16:00:35.123456Z`.
    pub(crate) fn rfc3339_micros(self) -> String {
        humantime::format_rfc3339_micros(self.0).to_string()
    }

    /// As `2026-11-23 16:00:35.123 UTC`, for people.
    pub(crate) fn for_people(self) -> String {
        let text = self.rfc3339();
        format!("{} UTC", text.trim_end_matches('Z').replacen('T', " ", 1))
    }

    /// The time of day alone, as `16:00:35.123`.
    pub(crate) fn clock(self) -> String {
        self.rfc3339().chars().skip(11).take(12).collect()
    }
}

impl From<prost_types::Timestamp> for Time {
    fn from(wire: prost_types::Timestamp) -> Self {
        let seconds = Duration::from_secs(wire.seconds.clamp(0, LAST_SECOND).unsigned_abs());
        let nanos = Duration::from_nanos(u64::from(wire.nanos.clamp(0, 999_999_999).unsigned_abs()));
        Self(UNIX_EPOCH + seconds + nanos)
    }
}

impl From<Time> for prost_types::Timestamp {
    fn from(time: Time) -> Self {
        time.0.into()
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        prost_types::Timestamp::from(time).into()
    }
}

impl std::str::FromStr for Time {
    type Err = humantime::TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_rfc3339(text).map(Self::from)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A moment in UTC (RFC 3339)."))
            .examples([serde_json::json!("2026-11-23T16:00:35.123Z")])
            .into()
    }
}

impl ToSchema for Time {}

/// Whole microseconds of a duration in a message; a negative or missing one is zero.
pub(super) fn micros(wire: Option<prost_types::Duration>) -> u64 {
    u64::try_from(dunlin_proto::model::from_wire_duration(wire).as_micros()).unwrap_or(u64::MAX)
}

/// Whole milliseconds of a duration in a message; a negative or missing one is zero.
pub(super) fn millis(wire: Option<prost_types::Duration>) -> u64 {
    micros(wire) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_timestamp_of_a_message_can_be_written() {
        for (seconds, nanos) in [(i64::MIN, i32::MIN), (i64::MAX, i32::MAX), (0, 0), (-1, 5)] {
            let time = Time::from(prost_types::Timestamp { seconds, nanos });
            assert!(time.rfc3339().parse::<Time>().is_ok(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_moment_is_written_for_programs_and_for_people() {
        let time: Time = "2026-11-23T16:00:35.123Z".parse().unwrap();
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-11-23T16:00:35.123Z\"");
        assert_eq!(time.for_people(), "2026-11-23 16:00:35.123 UTC");
        assert_eq!(time.clock(), "16:00:35.123");
        assert_eq!(time.age(time.at() + Duration::from_secs(2)), Some(Duration::from_secs(2)));
        assert_eq!(time.age(UNIX_EPOCH), None);
    }
}
