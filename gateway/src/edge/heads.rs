//! How long a connection waits for the head of a request. What that says is not known here.
//!
//! hyper takes a new timer for each head and drops it once the head is there. One that goes on from head to head costs next to
//! nothing as long as it does not run out: where it fires too early, it is set to what is wanted by then.

#![expect(clippy::disallowed_types, reason = "it is what hyper reckons with")]

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant as StdInstant},
};

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

/// The timer of a connection.
#[derive(Debug, Clone)]
pub(super) struct HeadTimer(Arc<Mutex<Running>>);

type Running = Pin<Box<tokio::time::Sleep>>;

/// A time until which is waited.
#[derive(Debug)]
struct Until {
    deadline: Instant,
    timer: HeadTimer,
}

impl HeadTimer {
    /// One for heads that have so much time.
    pub(super) fn new(patience: Duration) -> Self {
        Self(Arc::new(Mutex::new(Box::pin(tokio::time::sleep(patience)))))
    }

    fn until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until { deadline, timer: self.clone() })
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn Sleep>> {
        self.until(deadline.into())
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

impl Sleep for Until {}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut running = self.timer.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.deadline() > self.deadline {
            running.as_mut().reset(self.deadline);
        }
        loop {
            ready!(running.as_mut().poll(context));
            if running.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            running.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_head_has_its_whole_time() {
        let timer = HeadTimer::new(PATIENCE);
        for waited in [0, 4, 9, 9, 25] {
            let begun = Instant::now();
            let head = timer.sleep_until((begun + PATIENCE).into_std());
            let arrived = tokio::time::timeout(Duration::from_secs(waited), head).await;
            assert_eq!((arrived.is_ok(), begun.elapsed().as_secs()), (waited > 10, waited.min(10)), "{waited}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_less_time_waits_no_longer() {
        let (timer, begun) = (HeadTimer::new(PATIENCE), Instant::now());
        timer.sleep(Duration::from_secs(3)).await;
        assert_eq!(begun.elapsed().as_secs(), 3);
        timer.sleep(PATIENCE).await;
        assert_eq!(begun.elapsed().as_secs(), 13);
    }
}
