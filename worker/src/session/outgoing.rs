//! One invocation's way into its session's one bounded channel.

use bytes::Bytes;
use dunlin_proto::{
    fields,
    internal::v1::{Body, Head, OpenSessionResponse, open_session_response::Frame},
};
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;
use tonic::Status;

/// Where a session's messages go.
pub(super) type Outlet = mpsc::Sender<Result<OpenSessionResponse, Status>>;

/// The session is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// What an invocation says.
#[derive(Debug)]
pub(super) struct Outgoing {
    epoch: u64,
    invocation: u64,
    outlet: Outlet,
}

impl Outgoing {
    pub(super) fn new(epoch: u64, invocation: u64, outlet: Outlet) -> Self {
        Self { epoch, invocation, outlet }
    }

    pub(super) async fn send(&self, frame: Frame) -> Result<(), Gone> {
        let message = OpenSessionResponse { epoch: self.epoch, invocation: self.invocation, frame: Some(frame) };
        self.outlet.send(Ok(message)).await.map_err(|_| Gone)
    }

    pub(super) async fn head(&self, status: StatusCode, headers: &HeaderMap) -> Result<(), Gone> {
        self.send(Frame::Head(Head { status: status.as_u16().into(), headers: fields::to_wire(headers) })).await
    }

    pub(super) async fn body(&self, data: Bytes, last: bool, trailers: &HeaderMap) -> Result<(), Gone> {
        self.send(Frame::Body(Body { data, last, trailers: fields::to_wire(trailers) })).await
    }
}
