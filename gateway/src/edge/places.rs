//! Places for connections: so many on a listener, and so many of them for one address, so that a flood from there leaves
//! places to everybody else.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use dunlin_process::metrics::count::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{LimitsConfig, ProxiesConfig};

/// Connections by address.
type ByAddress = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The places of a listener. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    most: usize,
    refused: Arc<Counter>,
    each: usize,
    taken: ByAddress,
    /// Who connects for many people, and has as many places as there are.
    proxies: Arc<ProxiesConfig>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_address: Option<OfAddress>,
}

/// A place of an address's own.
#[derive(Debug)]
struct OfAddress {
    address: IpAddr,
    taken: ByAddress,
}

impl Places {
    pub(super) fn new(limits: &LimitsConfig, proxies: Arc<ProxiesConfig>) -> Self {
        let all = Arc::new(Semaphore::new(limits.connections));
        let (most, each) = (limits.connections, limits.connections_per_address);
        Self { all, most, refused: Arc::default(), each, taken: ByAddress::default(), proxies }
    }

    /// Connections that have a place.
    pub(crate) fn taken(&self) -> usize {
        self.most.saturating_sub(self.all.available_permits())
    }

    /// Connections that got none.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// A place for a connection from this address, where there is one.
    pub(super) fn take(&self, from: IpAddr) -> Option<Place> {
        let place = self.find(from);
        if place.is_none() {
            self.refused.increment();
        }
        place
    }

    fn find(&self, from: IpAddr) -> Option<Place> {
        let of_all = self.all.clone().try_acquire_owned().ok()?;
        let from = from.to_canonical();
        let of_address = if self.proxies.trust(from) { None } else { Some(self.take_of(network(from))?) };
        Some(Place { _of_all: of_all, _of_address: of_address })
    }

    fn take_of(&self, address: IpAddr) -> Option<OfAddress> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        // An entry that is new has room, since a limit is 1 at least: none is left behind empty.
        (*count < self.each).then(|| {
            *count += 1;
            OfAddress { address, taken: self.taken.clone() }
        })
    }
}

/// What counts as one address: with IPv6, everybody has a network of 64 bits (RFC 6177 2).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let limits = LimitsConfig { connections: 4, connections_per_address: 2, ..LimitsConfig::default() };
        let proxies = ProxiesConfig { trusted: vec!["10.0.0.0/8".parse().unwrap()], ..ProxiesConfig::default() };
        Places::new(&limits, proxies.into())
    }

    #[test]
    fn t30_an_address_has_its_places_and_no_more() {
        let places = places();
        let take = |from: &str| places.take(from.parse().unwrap());
        let (one, two) = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some() && take("192.0.2.1").is_none());
        let other = take("192.0.2.2");
        assert!(other.is_some());
        drop(two);
        let (again, last) = (take("192.0.2.1"), take("192.0.2.3"));
        assert!(again.is_some() && last.is_some() && take("192.0.2.4").is_none(), "there are four in all");
        assert_eq!((places.taken(), places.refused()), (4, 2));
        drop((one, again, other, last));
        assert!(places.taken.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[test]
    fn t30_a_network_of_ipv6_is_one_address_and_a_proxy_is_many() {
        let places = places();
        let take = |from: &str| places.take(from.parse().unwrap());
        let held = (take("2001:db8::1"), take("2001:db8::2"));
        assert!(held.1.is_some() && take("2001:db8::3").is_none());
        drop(held);
        let proxied: Vec<_> = (0..4).map(|_| take("10.0.0.1")).collect();
        assert!(proxied.iter().all(Option::is_some) && take("10.0.0.1").is_none());
    }
}
