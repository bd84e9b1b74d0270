//! One try of an invocation at one worker: its body goes out until something comes back that says what becomes of it. Whether
//! there is another try is decided in `run.rs`.

use dunlin_proto::{
    ApiError, ErrorCode,
    internal::v1::{End, Head},
};
use tokio::time::{Duration, Instant, sleep_until};

use super::{
    call::{CallHandle, Event},
    hold,
    record::Ledger,
    request::{BodyError, Pump},
    unanswered::{no_worker, out_of_time},
    wire,
};

/// When a caller may come back whose time would have been up before its turn.
const LATER: Duration = Duration::from_secs(1);

/// Why a call is cancelled whose worker has not ended it in time.
const LATE: &str = "deadline_exceeded";

/// Why there is no answer; a call that still runs is stopped.
pub(super) struct Failure {
    pub(super) error: ApiError,
    pub(super) call: Option<(CallHandle, &'static str)>,
}

impl From<ApiError> for Box<Failure> {
    fn from(error: ApiError) -> Self {
        Self::new(Failure { error, call: None })
    }
}

impl Failure {
    /// Whether its worker has failed, and not the function: it says so itself, or it has not ended the call in time, which is its business.
    pub(super) fn is_the_workers(&self) -> bool {
        let silent = self.call.as_ref().is_some_and(|(_, reason)| *reason == LATE);
        silent || self.error.code == ErrorCode::Internal
    }

    /// The request's body can't be sent to its end.
    fn of_body(error: BodyError, call: CallHandle) -> Box<Self> {
        Box::new(Self { error: error.into(), call: Some((call, error.reason())) })
    }
}

/// What came first of a try.
pub(super) enum First {
    Head(Head, CallHandle),
    /// Guest code never started.
    Again(ApiError),
    /// Guest code never started, since the endpoint has too much to do.
    Full(ApiError),
    /// The worker is gone, and guest code may have started; the caller has nothing of it.
    Lost,
}

/// Sends the body until the answer's head, or whatever else comes first.
pub(super) async fn first(
    mut call: CallHandle,
    pump: &mut Pump,
    late: Instant,
    ledger: &mut Ledger,
) -> Result<First, Box<Failure>> {
    let sender = call.sender();
    let mut late = std::pin::pin!(sleep_until(late));
    loop {
        tokio::select! {
            event = call.event() => return meaning(event, call, ledger),
            sent = pump.run(&sender), if !pump.finished => {
                if let Err(error) = sent {
                    return Err(Failure::of_body(error, call));
                }
                if !pump.finished {
                    // The call is over, which its next event says.
                    let event = call.event().await;
                    return meaning(event, call, ledger);
                }
            }
            () = &mut late => {
                let error = out_of_time(ledger.stage());
                return Err(Box::new(Failure { error, call: Some((call, LATE)) }));
            }
        }
    }
}

/// Keeps the head from the caller until the answer's end is here, too, and sends the body meanwhile: what is lost with its
/// worker by then can be had from another one. An answer that is long, or slow to come, is passed on.
pub(super) async fn hold(head: Head, call: CallHandle, pump: &mut Pump, late: Instant) -> Result<First, Box<Failure>> {
    let Some(longest) = hold::longest(&head.headers) else { return Ok(First::Head(head, call)) };
    let sender = call.sender();
    let mut up = std::pin::pin!(sleep_until(late.min(Instant::now() + longest)));
    loop {
        tokio::select! {
            biased;
            lost = call.settled(hold::BYTES) => return Ok(if lost { First::Lost } else { First::Head(head, call) }),
            () = &mut up => return Ok(First::Head(head, call)),
            sent = pump.run(&sender), if !pump.finished => {
                if let Err(error) = sent {
                    return Err(Failure::of_body(error, call));
                }
            }
        }
    }
}

/// What an event means that comes before all others.
fn meaning(event: Event, call: CallHandle, ledger: &mut Ledger) -> Result<First, Box<Failure>> {
    match event {
        Event::Head(head) => Ok(First::Head(head, call)),
        Event::Refusal(refusal) => refused(wire::refusal_error(refusal)),
        Event::End(end) => Err(ended(&end, ledger).into()),
        Event::Lost if !call.started() => {
            Ok(First::Again(no_worker("the worker went away before the invocation began")))
        }
        Event::Lost => Ok(First::Lost),
        Event::Data(_) | Event::Last(_) => {
            tracing::warn!("a worker sent a body before its head");
            Err(Box::new(Failure { error: ApiError::internal(), call: Some((call, "caller_gone")) }))
        }
    }
}

/// A refusal that blames the request would be repeated by every other worker.
fn refused(refusal: ApiError) -> Result<First, Box<Failure>> {
    use ErrorCode::{
        DeadlineExceeded, HeadersTooLarge, InvalidArgument, PayloadTooLarge, TooManyRequests, Unavailable,
    };
    match refusal.code {
        InvalidArgument | PayloadTooLarge | HeadersTooLarge => Err(refusal.into()),
        // It says when to come back where it has too much to do.
        Unavailable | TooManyRequests if refusal.retry_after.is_some() => Ok(First::Full(refusal)),
        Unavailable | TooManyRequests => Ok(First::Again(refusal)),
        DeadlineExceeded => Ok(First::Full(ApiError { code: Unavailable, ..refusal }.retry_after(LATER))),
        _ => Ok(First::Again(ApiError { code: Unavailable, ..refusal })),
    }
}

/// Guest code ended without an answer.
fn ended(end: &End, ledger: &mut Ledger) -> ApiError {
    ledger.cost(wire::receipt(end.receipt.as_ref()));
    let silent = || ApiError::new(ErrorCode::FunctionFailed, "the function ended without an answer");
    wire::end_error(end).unwrap_or_else(silent)
}

#[cfg(test)]
mod tests;
