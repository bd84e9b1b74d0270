//! Outbound HTTP of guests: what a request may be, whom it may reach and how often. The engine's own sender is not even
//! compiled in; every request of WASI 0.2 and 0.3 comes through `Hooks`. `egress/` has the allow-list, the address classes,
//! name resolution and the connection.

mod address;
mod connect;
mod resolve;
mod send;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderMap, HeaderName, Request, Response};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

use super::limits::Policy;
use super::meter::Meter;

pub use address::is_forbidden;
pub(super) use connect::Egress;

/// How many functions have called each other over HTTP to get here. Set by every outbound request; a guest cannot lower it.
const DEPTH: HeaderName = HeaderName::from_static("dunlin-depth");
/// Deepest chain of functions that call each other over HTTP.
const MAX_DEPTH: u32 = 16;
/// Bytes of an outgoing body that a guest may write in one call.
const CHUNK_BYTES: usize = 64 << 10;

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(Response<WasiBody>, Io), Error>;

/// The outbound side of one sandbox.
pub(crate) struct Hooks {
    egress: Arc<Egress>,
    policy: Arc<Policy>,
    meter: Arc<Meter>,
    gate: Arc<Semaphore>,
    sent: u32,
    /// When the invocation ends; none before there is one, when nothing may be sent.
    until: Option<Instant>,
    depth: u32,
}

impl Hooks {
    pub(super) fn new(egress: Arc<Egress>, policy: Arc<Policy>, meter: Arc<Meter>) -> Self {
        let gate = Arc::new(Semaphore::new(policy.limits.outbound_concurrent as usize));
        Self { egress, policy, meter, gate, sent: 0, until: None, depth: 0 }
    }

    /// Binds the outbound side to an invocation.
    pub(super) fn bind(&mut self, until: Instant, request: &HeaderMap) {
        self.until = Some(until);
        self.depth = depth(request);
    }

    /// Forgets an invocation, for the next one of the same sandbox. What was under way counts for the old one.
    pub(super) fn renew(&mut self, meter: Arc<Meter>) {
        *self = Self::new(self.egress.clone(), self.policy.clone(), meter);
    }

    /// Whether nothing that was sent is still under way: each request keeps the gate until its response is gone.
    pub(super) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.gate) == 1
    }

    /// Counts a request and checks what needs no waiting.
    fn admit(&mut self, request: &Request<WasiBody>) -> Result<send::Target, Error> {
        self.sent = self.sent.saturating_add(1);
        self.meter.outbound.store(self.sent, Relaxed);
        if self.sent > self.policy.limits.outbound_total {
            return Err(Error::ConnectionLimitReached);
        }
        if self.depth >= MAX_DEPTH {
            return Err(Error::LoopDetected);
        }
        let target = send::Target::of(request)?;
        if self.policy.allowed_outbound_hosts.allows(target.https, &target.host, target.port) {
            Ok(target)
        } else {
            Err(Error::HttpRequestDenied)
        }
    }
}

/// Reads the depth of a request; nonsense counts as deepest.
fn depth(headers: &HeaderMap) -> u32 {
    match headers.get(DEPTH) {
        None => 0,
        Some(value) => value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(MAX_DEPTH),
    }
}

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name) || name == http::header::TE)
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Io,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let Some(until) = self.until else { return Box::new(async { Err(Error::HttpRequestDenied) }) };
        let target = match self.admit(&request) {
            Ok(target) => target,
            Err(error) => return Box::new(async { Err(error) }),
        };
        let outgoing = send::Outgoing {
            egress: self.egress.clone(),
            gate: self.gate.clone(),
            max_response_bytes: self.meter.limits.outbound_response_bytes,
            options: options.unwrap_or_default(),
            depth: self.depth + 1,
            target,
        };
        Box::new(async move {
            let sent = tokio::time::timeout_at(until, outgoing.send(request)).await;
            sent.unwrap_or(Err(Error::HttpResponseTimeout))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn p2_error_from_hyper(&mut self, _: &hyper::Error) -> wasmtime_wasi_http::p2::bindings::http::types::ErrorCode {
        wasmtime_wasi_http::p2::bindings::http::types::ErrorCode::HttpProtocolError
    }

    fn p3_error_from_hyper(&mut self, _: &hyper::Error) -> wasmtime_wasi_http::p3::bindings::http::types::ErrorCode {
        wasmtime_wasi_http::p3::bindings::http::types::ErrorCode::HttpProtocolError
    }
}

#[cfg(test)]
mod tests;
