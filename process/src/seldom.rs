//! Waiting for what hardly ever comes, in a task that other things wake all the time.
//!
//! Looking at the end of a process takes two locks that all of its tasks share: a connection that did so whenever a request comes
//! would wait for all others.

use std::future::{Future, pending};

use futures::{StreamExt, stream::FuturesUnordered};

/// Waits for a future which is looked at once, and then only after it has asked for that. Cancel-safe where the future is.
pub async fn seldom<F: Future>(future: F) -> F::Output {
    // Each of such a set has a waker of its own.
    let mut alone = FuturesUnordered::from_iter([future]);
    match alone.next().await {
        Some(output) => output,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        sync::atomic::{AtomicU32, Ordering},
        task::Poll,
    };

    use super::*;
    use crate::shutdown::Shutdown;

    #[tokio::test]
    async fn what_has_nothing_to_say_is_looked_at_once() {
        let (looks, shutdown) = (AtomicU32::new(0), Shutdown::default());
        let mut end = pin!(shutdown.begun());
        let watched = poll_fn(|context| {
            looks.fetch_add(1, Ordering::Relaxed);
            end.as_mut().poll(context)
        });
        let mut watched = pin!(seldom(watched));
        for _ in 0..100 {
            assert!(futures::poll!(watched.as_mut()).is_pending());
        }
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        shutdown.begin();
        assert_eq!(futures::poll!(watched.as_mut()), Poll::Ready(()));
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_whoever_waits() {
        let shutdown = Shutdown::default();
        let later = async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            shutdown.begin();
        };
        futures::join!(seldom(shutdown.begun()), later);
    }
}
