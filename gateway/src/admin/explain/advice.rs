//! What to do about a request that went wrong, by its outcome. Pure. Where the platform said what to do when it refused, that is
//! it; otherwise what stands here.

use dunlin_proto::{ErrorCode, v1};

use crate::admin::model::id_in;

/// What to do; empty where nothing is to be done.
pub(super) fn of(record: &v1::Invocation, trapped: bool) -> String {
    let function = id_in(&record.name, "functions");
    let Some(code) = ErrorCode::from_text(&record.outcome) else {
        return by_status(record, function);
    };
    match code {
        ErrorCode::FunctionFailed if trapped => {
            format!(
                "the guest trapped where its backtrace says, innermost function first; what it wrote before: dunlin logs {function}"
            )
        }
        ErrorCode::FunctionFailed => format!("the function's own log says more: dunlin logs {function}"),
        ErrorCode::MemoryExceeded => "raise limits.memory in dunlin.toml, or have the function keep less".to_owned(),
        ErrorCode::DeadlineExceeded if record.hint.is_empty() => {
            "raise limits.timeout or limits.cpu in dunlin.toml, or have the function do less".to_owned()
        }
        ErrorCode::ResponseTooLarge if record.hint.is_empty() => "raise limits.response_body_bytes".to_owned(),
        ErrorCode::Cancelled => "nothing is wrong here: the caller closed its connection before the answer".to_owned(),
        ErrorCode::Internal => format!("the log of gateway {} has the cause", record.gateway),
        ErrorCode::Unauthenticated if record.hint.is_empty() => {
            "send X-Api-Key with a key of the namespace (dunlin key create), or Authorization: Bearer with a token"
                .to_owned()
        }
        _ => record.hint.clone(),
    }
}

fn by_status(record: &v1::Invocation, function: &str) -> String {
    match record.status {
        400.. => format!("the platform did its part; the function's own log says more: dunlin logs {function}"),
        _ => String::new(),
    }
}
