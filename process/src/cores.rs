//! Threads for what is done for every call: each runs tasks of its own, which never change to another one. Waking a task of
//! the same thread costs next to nothing; waking another thread costs as much as a small call does.
//!
//! Everything else of a process runs on the threads of `lib.rs`.

use std::{io, sync::Arc, thread};

use tokio::{
    runtime::{self, Handle, Runtime},
    sync::Semaphore,
};

/// Threads with a runtime each. Clones share them; they end with the last clone, and what they run is not waited for.
#[derive(Debug, Clone)]
pub struct Cores {
    handles: Arc<[Handle]>,
    /// Its end is theirs.
    _open: Option<Arc<Open>>,
}

#[derive(Debug)]
struct Open(Arc<Semaphore>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Cores {
    /// So many threads.
    ///
    /// # Errors
    /// The system gives no threads or no event queue.
    pub fn start(count: usize) -> io::Result<Self> {
        let open = Arc::new(Semaphore::new(0));
        let handles = (0..count.max(1)).map(|number| start(number, open.clone()));
        Ok(Self { handles: handles.collect::<io::Result<_>>()?, _open: Some(Arc::new(Open(open))) })
    }

    /// Threads for a role that is not alone on its machine: one for every second processor. On two processors a worker with
    /// two threads beside a gateway served a quarter fewer small calls than one with one.
    #[must_use]
    pub fn half() -> usize {
        (Self::all() / 2).max(1)
    }

    /// A thread for each processor.
    #[must_use]
    pub fn all() -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }

    /// The runtime that this runs on, as the only one.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn here() -> Self {
        Self { handles: [Handle::current()].into(), _open: None }
    }

    /// Where to spawn: the runtime of each thread.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// The runtime of a thread, counted round and round.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "there is a thread at least")]
    pub fn handle(&self, number: usize) -> &Handle {
        let count = self.handles.len();
        self.handles.get(number % count).expect("there is a thread at least")
    }
}

fn start(number: usize, open: Arc<Semaphore>) -> io::Result<Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name(format!("dunlin-core-{number}")).spawn(move || run(&runtime, &open))?;
    Ok(handle)
}

/// Runs what is spawned on a runtime until all is over.
fn run(runtime: &Runtime, open: &Semaphore) {
    // It has no permits: only its end is waited for.
    let _ = runtime.block_on(open.acquire());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_task_spawns_stays_on_its_thread() {
        let cores = Cores::start(2).unwrap();
        let mut threads = Vec::new();
        for handle in cores.handles() {
            let nested = async {
                (thread::current().id(), Handle::current().spawn(async { thread::current().id() }).await.unwrap())
            };
            let (outer, inner) = handle.spawn(nested).await.unwrap();
            assert_eq!(outer, inner);
            threads.push(outer);
        }
        assert!(threads[0] != threads[1] && !threads.contains(&thread::current().id()));
    }

    #[tokio::test]
    async fn they_end_with_the_last_clone() {
        let cores = Cores::start(1).unwrap();
        let task = cores.clone().handle(3).spawn(std::future::pending::<()>());
        drop(cores);
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
