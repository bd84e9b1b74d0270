//! Sessions between a gateway and a worker of one process: the same messages in the same order, with no network between.
//!
//! Whoever runs both roles gives each of them the same [`Local`]; separate processes have none. What the messages mean is
//! not known here.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use futures::stream::BoxStream;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tonic::Status;

use crate::internal::v1::{OpenSessionRequest, OpenSessionResponse};

/// What a gateway says on a session.
pub type Requests = BoxStream<'static, Result<OpenSessionRequest, Status>>;

/// What a worker says on a session.
pub type Responses = BoxStream<'static, Result<OpenSessionResponse, Status>>;

/// Sessions that wait to be accepted.
const BACKLOG: usize = 16;

/// A session that a gateway wants to open.
pub struct Opening {
    /// What it says.
    pub requests: Requests,
    /// Where the gateway's part runs; the worker's runs there too, so that messages wake no other thread.
    pub home: Handle,
    /// Where the worker's part goes.
    pub answer: oneshot::Sender<Result<Responses, Status>>,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").finish_non_exhaustive()
    }
}

/// The workers of this process, by the addresses that others reach them at. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Local(Arc<Mutex<HashMap<String, mpsc::Sender<Opening>>>>);

impl Local {
    /// Takes the sessions for an address until the receiver is dropped.
    #[must_use]
    pub fn listen(&self, address: SocketAddr) -> mpsc::Receiver<Opening> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_string(), sender);
        receiver
    }

    /// Whether an address is one of this process.
    #[must_use]
    pub fn has(&self, address: &str) -> bool {
        self.find(address).is_some()
    }

    /// Opens a session to an address of this process.
    ///
    /// # Errors
    /// Nobody listens there any more, or the worker refuses.
    pub async fn open(&self, address: &str, requests: Requests) -> Result<Responses, Status> {
        let gone = || Status::unavailable("the worker has stopped");
        let listener = self.find(address).ok_or_else(gone)?;
        let (answer, answered) = oneshot::channel();
        let home = Handle::current();
        listener.send(Opening { requests, home, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    fn find(&self, address: &str) -> Option<mpsc::Sender<Opening>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt, stream};

    use super::*;

    fn address() -> SocketAddr {
        ([127, 0, 0, 1], 7071).into()
    }

    #[tokio::test]
    async fn a_session_goes_to_whoever_listens_at_its_address() {
        let local = Local::default();
        assert!(!local.has("127.0.0.1:7071"));
        let mut listener = local.listen(address());
        let request = OpenSessionRequest { epoch: 7, ..OpenSessionRequest::default() };
        let opened = local.open("127.0.0.1:7071", stream::iter([Ok(request)]).boxed());
        let accepted = async {
            let mut opening = listener.recv().await.unwrap();
            let epoch = opening.requests.next().await.unwrap().unwrap().epoch;
            let response = OpenSessionResponse { epoch, ..OpenSessionResponse::default() };
            opening.answer.send(Ok(stream::iter([Ok(response)]).boxed())).ok().unwrap();
        };
        let (opened, ()) = futures::join!(opened, accepted);
        assert_eq!(opened.unwrap().next().now_or_never().unwrap().unwrap().unwrap().epoch, 7);
    }

    #[tokio::test]
    async fn a_worker_that_has_stopped_refuses() {
        let local = Local::default();
        drop(local.listen(address()));
        let refused = local.open("127.0.0.1:7071", stream::empty().boxed()).await;
        assert_eq!(refused.err().unwrap().code(), tonic::Code::Unavailable);
        assert!(local.open("127.0.0.1:1", stream::empty().boxed()).await.is_err());
    }
}
