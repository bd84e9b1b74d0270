//! The thread that writes log lines: the only one that touches the files, so that a slow disk delays nobody else.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs, io,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use dunlin_proto::ids::Namespace;
use tokio::sync::mpsc;

use super::{LogLimits, line::Line, segments::Segments, tenant::Tenant};

/// How long the writer rests between batches, at the most. While it rests, a line wakes nobody: a wake-up for each line would
/// cost more than writing it.
const REST: Duration = Duration::from_millis(20);
/// Files that stay open.
const OPEN_FILES: usize = 64;

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Order {
    /// This tenant has lines.
    Write(Arc<Tenant>),
    /// Write what is ordered already, and end.
    Stop,
}

/// The files of all namespaces.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    limits: LogLimits,
    namespaces: HashMap<Namespace, Segments>,
    /// The last attempt to write failed, and that has been said.
    failing: bool,
}

impl Writer {
    pub(super) fn open(folder: PathBuf, limits: LogLimits) -> io::Result<Self> {
        let mut namespaces = HashMap::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // What is no namespace is not ours.
            let Some(namespace) = entry.file_name().to_str().and_then(|name| name.parse::<Namespace>().ok()) else {
                continue;
            };
            namespaces.insert(namespace, Segments::open(entry.path(), limits.namespace_bytes)?);
        }
        let mut writer = Self { folder, limits, namespaces, failing: false };
        writer.make_room()?;
        Ok(writer)
    }

    pub(super) fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(Order::Write(tenant)) = orders.blocking_recv() {
            self.write(&tenant);
            if orders.is_empty() {
                thread::sleep(REST);
            }
        }
    }

    fn write(&mut self, tenant: &Tenant) {
        let lines = tenant.take();
        match self.append(tenant.namespace(), &lines).and_then(|()| self.make_room()) {
            Ok(()) => {
                if std::mem::replace(&mut self.failing, false) {
                    tracing::info!("logs of functions are written again");
                }
                lines.into_iter().for_each(|line| tenant.publish(line));
            }
            Err(error) => {
                tenant.lost(lines.iter().map(|line| line.text.len() as u64 + 1).sum());
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(error = &error as &dyn std::error::Error, "logs of functions are being lost");
                }
            }
        }
    }

    fn append(&mut self, namespace: &Namespace, lines: &[Line]) -> io::Result<()> {
        // In pieces that fit a file, so that a large batch does not push out all that was there.
        let piece = usize::try_from(self.limits.namespace_bytes / 16).unwrap_or(usize::MAX);
        let segments = self.segments(namespace)?;
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
            if bytes.len() >= piece {
                segments.append(&std::mem::take(&mut bytes))?;
            }
        }
        if bytes.is_empty() { Ok(()) } else { segments.append(&bytes) }
    }

    /// The files of a namespace; those of others are closed where too many are open.
    fn segments(&mut self, namespace: &Namespace) -> io::Result<&mut Segments> {
        if self.namespaces.values().filter(|segments| segments.is_open()).count() >= OPEN_FILES {
            self.namespaces.values_mut().for_each(Segments::close);
        }
        match self.namespaces.entry(namespace.clone()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                // A validated name: it can't lead out of the folder.
                let folder = self.folder.join(namespace.as_str());
                Ok(new.insert(Segments::open(folder, self.limits.namespace_bytes)?))
            }
        }
    }

    /// Takes from whoever has most, so that nobody pays for another.
    fn make_room(&mut self) -> io::Result<()> {
        while self.namespaces.values().map(Segments::bytes).sum::<u64>() > self.limits.total_bytes {
            let largest = self.namespaces.values_mut().max_by_key(|segments| segments.bytes());
            if !largest.map_or(Ok(false), Segments::remove_oldest)? {
                break;
            }
        }
        Ok(())
    }
}
