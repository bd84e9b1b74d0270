//! What guests wrote to their standard output and error, kept in bounded local files, one folder a namespace.
//!
//! Lines never wait on a disk: they go into a bounded queue of their tenant, within that tenant's rate, and a thread of its own
//! writes them (`writer.rs`) and tells followers. What a tenant writes too fast is dropped and counted; it can neither slow an
//! invocation nor push out another tenant's lines. Readers (`read.rs`, `search.rs`) look at the files alone.
//!
//! Each line has the number of the process's start (`boot.rs`) and its own number in its namespace since then, without holes:
//! what is missing is marked. So a reader can go on anywhere, and knows what it missed (`track.rs`). Numbers are counted by
//! namespace, since a tenant must not see how much others write.

mod boot;
mod bucket;
mod line;
mod read;
mod search;
mod segments;
pub(crate) mod service;
mod tenant;
mod track;
mod writer;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;
use dunlin_process::{metrics::count::Counters, shutdown::Shutdown};
use dunlin_proto::{ids::Namespace, internal::v1::NamespaceRetention, model::Retentions};
use tokio::{sync::mpsc, time::sleep};

pub(crate) use line::Source;
pub(crate) use tenant::Tenant;
use writer::{Order, Writer};

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLimits {
    /// Of all namespaces together, in bytes.
    pub(crate) total_bytes: u64,
    /// Of one namespace that says nothing else, in bytes.
    pub(crate) namespace_bytes: u64,
    /// What one namespace may write in a second, in bytes.
    pub(crate) rate_bytes: u64,
    /// How long a line is kept, where its namespace says nothing else.
    pub(crate) max_age: Duration,
}

/// The logs of this worker.
#[derive(Debug)]
pub(crate) struct Logs {
    folder: PathBuf,
    limits: LogLimits,
    /// The number of this start.
    boot: u64,
    tenants: Mutex<HashMap<Namespace, Arc<Tenant>>>,
    orders: mpsc::Sender<Order>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Lines taken, lines dropped, bytes lost, of all tenants.
    counted: Arc<Counters<3>>,
    /// What is kept of namespaces that have that of their own.
    retentions: Retentions,
}

/// How often it is looked for lines that are too old, whether any are written or not.
const LOOK_FOR_OLD: Duration = Duration::from_secs(60);

/// Tenants that may wait for the writer.
const WAITING_TENANTS: usize = 4096;

impl Logs {
    /// Opens the logs in `folder`, with what earlier processes left there. Where that can't be read or written, lines are lost
    /// until it can.
    ///
    /// # Errors
    /// There is no thread for the writer.
    pub(crate) fn open(folder: PathBuf, limits: LogLimits) -> anyhow::Result<Self> {
        let boot = boot::choose(&folder);
        let (orders, received) = mpsc::channel(WAITING_TENANTS);
        let retentions = Retentions::default();
        let writer = Writer::open(folder.clone(), limits, retentions.clone(), boot);
        let thread = std::thread::Builder::new().name("dunlin-logs".to_owned());
        let thread = thread.spawn(move || writer.run(received)).context("start the thread that writes logs")?;
        let (tenants, writer, counted) = (Mutex::default(), Mutex::new(Some(thread)), Arc::default());
        Ok(Self { folder, limits, boot, tenants, orders, writer, counted, retentions })
    }

    /// Keeps what these namespaces have of their own from now on, and as much of all others as the worker is set to.
    pub(crate) fn keep(&self, retentions: &[NamespaceRetention]) {
        if self.retentions.replace(retentions) {
            self.look();
        }
    }

    /// What was said last of that.
    pub(crate) fn kept(&self) -> Vec<NamespaceRetention> {
        self.retentions.all()
    }

    /// How long lines of a namespace are kept.
    fn max_age(&self, namespace: &Namespace) -> Duration {
        self.retentions.get(namespace).age.unwrap_or(self.limits.max_age)
    }

    /// Removes what is too old every now and then, until `shutdown`.
    pub(crate) async fn forget_old(&self, shutdown: Shutdown) {
        loop {
            tokio::select! { () = sleep(LOOK_FOR_OLD) => self.look(), () = shutdown.begun() => return }
        }
    }

    /// Has the writer look for what is too much or too old. Where it has too much to do it looks by itself soon.
    fn look(&self) {
        let _ = self.orders.try_send(Order::Look);
    }

    /// Where the lines of a namespace go.
    pub(crate) fn tenant(&self, namespace: &Namespace) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let (orders, counted) = (self.orders.clone(), self.counted.clone());
        let new = || Arc::new(Tenant::new(namespace.clone(), self.limits, self.boot, orders, counted));
        tenants.entry(namespace.clone()).or_insert_with(new).clone()
    }

    /// Lines that were taken in, lines that were dropped, and bytes that could not be written.
    pub(crate) fn counted(&self) -> (u64, u64, u64) {
        (self.counted.get(0), self.counted.get(1), self.counted.get(2))
    }

    /// Writes what is waiting, and ends the writer. Lines that come later are lost.
    pub(crate) async fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        // Both fail only where the writer has ended already.
        let _ = self.orders.send(Order::Stop).await;
        let _ = tokio::task::spawn_blocking(move || writer.join()).await;
    }
}

#[cfg(test)]
mod tests;
