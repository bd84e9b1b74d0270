//! A database that is not there at start, and one that goes away later; a folder and a port that are in use.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use dunlin_proto::{ErrorCode, v1};
use dunlin_scheduler::Scheduler;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::harness::{Cluster, SimGateway, SimWorker, refused};

const TILL: &str = "namespaces/default/functions/till";

/// A way to a server that can be closed.
struct Way {
    address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
    _tasks: JoinSet<()>,
}

impl Way {
    /// Closed at first.
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(watch::Sender::new(false));
        let (gate, mut tasks) = (open.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                if !*gate.borrow() {
                    continue;
                }
                let (server, mut gate) = (server.clone(), gate.subscribe());
                links.spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = gate.wait_for(|open| !*open) => {}
                    }
                });
            }
        });
        Self { address, open, _tasks: tasks }
    }

    fn set(&self, open: bool) {
        self.open.send_replace(open);
    }
}

/// A new database on the test server, and its URL through a way that can be closed.
async fn postgres() -> Option<(Way, String)> {
    let Ok(server) = std::env::var("DUNLIN_TEST_POSTGRES") else {
        if std::env::var("DUNLIN_TEST_SKIP_POSTGRES").as_deref() == Ok("1") {
            eprintln!("SKIPPED: scheduler on PostgreSQL, by DUNLIN_TEST_SKIP_POSTGRES=1");
            return None;
        }
        panic!(
            "DUNLIN_TEST_POSTGRES names no server: run the tests under .ci/tools/with-postgres, or set DUNLIN_TEST_SKIP_POSTGRES=1"
        );
    };
    sqlx::any::install_default_drivers();
    let name = format!("dunlin_rpc_{}", uuid::Uuid::now_v7().simple());
    let mut connection = sqlx::AnyConnection::connect(&server).await.unwrap();
    connection.execute(sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))).await.unwrap();
    let (scheme, rest) = server.split_once("://").unwrap();
    let (authority, _) = rest.split_once('/').unwrap();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
    let way = Way::to(host.to_owned()).await;
    let url = format!("{scheme}://{user}@{}/{name}", way.address);
    Some((way, url))
}

async fn health(cluster: &Cluster) -> i32 {
    let mut health = tonic_health::pb::health_client::HealthClient::new(cluster.channel());
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner().status
}

#[tokio::test]
async fn f04_it_waits_for_its_database_and_goes_on_without_it() {
    let Some((way, url)) = postgres().await else { return };
    let cluster = Cluster::start_with(|config| config.database = Some(url)).await;
    let ask = || async { cluster.clusters().get_cluster(v1::GetClusterRequest {}).await };
    let error = refused(ask().await, ErrorCode::Unavailable);
    assert!(error.message.contains("waits for its database") && error.retry_after.is_some());
    assert_eq!(health(&cluster).await, 2);

    way.set(true);
    cluster.eventually("the database is there", async |_| ask().await.is_ok()).await;
    assert_eq!(health(&cluster).await, 1);
    assert_eq!(ask().await.unwrap().into_inner().store, "postgresql");
    let worker = SimWorker::join(&cluster, "w1").await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    cluster.deployed(TILL, "hello").await;

    way.set(false);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let get = || async { cluster.functions().get_function(v1::GetFunctionRequest { name: TILL.into() }).await };
    let error = refused(get().await, ErrorCode::Unavailable);
    assert!(error.retry_after.is_some(), "{error:?}");
    // What is in memory goes on: streams, placement, the view of the cluster, tokens.
    assert_eq!(ask().await.unwrap().into_inner().workers.len(), 1);
    worker.set(|seen| seen.silent = true);
    gateway.eventually(&cluster, "w1 is out", |g| g.endpoints(1).is_empty()).await;
    worker.set(|seen| seen.silent = false);
    gateway.eventually(&cluster, "w1 is back", |g| g.endpoints(1) == ["w1/0"]).await;
    let fresh = SimGateway::connect(&cluster, "g22").await;
    fresh.eventually(&cluster, "the configuration", |g| g.received().wholes == 1).await;

    way.set(true);
    let took = cluster.eventually("it has reconnected", async |_| get().await.is_ok()).await;
    // Attempts are a few seconds apart at the most, and the machine may stand still for one.
    assert!(took < Duration::from_secs(10), "{took:?}");
    cluster.deployed(TILL, "other").await;
    gateway.eventually(&cluster, "the change", |g| g.received().config.functions[0].versions.len() == 2).await;
}

#[tokio::test]
async fn f04_a_locked_sqlite_file_is_waited_for_and_calls_say_so() {
    let cluster = Cluster::start().await;
    cluster.deployed(TILL, "hello").await;
    let path = cluster.config.data_dir.join("dunlin.db");
    sqlx::any::install_default_drivers();
    let mut other = sqlx::AnyConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let create = || async {
        cluster
            .namespaces()
            .create_namespace(v1::CreateNamespaceRequest { namespace_id: "shop".into(), ..Default::default() })
            .await
    };
    refused(create().await, ErrorCode::Unavailable);
    other.execute("ROLLBACK").await.unwrap();
    create().await.unwrap();
}

#[tokio::test]
async fn a_folder_and_a_port_in_use_are_named() {
    let cluster = Cluster::start().await;
    let error = Scheduler::bind(cluster.config.clone()).await.unwrap_err().to_string();
    assert!(error.contains("in use by another process") && error.contains("--data-dir"), "{error}");
    let mut other = cluster.config.clone();
    other.data_dir = cluster.folder.path().join("other");
    let error = Scheduler::bind(other.clone()).await.unwrap_err().to_string();
    assert!(error.contains(&other.listen.to_string()) && error.contains("--listen"), "{error}");
    let beyond = dunlin_scheduler::Config { listen: "192.0.2.1:7070".parse().unwrap(), ..other };
    let error = Scheduler::bind(beyond).await.unwrap_err().to_string();
    assert!(error.contains("192.0.2.1:7070") && error.contains("loopback"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_ours_ends_the_process() {
    let cluster = Cluster::start().await;
    let path = cluster.folder.path().join("foreign.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let mut config = cluster.config.clone();
    config.data_dir = cluster.folder.path().join("other");
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.database = Some(format!("sqlite://{}", path.display()));
    let scheduler = Scheduler::bind(config).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), scheduler.serve(Default::default())).await.unwrap();
    assert!(format!("{:#}", ended.unwrap_err()).contains("can't be used"));
}
