//! What a limit needs once somebody calls under it. There can be very many keys, of which a gateway sees few: the others take no room.

use std::sync::OnceLock;

use tokio::time::Instant;

/// What begins at a moment with nothing in it.
pub(crate) trait Begins {
    /// Nothing has happened yet.
    fn begin_at(now: Instant) -> Self;
}

/// A thing that is not there before it is used for the first time. It does not go away again.
#[derive(Debug)]
pub(crate) struct Begun<T>(OnceLock<Box<T>>);

impl<T> Default for Begun<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Begins> Begun<T> {
    /// The thing, from now on at the latest.
    pub(crate) fn get(&self) -> &T {
        self.0.get_or_init(|| Box::new(T::begin_at(Instant::now())))
    }
}

impl<T> Begun<T> {
    /// The thing, where it has been used.
    pub(crate) fn seen(&self) -> Option<&T> {
        self.0.get().map(|thing| &**thing)
    }
}
