//! Two lanes for guests: the caller's own threads for short work, and threads of low priority for guests that have used more
//! CPU than most ever will. The kernel then lets short invocations through at once, however many long ones there are.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio::runtime;
use tokio::task::JoinSet;

use super::eager::Eager;
use super::meter::Meter;

/// Nice value of the slow lane: a tenth of a normal thread's share.
const SLOW_NICE: i32 = 10;

/// The slow lane's threads. Dropping it stops them without waiting.
#[derive(Debug)]
pub(super) struct Lanes {
    slow: Option<runtime::Runtime>,
}

impl Lanes {
    pub(super) fn new() -> std::io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let slow = runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("dunlin-slow")
            .on_thread_start(|| {
                // Linux keeps nice values per thread. Refused, guests are merely not set back.
                let _ = rustix::process::nice(SLOW_NICE);
            })
            .enable_all()
            .build()?;
        Ok(Self { slow: Some(slow) })
    }

    /// Runs `work` here until it ends or its meter says that it is heavy, then on the slow lane. None when the lane is gone.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        meter: &Meter,
        mut work: Pin<Box<dyn Future<Output = T> + Send>>,
    ) -> Option<T> {
        let eager = Eager::new();
        let early = poll_fn(|cx| match eager.poll(work.as_mut(), cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if meter.is_heavy() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        if early.is_some() {
            return early;
        }
        // A set aborts its task when it is dropped, as a dropped future would.
        let mut set = JoinSet::new();
        set.spawn_on(work, self.slow.as_ref()?.handle());
        set.join_next().await?.ok()
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        if let Some(slow) = self.slow.take() {
            slow.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::limits::Limits;
    use super::super::meter::Metered;
    use super::*;

    async fn thread_after_burning(lanes: &Lanes, rounds: u32) -> Option<String> {
        let meter = Arc::new(Meter::new(Limits::default()));
        let charged = meter.clone();
        let work = async move {
            let burn = std::pin::pin!(async {
                for _ in 0..rounds {
                    let began = std::time::SystemTime::now();
                    while began.elapsed().unwrap_or_default().as_millis() < 5 {
                        std::hint::spin_loop();
                    }
                    tokio::task::yield_now().await;
                }
                std::thread::current().name().unwrap_or_default().to_owned()
            });
            Metered { meter: &charged, inner: burn }.await
        };
        lanes.run(&meter, Box::pin(work)).await
    }

    #[tokio::test]
    async fn only_long_work_changes_lanes() {
        let lanes = Lanes::new().unwrap();
        assert_ne!(thread_after_burning(&lanes, 1).await.unwrap(), "dunlin-slow");
        assert_eq!(thread_after_burning(&lanes, 10).await.unwrap(), "dunlin-slow");
    }
}
