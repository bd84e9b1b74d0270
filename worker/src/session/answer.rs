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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dunlin_proto::internal::v1::open_session_response::Frame;
    use http::StatusCode;

    use super::*;

    /// What is sent for events that are all there at once.
    async fn messages(given: Vec<ResponseEvent>) -> Vec<Frame> {
        let (sender, events) = mpsc::channel(16);
        given.into_iter().for_each(|event| sender.try_send(event).unwrap());
        drop(sender);
        let (outlet, mut sent) = mpsc::channel(16);
        let inflight = Inflight::new(None).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        deliver(events, &Outgoing::new(1, 1, outlet), &inflight, deadline).await.unwrap();
        std::iter::from_fn(|| sent.try_recv().ok()).map(|message| message.unwrap().frame.unwrap()).collect()
    }

    fn data(text: &'static str) -> ResponseEvent {
        ResponseEvent::Data(Bytes::from_static(text.as_bytes()))
    }

    fn head() -> ResponseEvent {
        ResponseEvent::Head(StatusCode::OK, HeaderMap::new())
    }

    /// The bodies: their bytes, whether they are the last, how many trailers they have.
    async fn bodies(given: Vec<ResponseEvent>) -> Vec<(String, bool, usize)> {
        let messages = messages(given).await.into_iter().filter_map(|frame| match frame {
            Frame::Body(body) => Some(body),
            _ => None,
        });
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        messages.map(|body| (text(&body.data), body.last, body.trailers.len())).collect()
    }

    #[tokio::test]
    async fn a_small_answer_is_two_messages_and_trailers_come_with_the_last() {
        assert_eq!(messages(vec![head(), data("all"), ResponseEvent::End]).await.len(), 2);
        assert_eq!(bodies(vec![head(), data("all"), ResponseEvent::End]).await, [("all".into(), true, 0)]);
        assert_eq!(bodies(vec![head(), ResponseEvent::End]).await, [(String::new(), true, 0)]);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        let given = vec![head(), data("a"), data("b"), ResponseEvent::Trailers(trailers), ResponseEvent::End];
        assert_eq!(bodies(given).await, [("a".into(), false, 0), ("b".into(), false, 0), (String::new(), true, 1)]);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_never_said_to_be_whole() {
        assert_eq!(bodies(vec![head(), data("half")]).await, [("half".into(), false, 0)]);
        assert_eq!(bodies(vec![head()]).await, []);
    }
}
