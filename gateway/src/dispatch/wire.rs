//! Between HTTP's types and the session's messages.

use std::time::Duration;

use dunlin_proto::{
    ApiError, ErrorCode, fields,
    ids::VersionKey,
    internal::v1::{End, Header, Refusal, SessionReceipt, VersionRef},
};
use http::HeaderMap;

use crate::records::Receipt;

/// How each frame begins that a worker writes behind the words about a trap.
pub(crate) const FRAME: &str = "\n  at ";

/// A version as messages name it.
pub(crate) fn version_ref(key: VersionKey) -> VersionRef {
    VersionRef { function_uid: key.function.to_string(), number: key.number.get() }
}

/// The version that a message names; nothing where it is malformed.
pub(crate) fn version_key(wire: &VersionRef) -> Option<VersionKey> {
    Some(VersionKey { function: wire.function_uid.parse().ok()?, number: wire.number.try_into().ok()? })
}

/// Headers of a message; those that HTTP does not allow are left out, since a guest wrote them.
pub(super) fn header_map(headers: Vec<Header>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for header in headers {
        if let Ok((name, value)) = fields::from_wire(header) {
            map.append(name, value);
        }
    }
    map
}

/// A receipt of a message.
pub(super) fn receipt(wire: Option<&SessionReceipt>) -> Receipt {
    let wire = wire.copied().unwrap_or_default();
    Receipt {
        queue: Duration::from_nanos(wire.queue_nanos),
        start: Duration::from_nanos(wire.start_nanos),
        run: Duration::from_nanos(wire.run_nanos),
        cpu: Duration::from_nanos(wire.cpu_nanos),
        peak_memory_bytes: wire.peak_memory_bytes,
        bytes_in: wire.bytes_in,
        bytes_out: wire.bytes_out,
        reused: wire.reused,
        gateway_queue: Duration::ZERO,
        fetch: Duration::from_nanos(wire.fetch_nanos),
        load: Duration::from_nanos(wire.load_nanos),
        outbound_requests: wire.outbound_requests,
        host_calls: wire.host_calls,
    }
}

/// What an end says went wrong; nothing where all went well.
pub(super) fn end_error(end: &End) -> Option<ApiError> {
    if end.outcome == "ok" {
        return None;
    }
    let code = ErrorCode::from_text(&end.outcome).unwrap_or(ErrorCode::Internal);
    let message = if end.message.is_empty() { code.as_str() } else { &end.message };
    let error = ApiError::new(code, message);
    Some(match (code, end.reason.as_str()) {
        (_, "") => error,
        (ErrorCode::DeadlineExceeded, reason) => error.hint(format!("stage: running the function; reason: {reason}")),
        (_, reason) => error.hint(format!("reason: {reason}; the function's log says more")),
    })
}

/// The same error as callers may read it: where in the function it was is for its developers, who find it in the record.
pub(super) fn for_caller(mut error: ApiError) -> ApiError {
    if let Some(end) = error.message.find(FRAME) {
        error.message.truncate(end);
    }
    error
}

/// What a refusal says.
pub(super) fn refusal_error(refusal: Refusal) -> ApiError {
    let code = ErrorCode::from_text(&refusal.code).unwrap_or(ErrorCode::Unavailable);
    let error = ApiError::new(code, refusal.message);
    match refusal.retry_after_millis {
        0 => error,
        millis => error.retry_after(Duration::from_millis(millis.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_http_does_not_allow_are_left_out() {
        let header = |name: &'static str, value: &'static [u8]| Header { name: name.into(), value: value.into() };
        let sent = vec![
            header("x-a", b"1"),
            header("x-a", b"\xff"),
            header("bad name", b"x"),
            header("x-split", b"a\r\nset-cookie: b"),
            header("", b"x"),
        ];
        let map = header_map(sent);
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn callers_learn_that_a_function_trapped_and_not_where() {
        let error = ApiError::new(ErrorCode::FunctionFailed, "it trapped: unreachable\n  at card\n  at charge");
        assert_eq!(for_caller(error).message, "it trapped: unreachable");
        let plain = ApiError::new(ErrorCode::FunctionFailed, "it ended");
        assert_eq!(for_caller(plain.clone()), plain);
    }

    #[test]
    fn an_end_that_is_not_ok_is_an_error() {
        let end =
            |outcome: &str, reason: &str| End { outcome: outcome.into(), reason: reason.into(), ..End::default() };
        assert_eq!(end_error(&end("ok", "")), None);
        assert_eq!(end_error(&end("function_failed", "stack_overflow")).unwrap().code, ErrorCode::FunctionFailed);
        assert_eq!(end_error(&end("nonsense", "")).unwrap().code, ErrorCode::Internal);
        let slow = end_error(&end("deadline_exceeded", "cpu_exceeded")).unwrap();
        assert!(slow.hint.unwrap().contains("running the function"));
    }
}
