//! How a process ends: the first signal asks it to finish what runs, the second one ends it at once.
//!
//! Every task of a process is spawned through [`Shutdown::spawn`], so that [`Shutdown::finish`] can wait for all of them
//! and name the time that it gave them.

use std::{future::Future, io, time::Duration};

use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The end of a process, or of one role in it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// One that begins with SIGTERM or SIGINT. A second signal exits with code 130.
    ///
    /// # Errors
    /// The system gives no signal handler.
    pub fn on_signal() -> io::Result<Self> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = Self::default();
        let token = shutdown.token.clone();
        shutdown.tasks.clone().spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {}, () = token.cancelled() => return }
            tracing::info!("stopping; a second signal stops at once");
            token.cancel();
            // Not tracked: it must not keep the process waiting for a signal that never comes.
            std::mem::drop(TaskTracker::new().spawn(async move {
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
                std::process::exit(130);
            }));
        });
        Ok(shutdown)
    }

    /// The end of a part of this process: it ends with the whole, and can end before.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tasks: TaskTracker::new() }
    }

    /// Asks everything to end.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether everything has been asked to end.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until everything is asked to end. Cancel-safe.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// The token behind it, for libraries that take one.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Runs a task that [`Shutdown::finish`] waits for. The task itself watches for [`Shutdown::begun`].
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.tasks.spawn(task)
    }

    /// The same on another runtime than this one.
    pub fn spawn_on<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
        runtime: &Handle,
    ) -> tokio::task::JoinHandle<T> {
        self.tasks.spawn_on(task, runtime)
    }

    /// Waits until all tasks have ended, or `grace` is over; says which.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.tasks.close();
        let done = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        if !done {
            tracing::warn!(?grace, tasks = self.tasks.len(), "some work did not end within the grace period");
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_its_tasks_and_no_longer_than_the_grace_period() {
        let shutdown = Shutdown::default();
        let part = shutdown.child();
        let watched = part.clone();
        part.spawn(async move { watched.begun().await });
        shutdown.begin();
        assert!(part.has_begun() && part.finish(Duration::from_secs(1)).await);
        let stuck = Shutdown::default();
        stuck.spawn(std::future::pending::<()>());
        assert!(!stuck.finish(Duration::from_secs(1)).await);
    }
}
