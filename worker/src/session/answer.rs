//! The guest's answer on its way to the gateway: in as few messages as it fits, no faster than the gateway has credit for.

use bytes::Bytes;
use http::HeaderMap;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    inflight::Inflight,
    outgoing::{Gone, Outgoing},
};
use crate::sandbox::ResponseEvent;

/// Events that the guest may be ahead; each has 64 KiB at most.
pub(super) const EVENTS_AHEAD: usize = 4;

/// Why an answer was not delivered whole though the guest may have given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The invocation was stopped from outside, or its session is gone.
    Stopped,
    /// The caller did not read it in time.
    Late,
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Self::Stopped
    }
}

/// Delivers events until there are no more. Ending early drops the receiver, which stops the guest.
pub(super) async fn deliver(
    mut events: mpsc::Receiver<ResponseEvent>,
    to: &Outgoing,
    inflight: &Inflight,
    deadline: Instant,
) -> Result<(), Broken> {
    let none = HeaderMap::new();
    let mut ahead = None;
    loop {
        let next = match ahead.take() {
            Some(event) => Some(event),
            None => events.recv().await,
        };
        match next {
            None => return Ok(()),
            Some(ResponseEvent::Head(status, headers)) => to.head(status, &headers).await?,
            Some(ResponseEvent::Data(data)) => {
                ahead = events.try_recv().ok();
                let last = ahead.take_if(|event| *event == ResponseEvent::End).is_some();
                send(data, last, to, inflight, deadline).await?;
            }
            Some(ResponseEvent::Trailers(trailers)) => {
                to.body(Bytes::new(), true, &trailers).await?;
                // Its end is said already.
                events.recv().await;
            }
            Some(ResponseEvent::End) => to.body(Bytes::new(), true, &none).await?,
        }
    }
}

/// Sends a piece of the body, divided where the credit is.
async fn send(
    mut data: Bytes,
    last: bool,
    to: &Outgoing,
    inflight: &Inflight,
    deadline: Instant,
) -> Result<(), Broken> {
    while !data.is_empty() {
        let granted = tokio::select! {
            biased;
            granted = inflight.credit.take(data.len()) => granted,
            () = inflight.cancel.cancelled() => return Err(Broken::Stopped),
            () = sleep_until(deadline) => return Err(Broken::Late),
        };
        let piece = data.split_to(granted);
        to.body(piece, last && data.is_empty(), &HeaderMap::new()).await?;
    }
    Ok(())
}
