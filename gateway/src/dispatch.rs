//! How an invocation reaches a worker: choose an endpoint, send it over a session, bring the answer back.
//!
//! The choice is in `pick.rs`, a session in `session.rs`, one invocation on it in `call.rs`, its tries in `run.rs` and
//! `attempt.rs`, bodies in `request.rs` and `response.rs`, where versions run in `placement.rs`. HTTP listeners and credentials are not known here.

pub(crate) mod activate;
mod attempt;
pub(crate) mod call;
mod endpoint;
mod health;
mod hold;
mod outbound;
pub(crate) mod outcome;
mod pick;
pub(crate) mod placement;
mod record;
mod refusals;
pub(crate) mod request;
pub(crate) mod response;
mod run;
mod session;
pub(crate) mod throttle;
mod trailers;
mod unanswered;
mod waiting;
pub(crate) mod wire;

use std::{net::IpAddr, sync::Arc};

use dunlin_proto::{ApiError, ids::InvocationId};
use http::{HeaderName, HeaderValue};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    limits::CallerSlots,
    records::{Came, Record},
    routes::{Function, Version, router::Parameters},
};

pub(crate) use endpoint::{Backoff, Connector};
pub(crate) use outcome::CalledBy;
pub(crate) use placement::Directory;
pub(crate) use request::RequestBody;
pub(crate) use response::ResponseBody;
pub(crate) use run::Dispatcher;

/// One call of a function, ready to run.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The platform's id of it.
    pub(crate) id: InvocationId,
    /// What is called.
    pub(crate) function: Arc<Function>,
    /// The version that runs.
    pub(crate) version: Arc<Version>,
    /// Method, path and query as the function sees them, headers, body.
    pub(crate) request: http::Request<RequestBody>,
    /// More headers, which are not among the request's.
    pub(crate) introduced: Introduced,
    /// The part of the caller's path that led to the function; may be empty.
    pub(crate) base_path: String,
    /// `http` or `https`, as the caller sees it.
    pub(crate) scheme: &'static str,
    /// Host and port, as the caller named them.
    pub(crate) authority: String,
    /// The caller's address.
    pub(crate) remote_address: IpAddr,
    /// The caller's own `X-Request-Id`; may be empty.
    pub(crate) request_id: String,
    /// Who calls; nothing where it says nothing about the version, as a developer's look does not.
    pub(crate) called_by: Option<CalledBy>,
    /// What its caller's key may have at once, where that is bounded.
    pub(crate) at_once: Option<Arc<CallerSlots>>,
    /// How it came in, for its record.
    pub(crate) came: Came,
    /// Who gets its record once it is closed, beside those who keep it.
    pub(crate) told: Option<oneshot::Sender<Arc<Record>>>,
    /// The body of the answer shows the record at its end.
    pub(crate) shown: bool,
    /// When the gateway accepted it; its deadline is the version's timeout later.
    pub(crate) accepted: Instant,
}

/// Headers that the gateway alone sets, as they are kept: in the request's they would have to be copied, and to find their places.
#[derive(Debug, Default)]
pub(crate) struct Introduced {
    /// The parameters of the path.
    pub(crate) parameters: Parameters,
    /// Who calls.
    pub(crate) caller: Arc<[(HeaderName, HeaderValue)]>,
}

impl Invocation {
    /// When its time is up.
    pub(crate) fn deadline(&self) -> Instant {
        self.accepted + self.version.timeout
    }
}

impl Dispatcher {
    /// Runs an invocation: the answer's head is here once this returns, its body streams.
    ///
    /// The record is kept when the answer's body has ended or been dropped, or at once where this fails.
    ///
    /// # Errors
    /// Everything that can go wrong before the head: no worker, a trap, the deadline, a body over its limit.
    pub(crate) async fn invoke(&self, invocation: Invocation) -> Result<http::Response<ResponseBody>, ApiError> {
        run::invoke(self, invocation).await
    }
}
