//! A scheduler that says what the test says.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::internal::v1::{
    ActivateRequest, ActivateResponse, AdmitRequest, AdmitResponse, BorrowQuotaRequest, BorrowQuotaResponse,
    CachePurges, ConfigDelta, ConfigSnapshot, GatewayHello, GatewayLoad, Placements, RateDemand, RateLoan, RateLoans,
    RateReport, ReportUsageRequest, ReportUsageResponse, SpentBudgets, SyncGatewayRequest, SyncGatewayResponse,
    SyncWorkerRequest, SyncWorkerResponse, WatchedVersions,
    sync_gateway_request::Report,
    sync_gateway_response::Update,
    sync_service_server::{SyncService, SyncServiceServer},
};
use futures::{Stream, StreamExt};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// A simulated scheduler. Dropped, it is gone.
pub(crate) struct Scheduler {
    pub(crate) address: SocketAddr,
    /// What each new stream is told first.
    pub(crate) config: ConfigSnapshot,
    pub(crate) placements: watch::Sender<Placements>,
    pub(crate) deltas: broadcast::Sender<ConfigDelta>,
    pub(crate) purges: broadcast::Sender<CachePurges>,
    pub(crate) spent: broadcast::Sender<SpentBudgets>,
    pub(crate) watched: broadcast::Sender<WatchedVersions>,
    pub(crate) seen: Arc<Seen>,
    shutdown: Shutdown,
}

/// What gateways said.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) hellos: Mutex<Vec<GatewayHello>>,
    pub(crate) loads: Mutex<Vec<GatewayLoad>>,
    pub(crate) usage: Mutex<Vec<ReportUsageRequest>>,
    pub(crate) activations: AtomicUsize,
    pub(crate) admissions: AtomicUsize,
}

struct Service {
    config: ConfigSnapshot,
    placements: watch::Sender<Placements>,
    deltas: broadcast::Sender<ConfigDelta>,
    purges: broadcast::Sender<CachePurges>,
    spent: broadcast::Sender<SpentBudgets>,
    watched: broadcast::Sender<WatchedVersions>,
    seen: Arc<Seen>,
    shutdown: Shutdown,
}

impl Scheduler {
    pub(crate) async fn start(config: ConfigSnapshot, first: Placements) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (placements, deltas) = (watch::Sender::new(first), broadcast::Sender::new(16));
        let (purges, spent, watched) =
            (broadcast::Sender::new(16), broadcast::Sender::new(16), broadcast::Sender::new(16));
        let (seen, shutdown) = (Arc::<Seen>::default(), Shutdown::default());
        let service = Service {
            config: config.clone(),
            placements: placements.clone(),
            deltas: deltas.clone(),
            purges: purges.clone(),
            spent: spent.clone(),
            watched: watched.clone(),
            seen: seen.clone(),
            shutdown: shutdown.clone(),
        };
        let server = SyncServiceServer::with_interceptor(service, super::secret().require());
        let ended = shutdown.clone();
        shutdown.spawn(async move {
            tokio::select! {
                served = tonic::transport::Server::builder().add_service(server).serve_with_incoming(TcpListenerStream::new(listener)) => served.unwrap(),
                () = ended.begun() => {}
            }
        });
        Self { address, config, placements, deltas, purges, spent, watched, seen, shutdown }
    }

    /// Goes away.
    pub(crate) fn stop(&self) {
        self.shutdown.begin();
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lends 20 admissions a second, with 16 saved up, to whoever asks; and of calls at once, what it wants.
fn lend(rates: RateReport) -> RateLoans {
    let loan = |demand: RateDemand| {
        let is_rate = ["function/", "namespace/", "key/"].iter().any(|kind| demand.limit.starts_with(kind));
        let (per_second, burst) = if is_rate { (20.0, 16.0) } else { (0.0, demand.wanted_per_second) };
        let granted = if is_rate { burst } else { 0.0 };
        RateLoan { limit: demand.limit, sequence: 1, per_second, burst, granted, part: demand.part }
    };
    RateLoans { loans: rates.demands.into_iter().filter(|demand| !demand.gone).map(loan).collect() }
}

type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SyncService for Service {
    type SyncWorkerStream = Updates<SyncWorkerResponse>;
    type SyncGatewayStream = Updates<SyncGatewayResponse>;

    async fn sync_worker(
        &self,
        _: Request<Streaming<SyncWorkerRequest>>,
    ) -> Result<Response<Self::SyncWorkerStream>, Status> {
        Err(Status::unimplemented("only gateways"))
    }

    async fn sync_gateway(
        &self,
        request: Request<Streaming<SyncGatewayRequest>>,
    ) -> Result<Response<Self::SyncGatewayStream>, Status> {
        // A connection outlives its listener.
        if self.shutdown.has_begun() {
            return Err(Status::unavailable("it has stopped"));
        }
        let mut reports = request.into_inner();
        let (updates, stream) = mpsc::channel(16);
        let (config, seen, shutdown) = (self.config.clone(), self.seen.clone(), self.shutdown.clone());
        let (mut placements, mut deltas) = (self.placements.subscribe(), self.deltas.subscribe());
        let (mut purges, mut spent) = (self.purges.subscribe(), self.spent.subscribe());
        let mut watched = self.watched.subscribe();
        self.shutdown.spawn(async move {
            let update = |update| Ok(SyncGatewayResponse { update: Some(update) });
            updates.send(update(Update::Config(config))).await.ok()?;
            loop {
                let next = placements.borrow_and_update().clone();
                updates.send(update(Update::Placements(next))).await.ok()?;
                tokio::select! {
                    changed = placements.changed() => changed.ok()?,
                    delta = deltas.recv() => updates.send(update(Update::ConfigDelta(delta.ok()?))).await.ok()?,
                    these = purges.recv() => updates.send(update(Update::CachePurges(these.ok()?))).await.ok()?,
                    these = watched.recv() => updates.send(update(Update::Watched(these.ok()?))).await.ok()?,
                    these = spent.recv() => updates.send(update(Update::SpentBudgets(these.ok()?))).await.ok()?,
                    report = reports.next() => match report?.ok()?.report? {
                        Report::Hello(hello) => seen.hellos.lock().unwrap().push(hello),
                        Report::Load(load) => seen.loads.lock().unwrap().push(load),
                        Report::Rates(rates) => updates.send(update(Update::RateLoans(lend(rates)))).await.ok()?,
                    },
                    () = shutdown.begun() => return Some(()),
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn activate(&self, _: Request<ActivateRequest>) -> Result<Response<ActivateResponse>, Status> {
        self.seen.activations.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(ActivateResponse {}))
    }

    /// Takes every report; the answer to the first is lost.
    async fn report_usage(
        &self,
        request: Request<ReportUsageRequest>,
    ) -> Result<Response<ReportUsageResponse>, Status> {
        let mut usage = self.seen.usage.lock().unwrap();
        usage.push(request.into_inner());
        if usage.len() == 1 {
            return Err(Status::unavailable("the answer was lost"));
        }
        Ok(Response::new(ReportUsageResponse {}))
    }

    async fn borrow_quota(&self, _: Request<BorrowQuotaRequest>) -> Result<Response<BorrowQuotaResponse>, Status> {
        Err(Status::unimplemented("nothing is limited here"))
    }

    /// Admits the first one, and nobody for a minute.
    async fn admit(&self, _: Request<AdmitRequest>) -> Result<Response<AdmitResponse>, Status> {
        let admitted = self.seen.admissions.fetch_add(1, Ordering::SeqCst) == 0;
        let retry_after = (!admitted).then_some(prost_types::Duration { seconds: 60, nanos: 0 });
        Ok(Response::new(AdmitResponse { admitted, retry_after }))
    }
}
