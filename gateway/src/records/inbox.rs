//! Where calls leave their records for the keeper, who comes by again and again: side by side in memory that stays, so that neither
//! needs the allocator for it. What becomes of them is `keeper.rs`'s.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Record;

/// Records that wait to be kept; beyond that they are dropped and counted, since callers come first.
const MOST: usize = 16_384;

/// Records that wait.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    closed: bool,
}

impl Inbox {
    /// Leaves a record, where there is room; says whether there was. Full is it where a disk can't keep up: the path of a call must not
    /// wait for that.
    pub(super) fn leave(&self, record: Record) -> bool {
        let mut waiting = self.lock();
        if waiting.closed || waiting.records.len() >= MOST {
            return false;
        }
        waiting.records.push(record);
        // Who is on the way already need not be called.
        let is_first = waiting.records.len() == 1;
        drop(waiting);
        if is_first {
            self.came.notify_one();
        }
        true
    }

    /// Waits until somebody has left something since. Cancel-safe.
    pub(super) async fn filled(&self) {
        self.came.notified().await;
    }

    /// Takes all that are there in exchange for `empty`, to be filled next.
    pub(super) fn take(&self, empty: &mut Vec<Record>) {
        std::mem::swap(&mut self.lock().records, empty);
    }

    /// Takes no more from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::records::file::tests::record;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_taken_once_and_more_than_the_most_is_refused() {
        let (inbox, mut taken) = (Inbox::default(), Vec::new());
        let filled = async || timeout(Duration::from_secs(1), inbox.filled()).await.is_ok();
        assert!(!filled().await);
        let left = (0..=MOST).filter(|_| inbox.leave(record("shop", "pay"))).count();
        assert!(left == MOST && filled().await && !filled().await);
        inbox.take(&mut taken);
        assert_eq!(taken.len(), MOST);
        taken.clear();
        assert!(inbox.leave(record("shop", "pay")) && filled().await);
        inbox.close();
        assert!(!inbox.leave(record("shop", "pay")));
        inbox.take(&mut taken);
        assert_eq!(taken.len(), 1);
    }
}
