//! The other workers that may have compiled code, when the scheduler can't give it. Who has which is worked out, not asked:
//! they are those that hold the version on standby.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use dunlin_proto::{
    ids::{VersionKey, WorkerId},
    internal::v1::{WorkerPeer, artifact_service_client::ArtifactServiceClient},
    standby::{SPARE, STANDBYS, Seat, seats},
    trust::{Expected, Role, Trust},
};
use tonic::transport::Endpoint;

use super::CodeClient;

/// How long another worker may take to be reached.
const REACH: Duration = Duration::from_millis(500);

/// The other workers.
#[derive(Debug)]
pub(crate) struct Peers {
    own: WorkerId,
    trust: Trust,
    known: ArcSwap<Known>,
}

#[derive(Debug, Default)]
struct Known {
    peers: Vec<WorkerPeer>,
    /// One a peer, in the same order.
    seats: Vec<Seat>,
}

impl Peers {
    /// Knows nobody yet.
    pub(crate) fn new(own: &WorkerId, trust: Trust) -> Self {
        Self { own: own.clone(), trust, known: ArcSwap::default() }
    }

    pub(super) fn replace(&self, peers: &[WorkerPeer]) {
        let seats = peers.iter().map(|peer| Seat::new(&peer.worker, &peer.zone)).collect();
        self.known.store(Arc::new(Known { peers: peers.to_vec(), seats }));
    }

    pub(super) fn all(&self) -> Vec<WorkerPeer> {
        self.known.load().peers.clone()
    }

    /// Names and clients of the workers that hold a version, the likeliest first.
    pub(super) fn holders(&self, version: &VersionKey) -> Vec<(String, CodeClient)> {
        let known = self.known.load();
        let order = seats(version, &known.seats, STANDBYS as usize + SPARE);
        let peers = order.into_iter().filter_map(|index| known.peers.get(index));
        let others = peers.filter(|peer| peer.worker != self.own.as_str());
        others.filter_map(|peer| Some((peer.worker.clone(), self.client(peer)?))).collect()
    }

    /// A connection for one fetch: this is too rare to keep one open.
    fn client(&self, peer: &WorkerPeer) -> Option<CodeClient> {
        let endpoint = Endpoint::from_shared(format!("http://{}", peer.address)).ok()?;
        let endpoint = endpoint
            .connect_timeout(REACH)
            .tcp_nodelay(true)
            .initial_stream_window_size(4 << 20)
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_secs(2));
        let link = self.trust.link(&endpoint, Expected::named(Role::Worker, &peer.worker)).ok()?;
        Some(ArtifactServiceClient::new(link))
    }
}
