//! Polls guest work again at once when it has woken itself. A guest and the delivery of its answer wake each other several
//! times in a short call; handing each turn back to the scheduler would let all other calls begin first, so that many guests
//! were half done at once and none of them was in the processor's caches any more. This changes only the order of turns:
//! work that waits for anybody else, or has had its slice of time, waits like any other.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::effort::Effort;

/// Time after which work has had its turn. Below the tick that interrupts guests, so that a guest that computes gives way at
/// each of its interrupts.
const SLICE: Duration = Duration::from_millis(1);

/// Nobody polls: who wakes, wakes the task.
const WAITING: u8 = 0;
/// Being polled: who wakes, has it polled again.
const POLLING: u8 = 1;
/// Was woken while it was being polled.
const AGAIN: u8 = 2;

/// What the work's wakers lead to.
#[derive(Debug, Default)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
    /// What the work takes of the worker while it can go on.
    effort: Option<Effort>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.compare_exchange(POLLING, AGAIN, AcqRel, Acquire) == Err(WAITING) {
            self.begin();
            self.task.wake();
        }
    }
}

impl Bell {
    fn begin(&self) {
        if let Some(effort) = &self.effort {
            effort.awake();
        }
    }

    fn end(&self) {
        if let Some(effort) = &self.effort {
            effort.asleep();
        }
    }

    /// Ends a poll; says whether the work was woken meanwhile.
    fn is_again(&self) -> bool {
        self.state.compare_exchange(POLLING, WAITING, AcqRel, Acquire).is_err()
    }
}

/// One piece of work and its bell.
#[derive(Debug)]
pub(super) struct Eager {
    bell: Arc<Bell>,
    waker: Waker,
}

impl Eager {
    pub(super) fn new(effort: Option<Effort>) -> Self {
        let bell = Arc::new(Bell { effort, ..Bell::default() });
        Self { waker: bell.clone().into(), bell }
    }

    /// Polls until the work is done, waits for somebody else, or has had its slice.
    pub(super) fn poll<F: Future + ?Sized>(&self, mut work: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let began = Instant::now();
        self.bell.task.register(cx.waker());
        self.bell.begin();
        loop {
            self.bell.state.store(POLLING, Release);
            let polled = work.as_mut().poll(&mut Context::from_waker(&self.waker));
            if polled.is_ready() || !self.bell.is_again() {
                self.bell.end();
                return polled;
            }
            if began.elapsed() >= SLICE {
                self.bell.state.store(WAITING, Release);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Eager {
    fn drop(&mut self) {
        // Somebody may keep a waker for longer.
        self.bell.end();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use futures::FutureExt;

    use super::*;

    #[derive(Default)]
    struct Rings(AtomicU32);

    impl Wake for Rings {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Polls once; says what came of it, how often the work was polled, and how often the task was woken.
    fn once(mut work: impl FnMut(u32, &Waker) -> Poll<()>) -> (Poll<()>, u32, u32) {
        let (rings, mut polls) = (Arc::new(Rings::default()), 0);
        let work = pin!(poll_fn(|cx| {
            polls += 1;
            work(polls, cx.waker())
        }));
        let polled = Eager::new(None).poll(work, &mut Context::from_waker(&rings.clone().into()));
        (polled, polls, rings.0.load(Relaxed))
    }

    #[test]
    fn work_that_wakes_itself_goes_on_at_once() {
        let three = once(|polls, waker| {
            waker.wake_by_ref();
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!(three, (Poll::Ready(()), 3, 0));
        assert_eq!(once(|_, _| Poll::Pending), (Poll::Pending, 1, 0));
    }

    #[test]
    fn work_that_has_had_its_slice_gives_way_and_is_not_forgotten() {
        let mut seen = Vec::new();
        // On a busy machine a sleep may take the whole slice.
        while seen.iter().all(|polls| *polls < 2) {
            let (polled, polls, rings) = once(|_, waker| {
                std::thread::sleep(SLICE / 4);
                waker.wake_by_ref();
                Poll::Pending
            });
            assert!(polled.is_pending() && polls <= 5 && rings == 1, "{polls} polls, {rings} rings");
            assert!(seen.len() < 1_000, "it never went on within its slice");
            seen.push(polls);
        }
    }

    #[tokio::test]
    async fn whoever_is_waited_for_wakes_the_task() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut receiver = pin!(receiver.map(Result::unwrap));
        let eager = Eager::new(None);
        let waiting = tokio::time::timeout(Duration::from_secs(20), poll_fn(|cx| eager.poll(receiver.as_mut(), cx)));
        let later = async {
            tokio::task::yield_now().await;
            sender.send(7).unwrap();
        };
        assert_eq!(tokio::join!(waiting, later).0, Ok(7));
    }
}
