//! A whole cluster in one process: scheduler, worker and gateway as the libraries that they are everywhere, with the same
//! authentication between them and the same limits. They share a data folder and a secret; invocations go from gateway to
//! worker by the same protocol without a network between. Gateway and worker share a thread for each processor, and a call
//! stays on the thread of its connection from its first byte to its last.
//!
//! What happens once it runs (sample, context, greeting) is in `up/welcome.rs`; it goes through the public API.

mod config;
pub(crate) mod traces;
mod welcome;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use dunlin_gateway::{Gateway, Trees};
use dunlin_process::{
    cores::Cores,
    data::{DataDir, write_private},
    metrics::Metrics,
    shutdown::Shutdown,
};
use dunlin_proto::local::Local;
use dunlin_scheduler::Scheduler;
use dunlin_worker::Worker;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

pub(crate) use self::{
    config::{UpArgs, UpConfig},
    welcome::Host,
};

/// Any free port: nobody outside this process needs to know it.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// How often the scheduler is asked at the start whether it is ready.
const READY_PERIOD: Duration = Duration::from_millis(5);

/// The folder of the scheduler in the data folder.
const SCHEDULER: &str = "scheduler";

/// A cluster that has opened its folder and bound its ports, and serves nobody yet.
pub(crate) struct Up {
    scheduler: Scheduler,
    worker: Worker,
    gateway: Gateway,
    /// The file that encrypts the scheduler's keys, where it is named.
    storage_key: Option<PathBuf>,
    /// Held until the end, so that nobody else uses the folder.
    data: DataDir,
}

impl Up {
    /// Opens the data folder and binds every port: whatever is in the way is found before anything runs.
    ///
    /// # Errors
    /// The folder is in use, a port is taken, a value of the configuration makes no sense.
    pub(crate) async fn bind(config: UpConfig) -> anyhow::Result<Self> {
        let UpConfig { data_dir, mut scheduler, mut worker, mut gateway } = config;
        let data_dir = std::path::absolute(&data_dir).context("find the data folder")?;
        let data = DataDir::open(&data_dir)?;
        let secret = data_dir.join("cluster-secret");
        make_secret(&secret).with_context(|| format!("make the cluster secret {}", secret.display()))?;
        scheduler.listen = ANY_PORT;
        scheduler.data_dir = data_dir.join(SCHEDULER);
        scheduler.cluster_secret = Some(secret.clone());
        scheduler.compiler = Some(std::env::current_exe().context("find this program, which is the compiler too")?);
        let storage_key = scheduler.storage_key.clone();
        let metrics = Metrics::of_process(env!("CARGO_PKG_VERSION"));
        let scheduler = Scheduler::bind(scheduler).await?.measured_by(metrics.clone());
        let url = format!("http://{}", scheduler.addresses().internal);
        gateway.peer = ANY_PORT;
        gateway.scheduler = url.clone();
        gateway.data_dir = data_dir.join("gateway");
        gateway.cluster_secret = secret.clone();
        let local = Local::default();
        let gateway = Gateway::bind(gateway).await?.beside(local.clone()).measured_by(metrics.clone());
        worker.listen = ANY_PORT;
        worker.scheduler = url;
        worker.data_dir = data_dir.join("worker");
        worker.cluster_secret = secret;
        let worker = Worker::bind(worker).await?.beside(local).measured_by(metrics);
        Ok(Self { scheduler, worker, gateway, storage_key, data })
    }

    /// The traces of invocations, where `--trace` asks for them.
    pub(crate) fn trees(&mut self) -> Option<Trees> {
        self.gateway.trees()
    }

    /// Where it is, and the means to make tokens.
    pub(crate) fn host(&self) -> Host {
        let (functions, admin) = self.gateway.urls();
        let storage_key = self.storage_key.clone();
        Host { functions, admin, data_dir: self.data.path().to_owned(), storage_key }
    }

    /// Serves until `shutdown` begins or a role fails. The gateway ends first, for its calls need the worker, and the
    /// scheduler last.
    ///
    /// # Errors
    /// A role failed.
    pub(crate) async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { scheduler, worker, gateway, data, .. } = self;
        let cores = Cores::start(Cores::all()).context("start the threads of gateway and worker")?;
        let (gateway, worker) = (gateway.on(cores.clone()), worker.on(cores.clone()));
        let scheduler_address = scheduler.addresses().internal;
        let (worker_end, scheduler_end) = (Shutdown::default(), Shutdown::default());
        let mut roles = JoinSet::new();
        let end = shutdown.child();
        roles.spawn(Box::pin(async move {
            ready(scheduler_address, &end).await;
            (Role::Gateway, gateway.serve(end).await)
        }));
        let (end, all) = (worker_end.clone(), shutdown.clone());
        roles.spawn(Box::pin(async move {
            ready(scheduler_address, &all).await;
            (Role::Worker, worker.serve(end).await)
        }));
        let end = scheduler_end.clone();
        roles.spawn(Box::pin(async move { (Role::Scheduler, scheduler.serve(end).await) }));
        let mut failure = None;
        while let Some(ended) = roles.join_next().await {
            let early = !shutdown.has_begun();
            shutdown.begin();
            let (role, ended) = ended.context("a role ended in a panic")?;
            let ended = ended.and_then(|()| if early { Err(anyhow::anyhow!("it ended by itself")) } else { Ok(()) });
            failure = failure.or(ended.err().map(|error| error.context(format!("the {role:?} failed"))));
            match role {
                Role::Gateway => worker_end.begin(),
                Role::Worker => scheduler_end.begin(),
                Role::Scheduler => {}
            }
        }
        drop((cores, data));
        failure.map_or(Ok(()), Err)
    }
}

/// Waits until the scheduler has its database, or everything ends: the others could start before, but not without saying
/// that they miss it.
async fn ready(scheduler: SocketAddr, shutdown: &Shutdown) {
    let asked = || async {
        let endpoint = Endpoint::from_shared(format!("http://{scheduler}")).ok()?;
        let request = HealthCheckRequest::default();
        let answer = HealthClient::new(endpoint.connect_lazy()).check(request).await.ok()?;
        (answer.into_inner().status() == ServingStatus::Serving).then_some(())
    };
    let serving = async {
        while asked().await.is_none() {
            tokio::time::sleep(READY_PERIOD).await;
        }
    };
    tokio::select! { () = serving => {}, () = shutdown.begun() => {} }
}

/// A part of the cluster.
#[derive(Debug, Clone, Copy)]
enum Role {
    Gateway,
    Worker,
    Scheduler,
}

/// Makes the secret by which the roles know each other, at the first start.
fn make_secret(path: &Path) -> io::Result<()> {
    if fs::exists(path)? {
        return Ok(());
    }
    let random = rand::random::<[u128; 2]>();
    write_private(path, format!("{:032x}{:032x}\n", random[0], random[1]).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secret_is_private_strong_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster-secret");
        make_secret(&path).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(dunlin_proto::metadata::ClusterSecret::from_file(&path).is_ok());
        make_secret(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
    }
}
