//! A request's body that is read on for a while after it lost its reader, over HTTP/1.1.
//!
//! An early answer, such as 401 or 413, would otherwise end the connection with input unread. The kernel then resets it, and
//! a client that reads only after it has written loses the answer; or the client sends its next request on a connection
//! that nothing said would end. HTTP/2 ends the stream alone and needs none of it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use dunlin_process::shutdown::Shutdown;
use http::{Request, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// How long an unwanted body is read on in all, and how long its sender may pause.
const LONGEST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);
/// How much of an unwanted body is read on, in bytes.
const MOST: usize = 64 << 20;

/// The body that a caller sends.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// There until it is dropped.
    body: Option<Incoming>,
    /// Whose task reads on; nothing where nobody needs to.
    tasks: Option<Shutdown>,
}

impl Lingering {
    /// A request whose body is read on, where there is one. A client that waits for `100 Continue` sends nothing that could be
    /// unread.
    pub(super) fn request(request: Request<Incoming>, tasks: &Shutdown) -> Request<Self> {
        let sends = !request.body().is_end_stream()
            && request.version() < Version::HTTP_2
            && !request.headers().contains_key(header::EXPECT);
        request.map(|body| Self { body: Some(body), tasks: sends.then(|| tasks.clone()) })
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.get_mut().body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Some(tasks)) = (unread, self.tasks.take()) {
            tasks.spawn(read_on(body));
        }
    }
}

async fn read_on(mut body: Incoming) {
    let reading = async {
        let mut left = MOST;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, body.frame()).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Either way the connection ends; whoever sends more than this had its chance.
    let _ = tokio::time::timeout(LONGEST, reading).await;
}
