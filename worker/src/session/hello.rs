//! The first message of a session, and its answer. Pure.

use dunlin_proto::{
    FEATURE_PING, PROTOCOL_VERSION,
    internal::v1::{OpenSessionRequest, SessionHello, open_session_request::Frame},
};
use tonic::Status;

use super::Context;

/// Optional features of the protocol that this worker has.
const FEATURES: [&str; 1] = [FEATURE_PING];

/// A gateway that said hello.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) peer: String,
    pub(super) epoch: u64,
    pub(super) answer: SessionHello,
}

/// Answers a hello.
///
/// # Errors
/// It is none, of another protocol version, or meant for another endpoint.
pub(super) fn answer(first: Option<OpenSessionRequest>, context: &Context) -> Result<Greeting, Status> {
    let Some(OpenSessionRequest { epoch, invocation: 0, frame: Some(Frame::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("a session begins with a hello"));
    };
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "the gateway speaks version {} of the session protocol, this worker version {PROTOCOL_VERSION}",
            hello.protocol_version
        )));
    }
    if hello.endpoint != context.endpoint {
        // Somebody else listens where the gateway expected another: it must not run what was placed there.
        return Err(Status::failed_precondition(format!(
            "this is endpoint {}, not {:?}",
            context.endpoint,
            hello.endpoint.chars().take(100).collect::<String>()
        )));
    }
    if epoch != 0 && epoch != hello.epoch {
        return Err(Status::invalid_argument("the hello is of another epoch than its message"));
    }
    if context.shutdown.has_begun() {
        return Err(Status::unavailable("the worker is stopping"));
    }
    let features = hello.features.iter().filter(|feature| FEATURES.contains(&feature.as_str())).cloned().collect();
    let answer = SessionHello {
        protocol_version: PROTOCOL_VERSION,
        features,
        peer: context.worker.clone(),
        epoch: hello.epoch,
        endpoint: context.endpoint.clone(),
    };
    Ok(Greeting { peer: hello.peer.chars().take(100).collect(), epoch: hello.epoch, answer })
}
