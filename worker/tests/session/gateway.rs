//! A gateway as the protocol describes it, and one that can be told to break it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ids::InvocationId,
    internal::v1::{
        AssignedVersion, Begin, Body, Cancel, End, Header, OpenSessionRequest, OpenSessionResponse, Refusal,
        SessionHello, open_session_request::Frame as Ask, open_session_response::Frame,
        session_service_client::SessionServiceClient,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Endpoint};

use crate::cluster::secret;

const EPOCH: u64 = 77;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn hello(endpoint: &str) -> SessionHello {
    SessionHello {
        protocol_version: 1,
        features: vec!["tea".into()],
        peer: "g1".into(),
        epoch: EPOCH,
        endpoint: endpoint.into(),
    }
}

/// Opens a session that begins with this message, and reads the first answer.
pub(crate) async fn open(
    address: SocketAddr,
    first: OpenSessionRequest,
) -> Result<(mpsc::Sender<OpenSessionRequest>, Streaming<OpenSessionResponse>, OpenSessionResponse), Status> {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = SessionServiceClient::with_interceptor(channel, secret().attach());
    let (sender, receiver) = mpsc::channel(64);
    sender.try_send(first).unwrap();
    let mut answers = client.open_session(ReceiverStream::new(receiver)).await?.into_inner();
    let answer = answers.message().await?.ok_or_else(|| Status::cancelled("closed"))?;
    Ok((sender, answers, answer))
}

pub(crate) fn message(invocation: u64, frame: Ask) -> OpenSessionRequest {
    OpenSessionRequest { epoch: EPOCH, invocation, frame: Some(frame) }
}

/// Where answers go, by invocation.
type Calls = Arc<Mutex<HashMap<u64, mpsc::Sender<Frame>>>>;

/// A gateway with one session.
pub(crate) struct Gateway {
    sender: mpsc::Sender<OpenSessionRequest>,
    calls: Calls,
    next: u64,
    /// How the session ended: its status, or OK.
    ended: watch::Receiver<Option<Status>>,
    pub(crate) goaway: watch::Receiver<bool>,
}

impl Gateway {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_to(address, "w1/1").await
    }

    /// Opens a session with another worker than the first.
    pub(crate) async fn connect_to(address: SocketAddr, endpoint: &str) -> Self {
        let (sender, mut answers, first) = open(address, message(0, Ask::Hello(hello(endpoint)))).await.unwrap();
        let Some(Frame::Hello(answer)) = first.frame else { panic!("no hello") };
        assert_eq!((answer.epoch, answer.endpoint.as_str()), (EPOCH, endpoint));
        assert_eq!(endpoint.split_once('/').unwrap().0, answer.peer);
        assert!(answer.features.is_empty(), "features that the worker does not have");
        let calls = Calls::default();
        let (ended, end) = watch::channel(None);
        let (going, goaway) = watch::channel(false);
        let known = calls.clone();
        Shutdown::default().spawn(async move {
            let status = loop {
                let message = match answers.message().await {
                    Ok(Some(message)) => message,
                    Ok(None) => break Status::ok(""),
                    Err(status) => break status,
                };
                assert_eq!(message.epoch, EPOCH);
                match message.frame.unwrap() {
                    Frame::Goaway(_) => drop(going.send(true)),
                    frame => {
                        let call = known.lock().unwrap().get(&message.invocation).cloned();
                        // A test that has seen enough of a call.
                        let _ = call.unwrap().send(frame).await;
                    }
                }
            };
            known.lock().unwrap().clear();
            let _ = ended.send(Some(status));
        });
        Self { sender, calls, next: 0, ended: end, goaway }
    }

    pub(crate) async fn send(&self, message: OpenSessionRequest) {
        self.sender.send(message).await.unwrap();
    }

    /// Sends what may end the session before all of it is sent.
    pub(crate) async fn provoke(&self, messages: Vec<OpenSessionRequest>) {
        for message in messages {
            let _ = self.sender.send(message).await;
        }
    }

    /// Begins an invocation with this piece of its body.
    pub(crate) async fn begin(&mut self, version: &AssignedVersion, body: &[u8], last: bool) -> Call {
        self.begin_with(version, body, last, |_| {}).await
    }

    pub(crate) async fn begin_with(
        &mut self,
        version: &AssignedVersion,
        body: &[u8],
        last: bool,
        change: impl FnOnce(&mut Begin),
    ) -> Call {
        self.next += 1;
        let id = InvocationId::new();
        let mut begin = Begin {
            id: Bytes::copy_from_slice(id.uuid().as_bytes()),
            version: version.version.clone(),
            time_left: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
            method: "POST".into(),
            scheme: "http".into(),
            authority: "shop.example".into(),
            path_and_query: "/".into(),
            headers: vec![Header { name: "accept".into(), value: Bytes::from_static(b"*/*") }],
            body: Some(Body { data: Bytes::copy_from_slice(body), last, trailers: Vec::new() }),
            ..Begin::default()
        };
        change(&mut begin);
        let (sender, frames) = mpsc::channel(10_000);
        self.calls.lock().unwrap().insert(self.next, sender);
        self.send(message(self.next, Ask::Begin(begin))).await;
        Call { id, number: self.next, sender: self.sender.clone(), frames }
    }

    /// An invocation with a small body, to its end.
    pub(crate) async fn call(&mut self, version: &AssignedVersion, body: &[u8]) -> Answer {
        self.begin(version, body, true).await.finish().await
    }

    /// What a path of the function answers; nothing where it fails.
    pub(crate) async fn get(&mut self, version: &AssignedVersion, path: &str) -> String {
        let change = |begin: &mut Begin| begin.path_and_query = path.to_owned();
        let answer = self.begin_with(version, b"", true, change).await.finish().await;
        String::from_utf8(answer.body).unwrap()
    }

    /// Waits for the session's end.
    pub(crate) async fn end(&mut self) -> Status {
        let ended = timeout(PATIENCE, self.ended.wait_for(Option::is_some)).await.expect("the session goes on");
        ended.unwrap().clone().unwrap()
    }
}

/// An invocation.
pub(crate) struct Call {
    pub(crate) id: InvocationId,
    pub(crate) number: u64,
    sender: mpsc::Sender<OpenSessionRequest>,
    frames: mpsc::Receiver<Frame>,
}

/// What came of an invocation.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    pub(crate) body: Vec<u8>,
    /// Its body was said to be whole.
    pub(crate) whole: bool,
    pub(crate) end: End,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) messages: usize,
}

impl Call {
    pub(crate) async fn ask(&self, frame: Ask) {
        self.sender.send(message(self.number, frame)).await.unwrap();
    }

    pub(crate) async fn body(&self, data: &[u8], last: bool) {
        let data = Bytes::copy_from_slice(data);
        self.ask(Ask::Body(Body { data, last, trailers: Vec::new() })).await;
    }

    pub(crate) async fn cancel(&self, reason: &str) {
        self.ask(Ask::Cancel(Cancel { reason: reason.into() })).await;
    }

    /// The next message about it.
    pub(crate) async fn next(&mut self) -> Frame {
        timeout(PATIENCE, self.frames.recv()).await.expect("no more messages came").expect("the session has ended")
    }

    /// The next piece of the answer's body.
    pub(crate) async fn next_body(&mut self) -> Body {
        loop {
            match self.next().await {
                Frame::Body(body) => return body,
                Frame::Credit(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads to the end, granting credit as it goes.
    pub(crate) async fn finish(mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            answer.messages += 1;
            match self.next().await {
                Frame::Head(head) => answer.status = head.status,
                Frame::Body(body) => {
                    assert!(!answer.whole && body.data.len() <= 64 << 10);
                    answer.body.extend_from_slice(&body.data);
                    answer.whole = body.last;
                    // A session that drains may be over with its last answer.
                    let _ = self.sender.send(message(self.number, Ask::Credit(body.data.len() as u64))).await;
                }
                Frame::Credit(_) => {}
                Frame::End(end) => {
                    answer.end = end;
                    return answer;
                }
                Frame::Refusal(refusal) => {
                    assert_eq!(answer.messages, 1, "a refusal is an invocation's only message");
                    answer.refusal = Some(refusal);
                    return answer;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
