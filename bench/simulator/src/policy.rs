//! Ways to spread calls. Some pick a worker for each call, wherever its function is; others decide from time to time where
//! functions are, and calls go only there.

mod dunlin;
mod knative;

pub use self::{
    dunlin::{Dunlin, VERSION},
    knative::Knative,
};
use crate::cluster::Cluster;

/// What a function asks for at one moment.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    /// Calls that run.
    pub running: u32,
    /// Calls that wait, wherever.
    pub waiting: u32,
    /// The longest wait on a worker since the last look, in seconds.
    pub longest_wait: f64,
    /// Workers that have it loaded.
    pub ready: Vec<usize>,
    /// A call found it nowhere since the last look.
    pub missed: bool,
}

/// A way to spread calls.
pub trait Policy {
    /// The worker for a call that comes now; nothing while its function has to be placed first.
    fn route(&mut self, function: u32, ready: &[usize], cluster: &Cluster, random: &mut fastrand::Rng)
    -> Option<usize>;

    /// Seconds between two looks; nothing where functions are not placed at all.
    fn period(&self) -> Option<f64> {
        None
    }

    /// Where functions shall be from now on: those of `demands`, which are the ones that are somewhere or asked for.
    fn place(&mut self, _demands: &[(u32, &Demand)], _cluster: &Cluster, _now: f64) -> Vec<(u32, Vec<usize>)> {
        Vec::new()
    }

    /// How many workers it asks for; nothing where it has no opinion.
    fn wanted_workers(&self) -> Option<u32> {
        None
    }
}

/// Any worker.
#[derive(Debug)]
pub struct Random;

impl Policy for Random {
    fn route(&mut self, _: u32, _: &[usize], cluster: &Cluster, random: &mut fastrand::Rng) -> Option<usize> {
        Some(random.usize(..cluster.workers.len()))
    }
}

/// The worker that has the fewest calls.
#[derive(Debug)]
pub struct LeastLoaded;

impl Policy for LeastLoaded {
    fn route(&mut self, _: u32, _: &[usize], cluster: &Cluster, _: &mut fastrand::Rng) -> Option<usize> {
        cluster.by_load.first().map(|(_, worker)| *worker)
    }
}

/// The worker to which the function's name hashes, or the next one on the ring that is at most a quarter busier than the
/// mean (consistent hashing with bounded loads, Mirrokni et al.).
#[derive(Debug)]
pub struct Hashing;

const BOUND: f64 = 1.25;

impl Policy for Hashing {
    fn route(&mut self, function: u32, _: &[usize], cluster: &Cluster, _: &mut fastrand::Rng) -> Option<usize> {
        let workers = cluster.workers.len();
        let most = ((cluster.calls + 1) as f64 / workers as f64 * BOUND).ceil() as u32;
        let first = (u64::from(function).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % workers;
        (0..workers).map(|step| (first + step) % workers).find(|worker| cluster.workers[*worker].calls < most)
    }
}

/// The less busy of two workers that have the function.
fn less_busy(ready: &[usize], cluster: &Cluster, random: &mut fastrand::Rng) -> Option<usize> {
    let one = *random.choice(ready)?;
    let other = *random.choice(ready)?;
    Some(if cluster.workers[one].calls <= cluster.workers[other].calls { one } else { other })
}
