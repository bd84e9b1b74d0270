//! The conformance suite of the store: every case runs on SQLite in a temporary folder and on PostgreSQL.
//!
//! The server is the one of `DUNLIN_TEST_POSTGRES`, where each case makes a database of its own. Without the variable the
//! PostgreSQL half fails, unless `DUNLIN_TEST_SKIP_POSTGRES=1` says that it shall not run.

mod activations;
mod aliases;
mod apps;
mod audit;
mod catalog;
mod certificates;
mod claims;
mod deploys;
mod garbage;
mod idempotency;
mod members;
mod plans;
mod releases;
mod rollouts;
mod routes;
mod tenants;
mod usage;
mod webhooks;

use dunlin_proto::{
    ErrorCode,
    ids::{Digest, Namespace, VersionNumber},
    model::VersionSpec,
    names::FunctionRef,
};
use sqlx::AssertSqlSafe;

use super::*;
use crate::{
    capabilities::Changes,
    model::{Kind, NamespaceRecord, Policy, VersionRecord},
};

/// A store on a database that nobody else uses.
pub(super) struct Bench {
    pub(super) store: Store,
    pub(super) database: Database,
    /// Removed at the end.
    _folder: Option<tempfile::TempDir>,
    server: Option<(String, String)>,
}

impl Bench {
    async fn sqlite() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // A folder with every character that means something in a URL.
        let path = folder.path().join("100% a#b?c d");
        std::fs::create_dir(&path).unwrap();
        let database = Database::Sqlite(path.join("dunlin.db"));
        Some(Self { store: Store::open(&database).await.unwrap(), database, _folder: Some(folder), server: None })
    }

    async fn postgres() -> Option<Self> {
        let server = postgres_server()?;
        let name = format!("dunlin_store_{}", uuid::Uuid::now_v7().simple());
        execute(&server, format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').unwrap();
        let database = Database::from_url(&format!("{base}/{name}")).unwrap();
        let store = Store::open(&database).await.unwrap();
        Some(Self { store, database, _folder: None, server: Some((server, name)) })
    }

    async fn end(self) {
        self.store.close().await;
        if let Some((server, name)) = self.server {
            execute(&server, format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

fn postgres_server() -> Option<String> {
    if let Ok(server) = std::env::var("DUNLIN_TEST_POSTGRES") {
        return Some(server);
    }
    if std::env::var("DUNLIN_TEST_SKIP_POSTGRES").as_deref() == Ok("1") {
        eprintln!("SKIPPED: the PostgreSQL half of the store's suite, by DUNLIN_TEST_SKIP_POSTGRES=1");
        return None;
    }
    panic!(
        "DUNLIN_TEST_POSTGRES names no server: run the tests under .ci/tools/with-postgres, or set DUNLIN_TEST_SKIP_POSTGRES=1"
    );
}

async fn execute(server: &str, sql: String) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(server).await.unwrap();
    connection.execute(sqlx::query(AssertSqlSafe(sql))).await.unwrap();
}

/// Runs each case on both databases.
macro_rules! conformance {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                let bench = super::Bench::sqlite().await.unwrap();
                super::$case(&bench).await;
                bench.end().await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                if let Some(bench) = super::Bench::postgres().await {
                    super::$case(&bench).await;
                    bench.end().await;
                }
            })+
        }
    };
}
pub(super) use conformance;

conformance!(
    epochs_count_up_and_the_first_makes_a_namespace,
    opening_again_loses_nothing,
    a_caller_that_goes_away_leaves_no_transaction_behind,
    workers_are_remembered,
    old_requests_are_forgotten
);

pub(super) fn namespace(name: &str) -> NamespaceRecord {
    NamespaceRecord {
        name: name.parse().unwrap(),
        description: String::new(),
        create_time: Time(7),
        max_concurrency: None,
        rate: None,
        quota: None,
        retention: dunlin_proto::model::Retention::default(),
    }
}

pub(super) fn function(namespace: &str, name: &str) -> FunctionRef {
    FunctionRef { namespace: namespace.parse().unwrap(), function: name.parse().unwrap() }
}

pub(super) fn number(number: u32) -> VersionNumber {
    number.try_into().unwrap()
}

pub(super) fn request(namespace: &str, payload: &str) -> RequestKey {
    let scope = Scope::Namespace(namespace.parse().unwrap());
    RequestKey {
        scope,
        method: "Test",
        id: dunlin_proto::ids::RequestId::new(),
        payload: Digest::of(payload.as_bytes()),
    }
}

pub(super) fn new_version(function: &FunctionRef) -> NewVersion {
    NewVersion {
        function: function.clone(),
        artifact: Digest::of(b"wasm"),
        artifact_size: 4,
        kind: Kind::Http02,
        spec: VersionSpec::default(),
        imports: vec!["wasi:cli/stdout@0.2.0".into()],
        capabilities: Changes::default(),
        creator: "zoe".into(),
        note: "'\"; DROP TABLE versions; --".into(),
        compiled_size: 6,
        activation: true,
        canary: None,
        policy: Policy::default(),
        description: None,
    }
}

/// A version of a function in a namespace that exists afterwards.
pub(super) async fn deploy(bench: &Bench, function: &FunctionRef) -> VersionRecord {
    let _ = bench.store.namespace_create(&namespace(function.namespace.as_str()), None).await;
    let version = bench.store.version_create(&new_version(function), None).await.unwrap();
    bench.store.version_activate(&version.name()).await.unwrap();
    version
}

pub(super) async fn config_version(bench: &Bench) -> u64 {
    bench.store.catalog_load(Time(0)).await.unwrap().version
}

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: ErrorCode) -> String {
    let error = result.expect_err("it must be refused").into_api();
    assert_eq!(error.code, code, "{error}");
    error.message
}

async fn epochs_count_up_and_the_first_makes_a_namespace(bench: &Bench) {
    assert_eq!(bench.store.epoch_begin().await.unwrap(), 1);
    let default: Namespace = "default".parse().unwrap();
    bench.store.namespace_fetch(&default).await.unwrap();
    bench.store.namespace_delete(&default).await.unwrap();
    assert_eq!(bench.store.epoch_begin().await.unwrap(), 2);
    assert_eq!(
        refused(bench.store.namespace_fetch(&default).await, ErrorCode::NotFound),
        "namespace default was not found"
    );
}

async fn opening_again_loses_nothing(bench: &Bench) {
    let version = deploy(bench, &function("shop", "checkout")).await;
    let again = Store::open(&bench.database).await;
    // SQLite has one connection, so the first store must let go before anything is read through the second.
    let again = again.unwrap();
    assert_eq!(again.version_fetch(&version.name()).await.unwrap().uid, version.uid);
    assert_eq!(again.kind(), bench.store.kind());
    again.close().await;
}

/// Whichever step of it is the last that somebody waits for: the next one must find the connection outside of any
/// transaction, and what it writes must be there for others.
async fn a_caller_that_goes_away_leaves_no_transaction_behind(bench: &Bench) {
    for polls in 0..40 {
        let mut begin = Box::pin(bench.store.begin_snapshot());
        for _ in 0..polls {
            if futures::poll!(&mut begin).is_ready() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_micros(100)).await;
        }
        drop(begin);
        bench.store.beginnings.close();
        bench.store.beginnings.wait().await;
        bench.store.beginnings.reopen();
        while bench.store.pool.num_idle() < bench.store.pool.size() as usize {
            tokio::time::sleep(std::time::Duration::from_micros(100)).await;
        }
        assert_eq!(inside_transactions(bench).await, 0, "after {polls} polls");
    }
    deploy(bench, &function("shop", "checkout")).await;
}

/// How many connections wait inside a transaction, of PostgreSQL, which tells.
async fn inside_transactions(bench: &Bench) -> i64 {
    if bench.store.database.is_sqlite() {
        return 0;
    }
    let inside = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'";
    let mut other = AnyConnection::connect(&bench.database.url()).await.unwrap();
    let found = sqlx::query_scalar(inside).fetch_one(&mut other).await.unwrap();
    other.close().await.unwrap();
    found
}

async fn workers_are_remembered(bench: &Bench) {
    let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
    bench.store.worker_set_member(&one, true).await.unwrap();
    bench.store.worker_set_drained(&one, true).await.unwrap();
    bench.store.worker_set_drained(&two, true).await.unwrap();
    bench.store.worker_set_member(&one, false).await.unwrap();
    bench.store.worker_set_member(&one, true).await.unwrap();
    bench.store.worker_set_drained(&two, false).await.unwrap();
    let found = bench.store.worker_list().await.unwrap();
    assert_eq!(found[&one], WorkerRecord { member: true, drained: true });
    assert_eq!(found[&two], WorkerRecord::default());
}

async fn old_requests_are_forgotten(bench: &Bench) {
    deploy(bench, &function("shop", "checkout")).await;
    let key = request("shop", "a");
    bench.store.function_roll_back(&function("shop", "checkout"), Some(number(1)), Some(&key), "").await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(bench.store.request_expire(day, Time::now()).await.unwrap(), 0);
    assert!(bench.store.request_find::<VersionNumber>(&key).await.unwrap().is_some());
    assert_eq!(bench.store.request_expire(day, Time::now().after(day * 2)).await.unwrap(), 1);
    assert!(bench.store.request_find::<VersionNumber>(&key).await.unwrap().is_none());
}
