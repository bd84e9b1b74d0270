//! The only place with SQL, and the only owner of durable state; methods are named noun first.
//!
//! Durable is what nobody else can tell again after a restart: namespaces, functions, versions and their traffic, aliases,
//! routes, releases, the domains on which they are served or shall be, with their certificates, who has uploaded what, the seals of compiled code, hashes of keys, what requests with an id or an idempotency key have done, which workers are
//! members or drained, who has changed what, usage by the hour, budgets, webhooks and what they are to be told, and two counters. Not durable: where versions run, load and demand; workers and gateways report
//! them anew. Statements are static texts with placeholders (threat T50), and each that touches a tenant's rows has the
//! namespace in its WHERE (T46). One set of statements serves SQLite and PostgreSQL; `store/` has a file a resource.

mod aliases;
mod apps;
mod artifacts;
mod audit;
mod budgets;
mod catalog;
mod certificates;
mod changes;
mod claims;
mod collection;
mod domains;
mod functions;
mod garbage;
mod holders;
mod idempotency;
mod imports;
mod keys;
mod members;
mod migrations;
mod namespaces;
mod owned;
mod plans;
mod quotas;
mod releases;
mod requests;
mod reservations;
mod restore;
mod rollouts;
mod routes;
mod row;
mod usage;
mod versions;
mod webhooks;
mod workers;

use std::{path::PathBuf, sync::Arc, time::Duration};

use dunlin_proto::{
    audit::{AuditSigner, Author},
    idempotency::Hold,
};
use sqlx::{
    Any, AnyConnection, AnyPool, Connection, Executor, Row, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::MigrateError,
};
use tokio_util::task::TaskTracker;

pub(crate) use self::{
    aliases::AliasChange,
    apps::{Activated, Activation, AppRecord},
    audit::{AuditFilter, Hashed},
    catalog::{CatalogChanges, CatalogNews, CatalogRows, CoreRows},
    functions::FunctionChange,
    idempotency::{Begun, lost as lost_answer},
    imports::Import,
    keys::KeyCursor,
    namespaces::NamespaceChange,
    owned::Owner,
    quotas::Settlement,
    requests::{RequestKey, Scope},
    rollouts::{MOST_FUNCTIONS as MOST_ROLLOUT_FUNCTIONS, Move, NewRollout, Pending, Target},
    versions::NewVersion,
    workers::WorkerRecord,
};
use crate::{audit::Change, error::Error, model::Time};
use changes::config_bump;

/// How long a call waits for a connection. Less than clients wait for an answer.
const ACQUIRE: Duration = Duration::from_secs(3);

/// Connections to PostgreSQL at the most. SQLite has one, since it has one writer.
const CONNECTIONS: u32 = 8;

/// How often a transaction that lost against another is tried again.
const ATTEMPTS: usize = 8;

/// Which database, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by URL.
    Postgres(String),
}

impl Database {
    /// Reads `sqlite:///path` or `postgres://...`; nothing where it is neither.
    pub(crate) fn from_url(url: &str) -> Option<Self> {
        if let Some(path) = url.strip_prefix("sqlite://").filter(|path| path.starts_with('/')) {
            return Some(Self::Sqlite(path.into()));
        }
        let postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
        (postgres && url.parse::<AnyConnectOptions>().is_ok()).then(|| Self::Postgres(url.to_owned()))
    }

    /// What `GetCluster` calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgresql",
        }
    }

    fn url(&self) -> String {
        match self {
            // The path is the user's: characters with a meaning in URLs are written as theirs.
            Self::Sqlite(path) => {
                let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
                format!("sqlite://{path}?mode=rwc")
            }
            Self::Postgres(url) => url.clone(),
        }
    }

    /// What each new connection is told. SQLite: readers don't wait for the writer, nothing acknowledged is lost with the
    /// power. PostgreSQL: no statement and no forgotten transaction holds others up.
    fn greeting(&self) -> &'static [&'static str] {
        match self {
            Self::Sqlite(_) => &[
                "PRAGMA busy_timeout = 2000",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "PRAGMA foreign_keys = ON",
            ],
            Self::Postgres(_) => &[
                "SET statement_timeout = '10s'",
                "SET lock_timeout = '5s'",
                "SET idle_in_transaction_session_timeout = '30s'",
            ],
        }
    }

    fn pool(&self) -> Result<AnyPool, Error> {
        sqlx::any::install_default_drivers();
        let (greeting, connections) = (self.greeting(), if self.is_sqlite() { 1 } else { CONNECTIONS });
        let options = AnyPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE);
        let options = if self.is_sqlite() { options.idle_timeout(None).max_lifetime(None) } else { options };
        let options = options.after_connect(move |connection, _| {
            Box::pin(async move {
                for statement in greeting {
                    connection.execute(*statement).await?;
                }
                Ok(())
            })
        });
        Ok(options.connect_lazy(&self.url())?)
    }

    /// Connects once without a pool, which would only say that it had no connection in time.
    async fn knock(&self) -> Result<(), Error> {
        let knock = async {
            let mut connection = AnyConnection::connect(&self.url()).await?;
            for statement in self.greeting() {
                connection.execute(*statement).await?;
            }
            connection.close().await
        };
        Ok(tokio::time::timeout(ACQUIRE, knock).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?)
    }

    fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

/// A database that can't become ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// It is away: worth trying again.
    #[error("database can't be reached")]
    Away(#[source] Error),
    /// It is there, and trying again won't help.
    #[error("database can't be used")]
    Unusable(#[source] anyhow::Error),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        if error.is_transient() { Self::Away(error) } else { Self::Unusable(error.into()) }
    }
}

impl From<MigrateError> for OpenError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => Error::Database(error).into(),
            other => Self::Unusable(anyhow::Error::new(other).context("apply migrations")),
        }
    }
}

/// An open database with all migrations applied.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: AnyPool,
    /// The transactions that are just being begun.
    beginnings: TaskTracker,
    database: Database,
    /// On whose behalf changes are made; by default the platform's own.
    author: Arc<Author>,
    /// The entry of the audit log that has to be the last one still, where that matters.
    unchanged_since: Option<u64>,
    /// The idempotency key by which changes are made, where there is one.
    hold: Option<Hold>,
    /// Signs the end of the audit log. Absent in tests alone.
    auditor: Option<Arc<AuditSigner>>,
}

impl Store {
    /// Opens the database, and applies the migrations that it lacks.
    pub(crate) async fn open(database: &Database) -> Result<Self, OpenError> {
        let pool = database.pool()?;
        database.knock().await?;
        let migrated = migrations::all().run(&pool).await;
        if migrated.is_err() {
            pool.close().await;
        }
        migrated?;
        Ok(Self {
            pool,
            beginnings: TaskTracker::new(),
            database: database.clone(),
            author: Arc::default(),
            unchanged_since: None,
            hold: None,
            auditor: None,
        })
    }

    /// The same store for changes of somebody who is known by name alone.
    pub(crate) fn acting(&self, subject: &str) -> Self {
        self.by(Author { subject: subject.to_owned(), ..Author::default() })
    }

    /// The same store for a change that is made only if nothing has changed since this entry of the audit log.
    pub(crate) fn unless_changed(self, unchanged_since: Option<u64>) -> Self {
        Self { unchanged_since, ..self }
    }

    /// The same store, whose audit log this key signs.
    pub(crate) fn audited(self, auditor: Arc<AuditSigner>) -> Self {
        Self { auditor: Some(auditor), ..self }
    }

    /// What `GetCluster` calls the database.
    pub(crate) fn kind(&self) -> &'static str {
        self.database.kind()
    }

    /// Whether the database answers at all.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Lets go of all connections; SQLite folds its log into the file.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Counts this start, and makes the namespace `default` with the first.
    pub(crate) async fn epoch_begin(&self) -> Result<u64, Error> {
        let mut tx = self.begin().await?;
        let epoch = counter_next(&mut tx, "epoch").await?;
        idempotency::free_in_tx(&mut tx).await?;
        if epoch == 1 {
            let insert = "INSERT INTO namespaces (name, description, create_time) VALUES ('default', '', $1)";
            sqlx::query(insert).bind(Time::now().0).execute(&mut *tx).await?;
            config_bump(&mut tx).await?;
            let change = Change::of_cluster("namespace.create", &"namespaces/default");
            self.audit_in_tx(&mut tx, Change { namespace: "default".to_owned(), ..change }).await?;
        }
        tx.commit().await?;
        Ok(row::unsigned(epoch))
    }

    async fn begin(&self) -> Result<Transaction<'static, Any>, Error> {
        let mut tx = self.begin_whole().await?;
        self.check_unchanged_in_tx(&mut tx).await?;
        Ok(tx)
    }

    /// A transaction whose statements all see one state.
    async fn begin_snapshot(&self) -> Result<Transaction<'static, Any>, Error> {
        let mut tx = self.begin_whole().await?;
        if !self.database.is_sqlite() {
            tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        }
        Ok(tx)
    }

    /// A transaction that is begun to the end, also where its caller goes away meanwhile. Left half-way, the driver
    /// would give the connection back inside a transaction that it does not know of, and the next would be in it.
    async fn begin_whole(&self) -> Result<Transaction<'static, Any>, Error> {
        let pool = self.pool.clone();
        let begun = self.beginnings.spawn(async move { pool.begin().await }).await;
        Ok(begun.map_err(|_| sqlx::Error::WorkerCrashed)??)
    }
}

/// Counts up, and holds the row until the transaction ends: writers of the configuration come one after the other.
async fn counter_next(tx: &mut Transaction<'static, Any>, name: &'static str) -> Result<i64, Error> {
    let sql = "UPDATE counters SET value = value + 1 WHERE name = $1 RETURNING value";
    Ok(sqlx::query(sql).bind(name).fetch_one(&mut **tx).await?.try_get("value")?)
}

/// Whether a transaction lost against another one and may win the next time.
fn is_conflict(error: &Error) -> bool {
    let Error::Database(sqlx::Error::Database(error)) = error else { return false };
    error.is_unique_violation() || error.code().is_some_and(|code| matches!(&*code, "40001" | "40P01"))
}

/// Runs a transaction again while it loses against others; what it read the time before is read anew.
macro_rules! retried {
    ($transaction:expr) => {{
        let mut attempt = 1;
        loop {
            match $transaction.await {
                Err(error) if $crate::store::is_conflict(&error) && attempt < $crate::store::ATTEMPTS => attempt += 1,
                ended => break ended,
            }
        }
    }};
}
use retried;

#[cfg(test)]
pub(crate) mod tests;
