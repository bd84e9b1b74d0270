//! The thread that writes log lines: the only one that touches the files, so that a slow disk delays nobody else.

use std::{
    collections::{HashMap, hash_map},
    fs, io,
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use dunlin_proto::{ids::Namespace, model::Retentions};
use tokio::{sync::mpsc, time::Instant};

use super::{
    LOOK_FOR_OLD, LogLimits, WAITING_TENANTS, boot,
    line::{Entry, Mark, Position, Why, micros},
    segments::{Segments, Share},
    tenant::Tenant,
};

/// How long the writer rests between batches. While it rests, a line wakes nobody: a wake-up for each line would cost more than
/// writing it, and to write a line costs nearly as much as to write a hundred.
const REST: Duration = Duration::from_millis(100);
/// Files that stay open.
const OPEN_FILES: usize = 64;

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Order {
    /// This tenant has lines.
    Write(Arc<Tenant>),
    /// Look for what is too much or too old.
    Look,
    /// Write what is ordered already, and end.
    Stop,
}

/// The files of all namespaces.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    limits: LogLimits,
    retentions: Retentions,
    namespaces: HashMap<Namespace, Segments>,
    /// Those who wrote since the start.
    tenants: HashMap<Namespace, Arc<Tenant>>,
    /// What could not be written and is still to be marked.
    missing: HashMap<Namespace, Mark>,
    /// When it was last looked for files that are too old.
    looked: Option<Instant>,
    /// The number of this start, until it is kept.
    unnumbered: Option<u64>,
    /// The last attempt to write failed, and that has been said.
    failing: bool,
}

impl Writer {
    /// Looks at what is in `folder`, as far as it can be read. Before anybody has said what namespaces have of their own, nothing
    /// is removed.
    pub(super) fn open(folder: PathBuf, limits: LogLimits, retentions: Retentions, boot: u64) -> Self {
        let (namespaces, tenants, missing) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (looked, unnumbered, failing) = (Some(Instant::now()), Some(boot), false);
        let mut writer = Self { folder, limits, retentions, namespaces, tenants, missing, looked, unnumbered, failing };
        if let Err(error) = writer.prepare() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the folder of the logs can't be used; logs of functions are lost until it can");
        }
        writer
    }

    fn prepare(&mut self) -> io::Result<()> {
        let (numbered, found) = (self.number(), self.find());
        numbered.and(found).and_then(|()| self.make_room())
    }

    /// Keeps the number of this start, where that is still to be done.
    fn number(&mut self) -> io::Result<()> {
        if let Some(boot) = self.unnumbered {
            boot::keep(&self.folder, boot)?;
            self.unnumbered = None;
        }
        Ok(())
    }

    fn find(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // What is no namespace is not ours.
            let Some(namespace) = entry.file_name().to_str().and_then(|name| name.parse::<Namespace>().ok()) else {
                continue;
            };
            self.namespaces.insert(namespace, Segments::open(entry.path())?);
        }
        Ok(())
    }

    /// How much is kept of a namespace, and for how long.
    fn share(&self, namespace: &Namespace) -> Share {
        let own = self.retentions.get(namespace);
        Share {
            bytes: own.log_bytes.unwrap_or(self.limits.namespace_bytes),
            age: own.age.unwrap_or(self.limits.max_age),
        }
    }

    pub(super) fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut round = Vec::new();
        // What is ordered while it writes waits for the next round.
        while orders.blocking_recv_many(&mut round, WAITING_TENANTS) > 0 {
            if round.drain(..).any(|order| self.carry_out(order).is_break()) {
                break;
            }
            thread::sleep(REST);
        }
        self.end();
    }

    fn carry_out(&mut self, order: Order) -> ControlFlow<()> {
        match order {
            Order::Write(tenant) => self.write(&tenant),
            Order::Look => self.look(),
            Order::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Removes what is too much or too old, also of namespaces that write nothing.
    fn look(&mut self) {
        self.looked = None;
        if let Err(error) = self.make_room() {
            tracing::warn!(error = &error as &dyn std::error::Error, "old logs of functions could not be removed");
        }
    }

    fn write(&mut self, tenant: &Arc<Tenant>) {
        let mut entries = tenant.take();
        if let Some(missing) = self.missing.remove(tenant.namespace()) {
            entries.insert(0, Entry::Mark(missing));
        }
        let (written, result) = self.append(tenant.namespace(), &entries);
        let unwritten = entries.split_off(written);
        entries.into_iter().for_each(|entry| tenant.publish(entry));
        self.tenants.entry(tenant.namespace().clone()).or_insert_with(|| tenant.clone());
        match result.and_then(|()| self.make_room()) {
            Ok(()) if std::mem::replace(&mut self.failing, false) => {
                tracing::info!("logs of functions are written again");
            }
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::error!(error = &error as &dyn std::error::Error, "logs of functions are being lost");
            }
            _ => {}
        }
        self.lose(tenant, &unwritten);
    }

    /// Tells followers what could not be written, and readers as soon as something can be.
    fn lose(&mut self, tenant: &Tenant, entries: &[Entry]) {
        let Some(last) = entries.last() else { return };
        let text = |entry: &Entry| match entry {
            Entry::Line(line) => line.text.len() as u64 + 1,
            Entry::Mark(_) | Entry::Passed(_) => 0,
        };
        tenant.lost(entries.iter().map(text).sum());
        let Position { boot, sequence } = last.position();
        let lines = entries.iter().map(Entry::lines).sum();
        let mark = Mark { time: last.time(), boot, sequence, lines, why: Why::Disk };
        tenant.publish(Entry::Mark(mark.clone()));
        self.missing.insert(tenant.namespace().clone(), mark);
    }

    /// Appends in pieces that fit a file, so that a large batch does not push out all that was there; says how many entries
    /// are written for certain.
    fn append(&mut self, namespace: &Namespace, entries: &[Entry]) -> (usize, io::Result<()>) {
        if let Err(error) = self.number() {
            return (0, Err(error));
        }
        let share = self.share(namespace);
        let piece = usize::try_from(share.bytes / 16).unwrap_or(usize::MAX);
        let mut written = 0;
        let mut bytes = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            if let Err(error) = serde_json::to_writer(&mut bytes, entry) {
                return (written, Err(error.into()));
            }
            bytes.push(b'\n');
            if bytes.len() >= piece || number + 1 == entries.len() {
                let lines = std::mem::take(&mut bytes);
                let appended = self.segments(namespace).and_then(|segments| segments.append(&lines, share));
                match appended {
                    Ok(()) => written = number + 1,
                    failed => return (written, failed),
                }
            }
        }
        (written, Ok(()))
    }

    /// Writes what is left, and that there is no more: the next process then knows that nothing is missing.
    fn end(&mut self) {
        for (namespace, tenant) in std::mem::take(&mut self.tenants) {
            self.write(&tenant);
            let Position { boot, sequence } = tenant.position();
            if self.missing.contains_key(&namespace) {
                continue;
            }
            let end = Mark { time: micros(SystemTime::now()), boot, sequence, lines: 0, why: Why::End };
            if let (_, Err(error)) = self.append(&namespace, &[Entry::Mark(end)]) {
                tracing::debug!(error = &error as &dyn std::error::Error, "could not close a log");
            }
        }
    }

    /// The files of a namespace; those of others are closed where too many are open.
    fn segments(&mut self, namespace: &Namespace) -> io::Result<&mut Segments> {
        if self.namespaces.values().filter(|segments| segments.is_open()).count() >= OPEN_FILES {
            self.namespaces.values_mut().for_each(Segments::close);
        }
        match self.namespaces.entry(namespace.clone()) {
            hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            hash_map::Entry::Vacant(new) => {
                // A validated name: it can't lead out of the folder.
                let folder = self.folder.join(namespace.as_str());
                Ok(new.insert(Segments::open(folder)?))
            }
        }
    }

    /// Removes what is too old, and takes from whoever has most, so that nobody pays for another.
    fn make_room(&mut self) -> io::Result<()> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_FOR_OLD) {
            self.looked = Some(Instant::now());
            let mut namespaces = std::mem::take(&mut self.namespaces);
            let kept = namespaces.iter_mut().try_for_each(|(name, segments)| segments.keep(self.share(name)));
            self.namespaces = namespaces;
            kept?;
        }
        while self.namespaces.values().map(Segments::bytes).sum::<u64>() > self.limits.total_bytes {
            let largest = self.namespaces.values_mut().max_by_key(|segments| segments.bytes());
            if !largest.map_or(Ok(false), Segments::remove_oldest)? {
                break;
            }
        }
        Ok(())
    }
}
