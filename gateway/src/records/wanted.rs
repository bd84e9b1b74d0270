//! Which records somebody looks for, in a namespace or of a function. Pure.

use std::{
    collections::HashSet,
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use dunlin_proto::{ApiError, ids::InvocationId, model::from_wire_duration, names::Scope, v1};

use super::{Record, Refusal};

/// The longest id of a caller's own that is looked for, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Which records somebody looks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Only those that failed.
    pub(super) failed_only: bool,
    /// Only the one with this id, or those with this id of the caller's own; all where it is empty.
    pub(super) request_id: String,
    /// The same as an id of the platform's, where it is one.
    pub(super) id: Option<InvocationId>,
    /// Only those of this version; 0 means any.
    pub(super) version: u32,
    /// Only those with such a status.
    pub(super) status: Option<RangeInclusive<u16>>,
    /// Only those that were accepted then or later.
    pub(super) since: Option<SystemTime>,
    /// Only those that were accepted before.
    pub(super) until: Option<SystemTime>,
    /// Only those that took as long.
    pub(super) min_duration: Duration,
    /// Only those of callers with the key of this id; all where it is empty.
    pub(super) key: String,
    /// Only those that were refused before any function ran.
    pub(crate) refused: bool,
    /// Only those with these ids; nothing means all.
    pub(crate) ids: Option<HashSet<InvocationId>>,
}

impl Wanted {
    /// Until when those were accepted that are wanted, where that is said.
    pub(crate) fn until(&self) -> Option<SystemTime> {
        self.until
    }

    /// Whether a record is wanted.
    pub(super) fn holds(&self, record: &Record) -> bool {
        !self.refused
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&record.id))
            && (!self.failed_only || record.failed())
            && self.names(record.id, &record.request_id)
            && (self.version == 0 || self.version == record.version.get())
            && self.status.as_ref().is_none_or(|range| range.contains(&record.status))
            && self.is_in_time(record.start_time)
            && record.lasted() >= self.min_duration
            && (self.key.is_empty() || record.came.caller.has_key(&self.key))
    }

    /// The same of a scope, before an id.
    pub(super) fn lists(&self, record: &Record, scope: &Scope, before: Option<InvocationId>) -> bool {
        scope.function.as_ref().is_none_or(|function| record.function.function == *function)
            && record.function.namespace == scope.namespace
            && before.is_none_or(|before| record.id < before)
            && self.holds(record)
    }

    /// Whether nothing that had been accepted by then is wanted.
    pub(super) fn ends_before(&self, accepted: SystemTime) -> bool {
        self.refused || self.since.is_some_and(|since| accepted < since)
    }

    /// Whether a request is wanted that was refused before any function ran: who asks for no such, nor for one by its id, its status or
    /// its key, gets none.
    pub(super) fn holds_refusal(&self, refusal: &Refusal) -> bool {
        let may_be = !self.failed_only && (self.status.is_some() || !self.key.is_empty());
        (self.refused || !self.request_id.is_empty() || may_be)
            // Who was refused had no function write anything.
            && self.ids.is_none()
            && self.names(refusal.id, &refusal.request_id)
            && self.version == 0
            && self.status.as_ref().is_none_or(|range| range.contains(&refusal.code.http_status()))
            && self.is_in_time(refusal.start_time)
            && refusal.took >= self.min_duration
            && (self.key.is_empty() || refusal.caller.has_key(&self.key))
    }

    fn names(&self, id: InvocationId, own: &str) -> bool {
        self.request_id.is_empty() || own == self.request_id || self.id == Some(id)
    }

    fn is_in_time(&self, time: SystemTime) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

impl TryFrom<&v1::ListInvocationsRequest> for Wanted {
    type Error = ApiError;

    fn try_from(request: &v1::ListInvocationsRequest) -> Result<Self, ApiError> {
        if request.request_id.len() > MAX_REQUEST_ID {
            let message = format!("request_id may have {MAX_REQUEST_ID} bytes at most");
            return Err(ApiError::invalid("request_id", message));
        }
        Ok(Self {
            failed_only: request.failed_only,
            id: request.request_id.parse().ok(),
            request_id: request.request_id.clone(),
            version: request.version,
            status: status_range(&request.status)?,
            since: moment("since", request.since)?,
            until: moment("until", request.until)?,
            min_duration: from_wire_duration(request.min_duration),
            key: request.key.clone(),
            refused: request.refused,
            ids: None,
        })
    }
}

/// A status such as `404`, or a class such as `5xx`; nothing where none is said.
///
/// # Errors
/// It is neither.
pub(crate) fn status_range(text: &str) -> Result<Option<RangeInclusive<u16>>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || ApiError::invalid("status", "status must be a status such as 404, or a class such as 5xx");
    let digit = |text: &str| text.parse::<u16>().ok().filter(|class| (1..=5).contains(class));
    if let Some(class) = text.strip_suffix("xx") {
        let class = digit(class).ok_or_else(wrong)?;
        return Ok(Some(class * 100..=class * 100 + 99));
    }
    let exact = text.parse::<u16>().ok().filter(|status| *status == 0 || (100..=599).contains(status));
    exact.map(|status| Some(status..=status)).ok_or_else(wrong)
}

fn moment(field: &'static str, time: Option<prost_types::Timestamp>) -> Result<Option<SystemTime>, ApiError> {
    let wrong = |_| ApiError::invalid(field, format!("{field} is not a time"));
    time.map(|time| SystemTime::try_from(time).map_err(wrong)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Caller, file::tests::record};

    #[test]
    fn a_status_is_exact_or_a_class() {
        for (text, expected) in [("", None), ("404", Some(404..=404)), ("5xx", Some(500..=599)), ("0", Some(0..=0))] {
            assert_eq!(status_range(text), Ok(expected), "{text}");
        }
        for bad in ["6xx", "xx", "5x", "99", "600", "ok", "-1", "50xx", "5XX "] {
            assert_eq!(status_range(bad).unwrap_err().field.as_deref(), Some("status"), "{bad}");
        }
    }

    #[test]
    fn each_filter_lets_pass_what_it_says() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let mut record = record("shop", "pay");
        record.start_time = start;
        record.status = 503;
        record.receipt.run = Duration::from_millis(20);
        record.came.caller = Caller::Key("abcDEF123456".parse().unwrap());
        let second = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let millis = |millis: i32| Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 });
        let all = v1::ListInvocationsRequest::default;
        let cases = [
            (all(), true),
            (v1::ListInvocationsRequest { version: 1, status: "5xx".into(), ..all() }, true),
            (v1::ListInvocationsRequest { version: 2, ..all() }, false),
            (v1::ListInvocationsRequest { status: "500".into(), ..all() }, false),
            (v1::ListInvocationsRequest { since: second(100), until: second(101), ..all() }, true),
            (v1::ListInvocationsRequest { since: second(101), ..all() }, false),
            (v1::ListInvocationsRequest { until: second(100), ..all() }, false),
            (v1::ListInvocationsRequest { min_duration: millis(20), ..all() }, true),
            (v1::ListInvocationsRequest { min_duration: millis(21), ..all() }, false),
            (v1::ListInvocationsRequest { key: "abcDEF123456".into(), ..all() }, true),
            (v1::ListInvocationsRequest { key: "another".into(), ..all() }, false),
            (v1::ListInvocationsRequest { failed_only: true, ..all() }, true),
            (v1::ListInvocationsRequest { request_id: record.id.to_string(), ..all() }, true),
        ];
        for (request, expected) in cases {
            assert_eq!(Wanted::try_from(&request).unwrap().holds(&record), expected, "{request:?}");
        }
        record.status = 404;
        let failed = Wanted { failed_only: true, ..Wanted::default() };
        assert!(!failed.holds(&record), "the caller's fault is no failure");
        record.outcome = "function_failed".into();
        assert!(failed.holds(&record));
        let only = |id| Wanted { ids: Some(HashSet::from([id])), ..Wanted::default() };
        assert!(only(record.id).holds(&record) && !only(InvocationId::new()).holds(&record));
        let long = v1::ListInvocationsRequest { request_id: "x".repeat(129), ..all() };
        assert!(Wanted::try_from(&long).is_err());
    }
}
