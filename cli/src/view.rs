//! What the command shows of the API's messages: plain structs that are the documented `-o json` form, and the source of
//! every table.
//!
//! Fields are only ever added. Times are RFC 3339 texts in UTC, durations are milliseconds, sizes are bytes; `resource` is the
//! name in the API, every other name is bare.

pub(crate) mod access;
pub(crate) mod alias;
pub(crate) mod app;
pub(crate) mod audit;
pub(crate) mod cluster;
pub(crate) mod domain;
pub(crate) mod explanation;
pub(crate) mod function;
pub(crate) mod health;
pub(crate) mod invocation;
pub(crate) mod plan;
pub(crate) mod release;
pub(crate) mod rollout;
pub(crate) mod route;
pub(crate) mod trace;
pub(crate) mod usage;
pub(crate) mod version;
pub(crate) mod webhook;

use std::time::{Duration, SystemTime};

use dunlin_proto::model;
use serde::Serialize;

use crate::units;

/// A moment. JSON has it in RFC 3339, tables as an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) SystemTime);

impl Time {
    /// The moment in a message.
    pub(crate) fn from_wire(time: Option<prost_types::Timestamp>) -> Option<Self> {
        time.and_then(|time| SystemTime::try_from(time).ok()).map(Self)
    }

    /// How long ago it was.
    pub(crate) fn age(self) -> String {
        units::age(self.0, SystemTime::now())
    }

    /// In RFC 3339.
    pub(crate) fn text(self) -> String {
        units::rfc3339(self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// A duration. JSON has it in milliseconds, whole or with a fraction of microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Millis(pub(crate) Duration);

impl Millis {
    /// The duration in a message.
    pub(crate) fn from_wire(duration: Option<prost_types::Duration>) -> Self {
        Self(model::from_wire_duration(duration))
    }

    /// For people.
    pub(crate) fn text(self) -> String {
        units::duration(self.0)
    }
}

impl Serialize for Millis {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = self.0.as_micros();
        match u64::try_from(micros / 1_000) {
            Ok(millis) if micros.is_multiple_of(1_000) => serializer.serialize_u64(millis),
            _ => serializer.serialize_f64(micros as f64 / 1e3),
        }
    }
}

/// An age for a table, or a dash.
pub(crate) fn age(time: Option<Time>) -> String {
    time.map_or_else(|| "-".to_owned(), Time::age)
}

/// The id after `collection/` in a resource name; empty where it has none.
pub(crate) fn part(name: &str, collection: &str) -> String {
    let mut parts = name.split('/');
    parts.by_ref().find(|part| *part == collection);
    parts.next().unwrap_or_default().to_owned()
}

/// A text for a table, or a dash where it is empty.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_are_found() {
        let name = "namespaces/shop/functions/a/versions/3";
        assert_eq!(part(name, "namespaces"), "shop");
        assert_eq!(part(name, "versions"), "3");
        assert_eq!(part(name, "keys"), "");
    }

    #[test]
    fn durations_are_milliseconds_and_times_are_texts() {
        let json = |value: &dyn Fn() -> serde_json::Value| value().to_string();
        assert_eq!(json(&|| serde_json::json!(Millis(Duration::from_secs(30)))), "30000");
        assert_eq!(json(&|| serde_json::json!(Millis(Duration::from_micros(1_234)))), "1.234");
        assert_eq!(json(&|| serde_json::json!(Time(SystemTime::UNIX_EPOCH))), "\"1970-01-01T00:00:00.000Z\"");
    }
}
