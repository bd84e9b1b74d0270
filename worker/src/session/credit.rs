//! How many bytes of an answer's body the gateway is ready to take.

use std::sync::atomic::{AtomicU64, Ordering};

use dunlin_proto::INITIAL_CREDIT_BYTES;
use tokio::sync::Notify;

use super::Fault;

/// More than any answer can have.
const ABSURD: u64 = 1 << 40;

/// Credit that a gateway grants and one answer uses up.
#[derive(Debug)]
pub(super) struct Credit {
    left: AtomicU64,
    more: Notify,
}

impl Credit {
    pub(super) fn new() -> Self {
        Self { left: AtomicU64::new(INITIAL_CREDIT_BYTES), more: Notify::new() }
    }

    /// The gateway grants more.
    pub(super) fn add(&self, bytes: u64) -> Result<(), Fault> {
        if bytes > ABSURD || self.left.fetch_add(bytes, Ordering::AcqRel) > ABSURD {
            return Err(Fault::new(format!("a credit of {bytes} bytes")));
        }
        self.more.notify_one();
        Ok(())
    }

    /// Takes some of what is wanted, waiting until there is any. Cancel-safe; for one waiter.
    pub(super) async fn take(&self, wanted: usize) -> usize {
        loop {
            // Only the answer takes, so that nothing is lost between looking and taking.
            let taken = self.left.load(Ordering::Acquire).min(wanted as u64);
            if taken > 0 || wanted == 0 {
                self.left.fetch_sub(taken, Ordering::AcqRel);
                return usize::try_from(taken).unwrap_or(wanted);
            }
            self.more.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_credit_and_takes_no_more() {
        let credit = Credit::new();
        assert_eq!(credit.take(200 << 10).await, 200 << 10);
        assert_eq!(credit.take(100 << 10).await, 56 << 10);
        let waiting = tokio::time::timeout(Duration::from_secs(1), credit.take(1));
        assert!(waiting.await.is_err());
        credit.add(10).unwrap();
        assert_eq!((credit.take(4).await, credit.take(100).await), (4, 6));
        assert!(credit.add(u64::MAX).is_err());
    }
}
