//! What the audit log shall know and the scheduler does not see: attempts that were refused here, and sign-ins. Alike ones are
//! counted together, and of the others only so many in a time are told, so that nobody fills the log by being refused.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::internal::v1::{Attempt, NoteAttemptsRequest};
use tokio::sync::Notify;

use crate::upstream::Scheduler;

/// Different attempts that are told at once; of others only how many there were.
const MOST: usize = 20;

/// How long the first waits for others, and how long the next ones wait then.
const GATHER: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_secs(30);

/// How long the scheduler may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Attempts that have not been told. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    news: Notify,
}

#[derive(Debug, Default, PartialEq)]
struct Pending {
    attempts: Vec<Attempt>,
    more: u32,
}

impl Pending {
    /// Counts an attempt.
    fn note(&mut self, new: Attempt) {
        let alike = |known: &Attempt| {
            let request_id = new.request_id.clone();
            Attempt { count: new.count, request_id, ..known.clone() } == new
        };
        if let Some(known) = self.attempts.iter_mut().find(|known| alike(known)) {
            known.count = known.count.saturating_add(new.count);
        } else if self.attempts.len() < MOST {
            self.attempts.push(new);
        } else {
            self.more = self.more.saturating_add(new.count);
        }
    }
}

impl Attempts {
    /// Notes an attempt, to tell it later.
    pub(crate) fn note(&self, attempt: Attempt) {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner).note(attempt);
        self.0.news.notify_one();
    }

    fn take(&self) -> Pending {
        std::mem::take(&mut *self.0.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the scheduler until the shutdown.
    pub(crate) async fn run(self, gateway: String, scheduler: Scheduler, shutdown: Shutdown) {
        loop {
            tokio::select! { () = self.0.news.notified() => {}, () = shutdown.begun() => break }
            tokio::time::sleep(GATHER).await;
            self.tell(&gateway, &scheduler).await;
            tokio::select! { () = tokio::time::sleep(PAUSE) => {}, () = shutdown.begun() => break }
        }
        self.tell(&gateway, &scheduler).await;
    }

    async fn tell(&self, gateway: &str, scheduler: &Scheduler) {
        let Pending { attempts, more } = self.take();
        if attempts.is_empty() {
            return;
        }
        let count = attempts.len();
        let request = NoteAttemptsRequest { gateway: gateway.to_owned(), attempts, more };
        let mut client = scheduler.audit_notes();
        match tokio::time::timeout(PATIENCE, client.note_attempts(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(count, %error, "refused attempts can't be noted in the audit log"),
            Err(_) => tracing::warn!(count, "refused attempts can't be noted in the audit log: no answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(subject: &str, request_id: &str) -> Attempt {
        let subject = subject.to_owned();
        Attempt { subject, request_id: request_id.to_owned(), count: 1, refused: true, ..Attempt::default() }
    }

    #[test]
    fn alike_ones_are_counted_and_the_rest_is_bounded() {
        let mut pending = Pending::default();
        for n in 0..3 {
            pending.note(attempt("eve", &n.to_string()));
        }
        assert_eq!(pending.attempts, [Attempt { count: 3, ..attempt("eve", "0") }]);
        for n in 0..MOST + 4 {
            pending.note(attempt(&format!("eve-{n}"), ""));
        }
        pending.note(attempt("eve", "9"));
        assert_eq!((pending.attempts.len(), pending.more, pending.attempts[0].count), (MOST, 5, 4));
        let attempts = Attempts::default();
        attempts.note(attempt("eve", ""));
        assert_eq!(attempts.take().attempts.len(), 1);
        assert_eq!(attempts.take(), Pending::default());
    }
}
