//! What the sample takes from a request: its method, its path, whether a browser asks, and how long its body is.

use wasip2::http::types::{IncomingRequest, Method};
use wasip2::io::streams::StreamError;

/// How much of a body is counted at a time, in bytes.
const READ_SIZE: u64 = 64 * 1024;

pub(crate) struct Request {
    pub(crate) method: String,
    /// The path as the function sees it, without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    /// Whether the caller names HTML among what it accepts, as browsers do.
    pub(crate) wants_html: bool,
    pub(crate) body_bytes: u64,
}

impl Request {
    pub(crate) fn read(incoming: IncomingRequest) -> Self {
        let target = incoming.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let accept = incoming.headers().get("accept");
        Self {
            method: name(incoming.method()),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            query: query.to_owned(),
            wants_html: accept.iter().any(|value| contains(value, b"text/html")),
            body_bytes: count_body(&incoming),
        }
    }
}

fn name(method: Method) -> String {
    let name = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(other) => return other,
    };
    name.to_owned()
}

fn contains(value: &[u8], part: &[u8]) -> bool {
    value.windows(part.len()).any(|window| window == part)
}

/// Reads the body to its end, keeping nothing of it.
fn count_body(incoming: &IncomingRequest) -> u64 {
    let Ok(body) = incoming.consume() else { return 0 };
    let Ok(stream) = body.stream() else { return 0 };
    let mut count = 0;
    loop {
        match stream.blocking_read(READ_SIZE) {
            Ok(piece) => count += piece.len() as u64,
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => return count,
        }
    }
}
