//! Tries whether a sandbox can serve more than one call, before callers find out: two calls in turn, `GET /` with a header that
//! tells what they are. JavaScript components answer once and then fail for ever, for one. The version's developer has asked
//! for it by asking for reuse; what the two calls print is not kept, and what they answer is not looked at beyond its status.

use std::time::Duration;

use dunlin_proto::ids::InvocationId;
use http::{HeaderName, Request};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::Pool;
use crate::sandbox::{
    Call, Left, LogSink, Outcome, Program, RequestBody, ResponseEvent, ResponseSink, Sandbox, SandboxError,
};

/// Tells the guest that nobody called; its value is the number of the call.
const TRIAL: HeaderName = HeaderName::from_static("dunlin-reuse-trial");
/// How long each call may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time before another attempt when no sandbox could be made.
const PAUSE: Duration = Duration::from_secs(2);
/// Calls that a sandbox on trial may serve: more than it will.
const CALLS: u32 = 3;

/// What came of a trial.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Works,
    /// The first call failed already, which says nothing of the second.
    Unknown(String),
    Refused(String),
}

impl Pool {
    /// Finds out whether sandboxes can be used again, where that is asked for and not known; says whether there is news.
    pub(crate) async fn try_reuse(&self) -> bool {
        let Some(reuse) = self.0.reuse.as_ref().filter(|reuse| reuse.verdict().is_none()) else { return false };
        match self.verdict().await {
            Verdict::Works => reuse.pass(),
            Verdict::Unknown(failure) => {
                tracing::info!(failure, "reuse of sandboxes could not be tried, since the function fails anyway");
                reuse.pass();
            }
            Verdict::Refused(reason) => self.refuse(reuse, &reason),
        }
        true
    }

    /// Waits for a share of the capacity that stands ready, which nobody is waiting for.
    async fn verdict(&self) -> Verdict {
        let _share = self.0.capacity.prepared.acquire().await;
        loop {
            match trial(&self.0.program).await {
                Ok(verdict) => return verdict,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "no sandbox to try reuse with");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn trial(program: &Program) -> Result<Verdict, SandboxError> {
    let (first, left) = call(program.prepare().await?, 1).await;
    if let Outcome::Failed(failure) = first.outcome {
        return Ok(Verdict::Unknown(failure.to_string()));
    }
    let sandbox = match left {
        Left::Ready(sandbox) => sandbox,
        left => return Ok(verdict_on(&left)),
    };
    let (second, left) = call(*sandbox, 2).await;
    Ok(match second.outcome {
        Outcome::Failed(failure) => {
            Verdict::Refused(format!("of two calls on trial to one sandbox, the second failed: {failure}"))
        }
        Outcome::Ok if second.status >= 500 && first.status < 500 => Verdict::Refused(format!(
            "of two calls on trial to one sandbox, the first was answered with status {}, the second with {}",
            first.status, second.status
        )),
        Outcome::Ok => verdict_on(&left),
    })
}

fn verdict_on(left: &Left) -> Verdict {
    match left {
        Left::Unclean(what) => {
            Verdict::Refused(format!("after a call on trial, the sandbox could serve no other: {what}"))
        }
        Left::Nothing | Left::Spent(_) | Left::Ready(_) => Verdict::Works,
    }
}

/// How a call on trial ended.
struct Answer {
    status: u16,
    outcome: Outcome,
}

async fn call(sandbox: Sandbox, number: u8) -> (Answer, Left) {
    let (response, events) = ResponseSink::channel(4);
    let mut request = Request::new(RequestBody::empty());
    *request.uri_mut() = http::Uri::from_static("http://localhost/");
    request.headers_mut().insert(TRIAL, u16::from(number).into());
    let call = Call {
        id: InvocationId::new().uuid(),
        deadline: Instant::now() + PATIENCE,
        request,
        response,
        logs: LogSink::discard(),
        cancel: CancellationToken::new(),
    };
    let ((completion, left), status) = tokio::join!(sandbox.run_one_of(CALLS, call), status(events));
    (Answer { status, outcome: completion.outcome }, left)
}

/// Reads an answer to its end, for its status; 0 where there is none.
async fn status(mut events: mpsc::Receiver<ResponseEvent>) -> u16 {
    let mut status = 0;
    while let Some(event) = events.recv().await {
        if let ResponseEvent::Head(code, _) = event {
            status = code.as_u16();
        }
    }
    status
}
