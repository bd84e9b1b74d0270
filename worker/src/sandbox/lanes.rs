//! Three lanes for guests: the call's own thread for short work, threads of their own for guests that compute, and threads of
//! low priority for those that have used more CPU than most ever will. The kernel then lets short invocations through at
//! once, however many long ones there are.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime;
use tokio::task::JoinSet;

use super::eager::Eager;
use super::effort::{Effort, Lane};
use super::meter::Meter;

/// Nice value of the slow lane: a tenth of a normal thread's share.
const SLOW_NICE: i32 = 10;

/// The threads of the other lanes. Dropping it stops them without waiting.
#[derive(Debug)]
pub(super) struct Lanes {
    guests: Option<runtime::Runtime>,
    slow: Option<runtime::Runtime>,
}

impl Lanes {
    /// So many threads for guests that compute.
    pub(super) fn new(threads: usize) -> std::io::Result<Self> {
        let guests = runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("dunlin-guests")
            .enable_all()
            .build()?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let slow = runtime::Builder::new_multi_thread()
            .worker_threads(processors)
            .thread_name("dunlin-slow")
            .on_thread_start(|| {
                // Linux keeps nice values per thread. Refused, guests are merely not set back.
                let _ = rustix::process::nice(SLOW_NICE);
            })
            .enable_all()
            .build()?;
        Ok(Self { guests: Some(guests), slow: Some(slow) })
    }

    /// Runs `work` on its lane until it ends or its meter says that it is heavy, then on the slow lane. None when the lane is
    /// gone.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        meter: &Arc<Meter>,
        lane: Lane,
        effort: Option<Effort>,
        work: Work<T>,
    ) -> Option<T> {
        let light = light(meter.clone(), Eager::new(effort), work);
        let light = match lane {
            Lane::Home => light.await,
            Lane::Guests => on(self.guests.as_ref()?, light).await?,
        };
        match light {
            Ok(done) => Some(done),
            Err((eager, mut work)) => {
                on(self.slow.as_ref()?, async move { poll_fn(|cx| eager.poll(work.as_mut(), cx)).await }).await
            }
        }
    }
}

/// What is to be run.
type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs work until it ends, or gives it back once it is heavy.
async fn light<T>(meter: Arc<Meter>, eager: Eager, mut work: Work<T>) -> Result<T, (Eager, Work<T>)> {
    let done = poll_fn(|cx| match eager.poll(work.as_mut(), cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if meter.is_heavy() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    done.await.ok_or((eager, work))
}

/// Runs something on other threads. Nothing where they are gone.
async fn on<T: Send + 'static>(
    threads: &runtime::Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    // A set aborts its task when it is dropped, as a dropped future would.
    let mut set = JoinSet::new();
    set.spawn_on(work, threads.handle());
    set.join_next().await?.ok()
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for threads in [self.guests.take(), self.slow.take()].into_iter().flatten() {
            threads.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use std::time::Duration;

    use super::super::limits::Limits;
    use super::super::meter::{Metered, tests::burn};
    use super::*;

    async fn thread_after_burning(lanes: &Lanes, rounds: u32) -> Option<String> {
        let meter = Arc::new(Meter::new(Limits::default()));
        let charged = meter.clone();
        let work = async move {
            let burn = std::pin::pin!(async {
                for _ in 0..rounds {
                    burn(Duration::from_millis(5));
                    tokio::task::yield_now().await;
                }
                std::thread::current().name().unwrap_or_default().to_owned()
            });
            Metered { meter: &charged, inner: burn }.await
        };
        lanes.run(&meter, Lane::Home, None, Box::pin(work)).await
    }

    #[tokio::test]
    async fn only_long_work_changes_lanes() {
        let lanes = Lanes::new(1).unwrap();
        // A machine that its host takes away for a moment makes short work look long, but not every time.
        let mut stayed = false;
        for _ in 0..5 {
            stayed = stayed || thread_after_burning(&lanes, 1).await.unwrap() != "dunlin-slow";
        }
        assert!(stayed);
        assert_eq!(thread_after_burning(&lanes, 10).await.unwrap(), "dunlin-slow");
    }
}
