//! A gateway that serves nobody: it applies what it is sent, exactly as the contract says.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use dunlin_proto::internal::v1::{
    CachePurges, Certificates, CertificatesPosition, ConfigDelta, ConfigSnapshot, GatewayHello, GatewayLoad,
    Placements, PurgePosition, RateLoan, SpentBudgets, SyncGatewayRequest, SyncGatewayResponse, VersionDemand,
    VersionOutcomes, VersionRef, WatchedVersions, sync_gateway_request::Report, sync_gateway_response::Update,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::Cluster;

/// What it has been sent.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    pub(crate) config: ConfigSnapshot,
    pub(crate) wholes: usize,
    pub(crate) deltas: usize,
    /// All placements, the newest last.
    pub(crate) placements: Vec<Placements>,
    /// All parts of limited rates, the newest last.
    pub(crate) loans: Vec<RateLoan>,
    /// What it was told to forget, the newest last.
    pub(crate) purges: Vec<CachePurges>,
    /// What it was told of certificates, the newest last.
    pub(crate) certificates: Vec<Certificates>,
    /// The versions that it was told to count the calls of, the newest last.
    pub(crate) watched: Vec<WatchedVersions>,
    /// The budgets that it was told are used up, the newest last.
    pub(crate) spent: Vec<SpentBudgets>,
    /// Up to where it is known what it has said of quotas.
    pub(crate) noted: u64,
    pub(crate) ended: bool,
    /// What it has said last that its callers want.
    demand: Vec<VersionDemand>,
}

impl Received {
    /// What it serves, and for whom.
    fn load(&self) -> SyncGatewayRequest {
        let purged = self.purges.last().and_then(|purges| purges.position);
        let certificates = self.certificates.last().and_then(|certificates| certificates.position);
        let (config_version, demand) = (self.config.version, self.demand.clone());
        let load = GatewayLoad { config_version, demand, purged, certificates, ..GatewayLoad::default() };
        SyncGatewayRequest { report: Some(Report::Load(load)) }
    }
}

/// A connected gateway. It leaves when it is dropped.
pub(crate) struct SimGateway {
    received: Arc<Mutex<Received>>,
    pub(crate) reports: mpsc::Sender<SyncGatewayRequest>,
    _tasks: JoinSet<()>,
}

/// The hello of a gateway that has a configuration already.
pub(crate) fn hello(name: &str, config_version: u64) -> SyncGatewayRequest {
    let hello = GatewayHello {
        gateway: name.into(),
        protocol_version: 1,
        software_version: "0.1.0".into(),
        peer_address: format!("127.0.0.1:{}", 7000 + name.len()),
        config_version,
        held_rates: Vec::new(),
        purged: Some(PurgePosition::default()),
        certificates: Some(CertificatesPosition::default()),
        budgets: true,
        // Two streams of one name are one process's.
        boot: 7,
    };
    SyncGatewayRequest { report: Some(Report::Hello(hello)) }
}

impl SimGateway {
    pub(crate) async fn connect(cluster: &Cluster, name: &str) -> Self {
        Self::connect_with(cluster, name, ConfigSnapshot::default()).await
    }

    /// Connects with a configuration from before.
    pub(crate) async fn connect_with(cluster: &Cluster, name: &str, config: ConfigSnapshot) -> Self {
        let (reports, receiver) = mpsc::channel(8);
        reports.send(hello(name, config.version)).await.unwrap();
        let mut updates = cluster.sync().sync_gateway(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let received = Arc::new(Mutex::new(Received { config, ..Received::default() }));
        let (shared, mut tasks, acknowledgements) = (received.clone(), JoinSet::new(), reports.clone());
        tasks.spawn(async move {
            while let Ok(Some(update)) = updates.message().await {
                let load = {
                    let mut received = shared.lock().unwrap();
                    let known = |received: &Received| {
                        (received.config.version, received.purges.len(), received.certificates.len())
                    };
                    let before = known(&received);
                    apply(&mut received, update);
                    (known(&received) != before).then(|| received.load())
                };
                if let Some(load) = load {
                    let _ = acknowledgements.send(load).await;
                }
            }
            shared.lock().unwrap().ended = true;
        });
        Self { received, reports, _tasks: tasks }
    }

    pub(crate) fn received(&self) -> Received {
        self.received.lock().unwrap().clone()
    }

    /// The endpoints that have a version of a function ready, by the newest placements.
    pub(crate) fn endpoints(&self, number: u32) -> Vec<String> {
        let received = self.received();
        let Some(last) = received.placements.last() else { return vec![] };
        let of = |placement: &&dunlin_proto::internal::v1::VersionPlacement| {
            placement.version.as_ref().unwrap().number == number
        };
        last.versions.iter().find(of).map(|placement| placement.endpoints.clone()).unwrap_or_default()
    }

    /// The version of the only function.
    pub(crate) fn version(&self, number: u32) -> VersionRef {
        VersionRef { function_uid: self.received().config.functions[0].uid.clone(), number }
    }

    pub(crate) async fn demand(&self, version: VersionRef, in_flight: u32, queued: u32) {
        self.received.lock().unwrap().demand = vec![VersionDemand { version: Some(version), in_flight, queued }];
        let load = self.received().load();
        self.reports.send(load).await.unwrap();
    }

    /// Says what has become of calls, as a process that counts by this number.
    pub(crate) async fn outcomes(&self, counted_by: u64, outcomes: Vec<VersionOutcomes>) {
        let mut request = self.received().load();
        if let Some(Report::Load(load)) = &mut request.report {
            (load.outcomes, load.counted_by) = (outcomes, counted_by);
        }
        self.reports.send(request).await.unwrap();
    }

    /// Waits until what it has received is so, and says how long that took.
    pub(crate) async fn eventually(&self, cluster: &Cluster, what: &str, so: impl Fn(&Self) -> bool) -> Duration {
        cluster.eventually(what, async |_| so(self)).await
    }
}

fn apply(received: &mut Received, update: SyncGatewayResponse) {
    match update.update.unwrap() {
        Update::Config(config) => (received.config, received.wholes) = (config, received.wholes + 1),
        Update::ConfigDelta(delta) => {
            change(&mut received.config, delta);
            received.deltas += 1;
        }
        Update::Placements(placements) => received.placements.push(placements),
        Update::RateLoans(loans) => received.loans.extend(loans.loans),
        Update::CachePurges(purges) => received.purges.push(purges),
        Update::Certificates(certificates) => received.certificates.push(certificates),
        Update::Watched(watched) => received.watched.push(watched),
        Update::SpentBudgets(spent) => received.spent.push(spent),
        Update::LeftsNoted(noted) => received.noted = noted.sequence,
    }
}

fn change(config: &mut ConfigSnapshot, delta: ConfigDelta) {
    assert_eq!(config.version, delta.base_version, "a delta must fit what was sent before");
    config.version = delta.version;
    let gone: Vec<_> = delta.functions.iter().map(|function| &function.uid).chain(&delta.removed_functions).collect();
    config.functions.retain(|function| !gone.contains(&&function.uid));
    config.functions.extend(delta.functions.iter().cloned());
    let gone: Vec<_> = delta.keys.iter().map(|key| &key.id).chain(&delta.removed_keys).collect();
    config.keys.retain(|key| !gone.contains(&&key.id));
    config.keys.extend(delta.keys.iter().cloned());
    config.namespaces.retain(|name| !delta.removed_namespaces.contains(name));
    config.namespaces.extend(delta.namespaces);
    let gone: Vec<_> = delta.routes.iter().map(|route| &route.name).chain(&delta.removed_routes).collect();
    config.routes.retain(|route| !gone.contains(&&route.name));
    config.routes.extend(delta.routes.iter().cloned());
    config.domains = delta.domains.or(config.domains.take());
    config.limits = delta.limits.or(config.limits.take());
    config.functions.sort_by(|a, b| a.uid.cmp(&b.uid));
    config.keys.sort_by(|a, b| a.id.cmp(&b.id));
    config.namespaces.sort();
    config.routes.sort_by(|a, b| a.name.cmp(&b.name));
}
