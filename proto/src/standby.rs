//! Which workers hold a version on standby: rendezvous hashing over the workers, spread over their zones.
//!
//! Scheduler, gateways and workers compute it from the same list, so that nobody has to send ten thousand sets around, and a
//! gateway can find a version while the scheduler is away. The numbers are part of the protocol: never change the hash.
//! A worker that leaves moves only its own versions, one that joins takes its share and moves nothing else.

use std::cmp::Reverse;

use crate::ids::VersionKey;

/// Workers that hold each version on standby, where there are so many.
pub const STANDBYS: u32 = 2;

/// Workers beyond those that are worth a question, since the list may be a moment old.
pub const SPARE: usize = 2;

/// A worker that holds versions on standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    worker: u64,
    zone: u64,
}

impl Seat {
    /// The seat of a worker in a zone, whose name may be empty.
    #[must_use]
    pub fn new(worker: &str, zone: &str) -> Self {
        Self { worker: digest(worker.as_bytes()), zone: digest(zone.as_bytes()) }
    }
}

/// The first `count` seats of a version as indices, in its own order: the best first, each next one from a zone that has the
/// fewest before it. Asked for more, it answers with the same ones first.
#[must_use]
pub fn seats(version: &VersionKey, seats: &[Seat], count: usize) -> Vec<usize> {
    let key = digest(version.function.uuid().as_bytes()) ^ u64::from(version.number.get());
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    while chosen.len() < count.min(seats.len()) {
        let crowd =
            |zone: u64| chosen.iter().filter(|index| seats.get(**index).is_some_and(|c| c.zone == zone)).count();
        let free = seats.iter().enumerate().filter(|(index, _)| !chosen.contains(index));
        let best = free.max_by_key(|(_, seat)| (Reverse(crowd(seat.zone)), mix(key ^ seat.worker)));
        let Some((index, _)) = best else { break };
        chosen.push(index);
    }
    chosen
}

/// FNV-1a with 64 bits, stirred.
fn digest(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood 2014).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn version(number: u128) -> VersionKey {
        let function = uuid::Uuid::from_u128(number + 1).to_string().parse().unwrap();
        VersionKey { function, number: 1.try_into().unwrap() }
    }

    fn workers(count: usize, zones: usize) -> Vec<Seat> {
        (0..count).map(|n| Seat::new(&format!("worker-{n}"), &format!("zone-{}", n % zones))).collect()
    }

    #[test]
    fn versions_spread_evenly_and_not_in_pairs() {
        let all = workers(10, 1);
        let mut held = [0; 10];
        let mut pairs = HashMap::new();
        for number in 0..10_000 {
            let two = seats(&version(number), &all, 2);
            two.iter().for_each(|index| held[*index] += 1);
            *pairs.entry((two[0], two[1])).or_insert(0) += 1;
        }
        assert!(held.iter().all(|count| (1_850..=2_150).contains(count)), "{held:?}");
        assert_eq!(pairs.len(), 90, "every worker shares its versions with every other one");
    }

    #[test]
    fn one_that_leaves_moves_only_its_own_and_more_are_the_same_first() {
        let (all, without) = (workers(10, 1), workers(9, 1));
        for number in 0..1_000 {
            let (before, after) = (seats(&version(number), &all, 3), seats(&version(number), &without, 2));
            let rest: Vec<_> = before.iter().copied().filter(|index| *index != 9).take(2).collect();
            assert_eq!(after, rest);
            assert_eq!(seats(&version(number), &all, 2), before[..2]);
        }
    }

    #[test]
    fn zones_share_a_version() {
        for (workers_, zones, count) in [(9, 3, 2), (9, 3, 3), (4, 2, 2), (5, 4, 4)] {
            let all = workers(workers_, zones);
            for number in 0..200 {
                let mut used: Vec<_> = seats(&version(number), &all, count).iter().map(|index| index % zones).collect();
                used.sort_unstable();
                used.dedup();
                assert_eq!(used.len(), count.min(zones));
            }
        }
    }

    #[test]
    fn there_are_never_more_than_there_are() {
        assert!(seats(&version(1), &[], 2).is_empty());
        assert_eq!(seats(&version(1), &workers(1, 1), 2), vec![0]);
    }

    #[test]
    fn the_order_is_part_of_the_protocol() {
        assert_eq!(seats(&version(7), &workers(5, 1), 5), KNOWN);
    }

    const KNOWN: [usize; 5] = [3, 2, 0, 1, 4];
}
