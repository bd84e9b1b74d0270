//! How long heads are held back, on a session in memory and in time that is paused.

use std::sync::Arc;

use bytes::Bytes;
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    PROTOCOL_VERSION,
    internal::v1::{Begin, Body, Header, OpenSessionResponse, SessionHello, open_session_response::Frame},
    local::Local,
    metadata::ClusterSecret,
    trust::Trust,
};
use futures::{StreamExt, channel::mpsc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::dispatch::{
    RequestBody,
    endpoint::{Connector, Endpoint},
    session::{self, Session},
};

/// The worker's side of a session with one call.
struct Worker {
    epoch: u64,
    outgoing: mpsc::UnboundedSender<Result<OpenSessionResponse, tonic::Status>>,
    scope: Shutdown,
}

impl Worker {
    fn say(&self, invocation: u64, frame: Frame) {
        let message = OpenSessionResponse { epoch: self.epoch, invocation, frame: Some(frame) };
        self.outgoing.unbounded_send(Ok(message)).unwrap();
    }

    fn body(&self, bytes: usize, last: bool) {
        self.say(1, Frame::Body(Body { data: vec![7; bytes].into(), last, trailers: Vec::new() }));
    }

    /// Says things after so many milliseconds.
    fn later(self, millis: u64, then: impl FnOnce(&Self) + Send + 'static) {
        self.scope.clone().spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            then(&self);
            std::future::pending::<()>().await;
        });
    }
}

async fn session() -> (Worker, Arc<Session>, Endpoint) {
    let (local, address) = (Local::default(), ([127, 0, 0, 1], 7071).into());
    let mut openings = local.listen(address);
    let trust = Trust::Secret(ClusterSecret::from_text("0123456789abcdef0123456789abcdef").unwrap());
    let connector = Connector { gateway: "g".parse().unwrap(), trust, local, changed: watch::Sender::new(0) };
    let endpoint = Endpoint::new("w/0", "w", &address.to_string(), 1, CancellationToken::new());
    let (outgoing, said) = mpsc::unbounded();
    let accept = async {
        let mut opening = openings.recv().await.unwrap();
        let epoch = opening.requests.next().await.unwrap().unwrap().epoch;
        let worker = Worker { epoch, outgoing, scope: Shutdown::default() };
        let endpoint = "w/0".to_owned();
        worker.say(
            0,
            Frame::Hello(SessionHello {
                protocol_version: PROTOCOL_VERSION,
                epoch,
                endpoint,
                ..SessionHello::default()
            }),
        );
        opening.answer.send(Ok(said.boxed())).ok().unwrap();
        worker
    };
    let (worker, opened) = futures::join!(accept, session::open(&connector, &endpoint));
    let (session, incoming) = opened.unwrap();
    let reader = session.clone();
    worker.scope.spawn(async move {
        // Some tests end it.
        let _ = reader.run(incoming, &CancellationToken::new(), &watch::Sender::new(0)).await;
    });
    (worker, session, endpoint)
}

/// Holds a head with these headers until the call's time is up in ten seconds; says for how many milliseconds, and whether
/// the answer was lost.
async fn held(headers: &[(&'static str, &'static str)], worker: impl FnOnce(Worker)) -> (u128, bool) {
    let header = |(name, value): &(&'static str, &'static str)| Header {
        name: (*name).into(),
        value: Bytes::from_static(value.as_bytes()),
    };
    let head = Head { status: 200, headers: headers.iter().map(header).collect() };
    let (there, session, endpoint) = session().await;
    let mut pump = Pump::new(RequestBody::whole(Bytes::new()), 0, true);
    let begin = Begin { body: Some(pump.begin().await.unwrap()), ..Begin::default() };
    let call = session.begin(begin, endpoint.count()).ok().unwrap();
    worker(there);
    let began = Instant::now();
    let first = hold(head, call, &mut pump, began + Duration::from_secs(10)).await.ok().unwrap();
    (began.elapsed().as_millis(), matches!(first, First::Lost))
}

const SAYS_SHORT: (&str, &str) = ("content-length", "9");

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_end_is_passed_on_soon() {
    let silent = |worker: Worker| worker.later(0, |_| ());
    let (unknown, _) = held(&[], silent).await;
    assert!((100..=102).contains(&unknown), "{unknown}");
    let (short, _) = held(&[SAYS_SHORT], silent).await;
    assert!((1000..=1002).contains(&short), "{short}");
    assert_eq!(held(&[("content-type", "text/event-stream")], silent).await, (0, false));
    assert_eq!(held(&[("content-length", "1000000")], silent).await, (0, false));
    let (dripping, _) = held(&[], |worker| worker.later(60, |worker| worker.body(1, false))).await;
    assert!((100..=102).contains(&dripping), "what comes slowly buys no time: {dripping}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_passed_on_with_its_end_or_when_it_is_long() {
    let (whole, lost) = held(&[], |worker| worker.later(50, |worker| worker.body(9, true))).await;
    assert!((50..=51).contains(&whole) && !lost, "{whole}");
    let failed =
        |worker: &Worker| worker.say(1, Frame::End(End { outcome: "function_failed".into(), ..End::default() }));
    let (failed, lost) = held(&[], |worker| worker.later(50, failed)).await;
    assert!((50..=51).contains(&failed) && !lost, "it would fail again: {failed}");
    let long = |worker: &Worker| (0..2).for_each(|_| worker.body(33_000, false));
    let (long, lost) = held(&[SAYS_SHORT], |worker| worker.later(50, long)).await;
    assert!((50..=51).contains(&long) && !lost, "{long}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_before_its_end_is_known_as_that() {
    let half = |worker: &Worker| {
        worker.body(5, false);
        worker.outgoing.close_channel();
    };
    let (after, lost) = held(&[SAYS_SHORT], |worker| worker.later(500, half)).await;
    assert!((500..=501).contains(&after) && lost, "{after}");
    let whole = |worker: &Worker| {
        worker.body(5, true);
        worker.outgoing.close_channel();
    };
    assert!(!held(&[], |worker| worker.later(50, whole)).await.1, "its receipt alone is lost");
    let greedy = |worker: &Worker| (0..5).for_each(|_| worker.body(64 << 10, false));
    assert!(held(&[], |worker| worker.later(50, greedy)).await.1, "more than was granted");
}
