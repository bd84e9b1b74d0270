//! The line of those who wait for a sandbox: how many, and since when the first of them. Their order is the semaphores'.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A line of bounded length.
#[derive(Debug)]
pub(super) struct Line {
    longest: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// A place in line, left when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    line: &'a Line,
    ticket: u64,
}

impl Line {
    pub(super) fn new(longest: usize) -> Self {
        Self { longest, waiting: Mutex::default() }
    }

    /// Goes to the end of the line.
    ///
    /// # Errors
    /// It is full; says how many wait.
    pub(super) fn join(&self, now: Instant) -> Result<Place<'_>, usize> {
        let mut waiting = self.lock();
        if waiting.since.len() >= self.longest {
            return Err(waiting.since.len());
        }
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.since.insert(ticket, now);
        Ok(Place { line: self, ticket })
    }

    /// How many wait, and how long the first of them has.
    pub(super) fn now(&self, now: Instant) -> (usize, Duration) {
        let waiting = self.lock();
        let first = waiting.since.first_key_value().map(|(_, since)| now.saturating_duration_since(*since));
        (waiting.since.len(), first.unwrap_or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.lock().since.remove(&self.ticket);
    }
}
