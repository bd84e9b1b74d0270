//! Answers that are on their way to be stored, by address: what is forgotten meanwhile is the old state, and is not stored.
//!
//! Who waits for whom is `flight.rs`'s.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use dashmap::{DashMap, Entry};

use super::Address;

/// All that are on their way. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Journeys(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    underway: DashMap<Address, Underway>,
    /// How often everything has been forgotten.
    cleared: AtomicU64,
}

/// What is on its way for an address.
#[derive(Debug, Default)]
struct Underway {
    answers: usize,
    /// How often it has been forgotten since the first of them set out.
    forgotten: u64,
}

/// One that is on its way, until it is dropped.
#[derive(Debug)]
pub(super) struct Journey {
    journeys: Journeys,
    pub(super) address: Address,
    forgotten: u64,
    cleared: u64,
}

impl Journeys {
    /// One sets out now.
    pub(super) fn begin(&self, address: Address) -> Journey {
        let cleared = self.0.cleared.load(Ordering::SeqCst);
        let mut underway = self.0.underway.entry(address.clone()).or_default();
        underway.answers += 1;
        Journey { journeys: self.clone(), address, forgotten: underway.forgotten, cleared }
    }

    /// What is on its way for this address is the old state.
    pub(super) fn forget(&self, address: &Address) {
        if let Some(mut underway) = self.0.underway.get_mut(address) {
            underway.forgotten += 1;
        }
    }

    /// Whatever is on its way may be the old state.
    pub(super) fn forget_all(&self) {
        self.0.cleared.fetch_add(1, Ordering::SeqCst);
    }
}

impl Journey {
    /// Whether its address has not been forgotten since it set out.
    pub(super) fn is_current(&self) -> bool {
        let inner = &self.journeys.0;
        let forgotten = inner.underway.get(&self.address).map(|underway| underway.forgotten);
        forgotten == Some(self.forgotten) && inner.cleared.load(Ordering::SeqCst) == self.cleared
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        let Entry::Occupied(mut entry) = self.journeys.0.underway.entry(self.address.clone()) else { return };
        entry.get_mut().answers -= 1;
        if entry.get().answers == 0 {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(path: &str) -> Address {
        Address::new(&"shop".parse().unwrap(), "https", "example.com", path, None)
    }

    #[test]
    fn only_what_is_on_its_way_for_the_address_is_the_old_state() {
        let journeys = Journeys::default();
        let (one, other) = (journeys.begin(address("/a")), journeys.begin(address("/b")));
        journeys.forget(&address("/a"));
        let later = journeys.begin(address("/a"));
        assert!(!one.is_current() && other.is_current() && later.is_current());
        drop(one);
        assert!(later.is_current(), "others of the address may end before");
        journeys.forget_all();
        assert!(!other.is_current() && !later.is_current());
        drop((other, later));
        assert!(journeys.0.underway.is_empty(), "nothing is kept of what has arrived");
        assert!(journeys.begin(address("/a")).is_current());
    }
}
