//! How long and how much is kept of what a namespace's functions leave behind: records of invocations on gateways, lines of logs on
//! workers. Where it says nothing, a process does as it is set.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use prost_types::Duration as WireDuration;

use super::{from_wire_duration, to_wire_duration};
use crate::{error::ApiError, ids::Namespace, internal::v1::NamespaceRetention};

/// What a namespace has of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long records and lines are kept, in whole seconds.
    pub age: Option<Duration>,
    /// Bytes of lines that each worker keeps.
    pub log_bytes: Option<u64>,
}

impl Retention {
    /// The shortest age: whoever looks for what is too old does so once a minute.
    pub const MIN_AGE: Duration = Duration::from_secs(60);
    /// The fewest bytes: a few of the longest lines.
    pub const MIN_LOG_BYTES: u64 = 64 << 10;

    /// Whether it says anything.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// The message for a namespace.
    #[must_use]
    pub fn of(self, namespace: &Namespace) -> NamespaceRetention {
        let Self { age, log_bytes } = self;
        NamespaceRetention { namespace: namespace.to_string(), age: age.map(to_wire_duration), log_bytes }
    }
}

/// The age of a message, which may not be more than the operator's.
///
/// # Errors
/// It is out of its range or no whole number of seconds; the error names the field.
pub fn retention_age(field: &str, wire: Option<WireDuration>, most: Duration) -> Result<Option<Duration>, ApiError> {
    let Some(wire) = wire else { return Ok(None) };
    let age = from_wire_duration(Some(wire));
    let wrong = |what: String| Err(ApiError::invalid(field, format!("{field} is {age:?} but {what}")));
    if wire.seconds < 0 || wire.nanos != 0 {
        return wrong("must be a whole number of seconds".to_owned());
    }
    if age < Retention::MIN_AGE {
        return wrong(format!("must be {:?} at least", Retention::MIN_AGE));
    }
    if age > most {
        return wrong(format!("may be {most:?} at most in this cluster (the scheduler's retention.max_seconds)"));
    }
    Ok(Some(age))
}

/// Bytes of a message, which may not be more than the operator's.
///
/// # Errors
/// They are out of their range; the error names the field.
pub fn retention_bytes(field: &str, wire: Option<u64>, most: u64) -> Result<Option<u64>, ApiError> {
    let Some(bytes) = wire else { return Ok(None) };
    let wrong = |what: String| Err(ApiError::invalid(field, format!("{field} is {bytes} but {what}")));
    if bytes < Retention::MIN_LOG_BYTES {
        return wrong(format!("must be {} at least", Retention::MIN_LOG_BYTES));
    }
    if bytes > most {
        return wrong(format!("may be {most} at most in this cluster (the scheduler's retention.max_log_bytes)"));
    }
    Ok(Some(bytes))
}

/// What namespaces have of their own, as a process was told last. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Retentions(Arc<RwLock<Arc<HashMap<Namespace, Retention>>>>);

impl Retentions {
    /// Takes over what it is told; says whether that is news. What names no namespace is left out.
    pub fn replace(&self, told: &[NamespaceRetention]) -> bool {
        let read = |wire: &NamespaceRetention| {
            let age = wire.age.map(|age| from_wire_duration(Some(age)));
            Some((wire.namespace.parse().ok()?, Retention { age, log_bytes: wire.log_bytes }))
        };
        let new: HashMap<_, _> = told.iter().filter_map(read).collect();
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = **held != new;
        if is_news {
            *held = Arc::new(new);
        }
        is_news
    }

    /// What a namespace has.
    #[must_use]
    pub fn get(&self, namespace: &Namespace) -> Retention {
        self.held().get(namespace).copied().unwrap_or_default()
    }

    /// All of them, as they were told.
    #[must_use]
    pub fn all(&self) -> Vec<NamespaceRetention> {
        let mut all: Vec<_> = self.held().iter().map(|(namespace, retention)| retention.of(namespace)).collect();
        all.sort_by(|one, other| one.namespace.cmp(&other.namespace));
        all
    }

    fn held(&self) -> Arc<HashMap<Namespace, Retention>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn seconds(seconds: i64) -> Option<WireDuration> {
        Some(WireDuration { seconds, nanos: 0 })
    }

    #[test]
    fn bounds_are_told_with_the_field_and_whose_they_are() {
        assert_eq!(retention_age("age", None, DAY).unwrap(), None);
        assert_eq!(retention_age("age", seconds(86_400), DAY).unwrap(), Some(DAY));
        let half = Some(WireDuration { seconds: 90, nanos: 1 });
        for (wrong, says) in [
            (seconds(59), "60s at least"),
            (seconds(86_401), "retention.max_seconds"),
            (seconds(-90), "whole number"),
            (half, "whole number"),
        ] {
            let error = retention_age("age", wrong, DAY).unwrap_err();
            assert!(error.message.contains(says) && error.field.as_deref() == Some("age"), "{error:?}");
        }
        assert_eq!(retention_bytes("bytes", Some(1 << 20), 1 << 20).unwrap(), Some(1 << 20));
        for (wrong, says) in [(0, "65536 at least"), ((1 << 20) + 1, "1048576 at most")] {
            let error = retention_bytes("bytes", Some(wrong), 1 << 20).unwrap_err();
            assert!(error.message.contains(says), "{error:?}");
        }
    }

    #[test]
    fn what_is_told_replaces_what_was_known() {
        let retentions = Retentions::default();
        let shop: Namespace = "shop".parse().unwrap();
        let week = Retention { age: Some(7 * DAY), log_bytes: None };
        assert!(!retentions.get(&shop).is_set() && !retentions.replace(&[]));
        let told = [week.of(&shop), NamespaceRetention { namespace: "../x".to_owned(), ..Default::default() }];
        assert!(retentions.replace(&told) && !retentions.replace(&told));
        assert_eq!((retentions.get(&shop), retentions.all()), (week, vec![week.of(&shop)]));
        assert!(retentions.replace(&[]) && !retentions.get(&shop).is_set());
    }
}
