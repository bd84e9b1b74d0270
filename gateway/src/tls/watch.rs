//! Notices that the files of certificates have changed, and uses what they hold for new connections; those that are open go
//! on. What can't be used changes nothing, and is told once.
//!
//! What the files hold is compared, not when they were written: a folder that is swapped by a link has the time of its
//! making, not of its swap.

use std::time::Duration;

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::ids::Digest;
use tokio::signal::unix::Signal;

use super::{Current, Pair, Tls};

/// What the files held at the last look, or why they could not be read.
type Seen = Result<Digest, String>;

/// What became of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// They hold what they held.
    Unchanged,
    /// New connections get what they hold now.
    Replaced,
    /// What they hold can't be used.
    Refused,
}

/// Looks at the files.
#[derive(Debug)]
pub(super) struct Watcher {
    tls: Tls,
    seen: Option<Seen>,
}

impl Tls {
    /// Looks at the files in this interval, and whenever the signal comes, until the shutdown.
    pub(crate) async fn watch(self, mut signal: Signal, interval: Duration, shutdown: Shutdown) {
        let mut watcher = Watcher::new(self);
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                Some(()) = signal.recv() => watcher.forget(),
                () = tokio::time::sleep(interval) => {}
            }
            watcher = match tokio::task::spawn_blocking(move || (watcher.look(), watcher)).await {
                Ok((_, watcher)) => watcher,
                // The runtime ends.
                Err(_) => return,
            };
        }
    }
}

impl Watcher {
    pub(super) fn new(tls: Tls) -> Self {
        let seen = Some(Ok(tls.0.opened));
        Self { tls, seen }
    }

    /// Takes whatever is in the files for new.
    fn forget(&mut self) {
        self.seen = None;
    }

    pub(super) fn look(&mut self) -> Look {
        let read = Pair::read_all(&self.tls.0.files);
        let text = |error| format!("{:#}", anyhow::Error::from(error));
        let (seen, pairs) = match read {
            Ok(pairs) => (Ok(Pair::digest(&pairs)), pairs),
            Err(error) => (Err(text(error)), Vec::new()),
        };
        if self.seen.as_ref() == Some(&seen) {
            return Look::Unchanged;
        }
        let current = seen.clone().and_then(|_| Current::new(&pairs, self.tls.0.issued.clone()).map_err(text));
        self.seen = Some(seen);
        self.apply(current)
    }

    fn apply(&self, current: Result<Current, String>) -> Look {
        match current {
            Ok(current) => {
                self.tls.0.current.store(current.into());
                tracing::info!(
                    certificates = self.tls.0.files.len(),
                    "new connections get the certificates of the files"
                );
                Look::Replaced
            }
            Err(error) => {
                tracing::error!(%error, "the certificates of the files can't be used; those from before stay in force");
                Look::Refused
            }
        }
    }
}
