//! Calls and when they come: made up after what has been published of Azure Functions, or read from its public traces.

pub mod azure;

use crate::Options;

/// A call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// Seconds after the beginning.
    pub at: f64,
    /// Its function, counted from 0.
    pub function: u32,
    /// How long it takes on a worker that has nothing else to do.
    pub seconds: f32,
}

/// Calls in the order in which they come.
#[derive(Debug)]
pub struct Traffic {
    /// All of them.
    pub calls: Vec<Call>,
    /// How many functions there are.
    pub functions: usize,
}

impl Traffic {
    fn new(mut calls: Vec<Call>, functions: usize) -> Self {
        calls.sort_by(|one, other| one.at.total_cmp(&other.at));
        Self { calls, functions }
    }

    /// What share of the cluster it needs on average.
    pub fn load(&self, options: &Options) -> f64 {
        let work: f64 = self.calls.iter().map(|call| f64::from(call.seconds)).sum();
        let room = options.workers as f64 * f64::from(options.concurrency()) * options.minutes as f64 * 60.0;
        (work / room * 1e3).round() / 1e3
    }
}

/// Quantiles of how often a function is called, per second: 45 % at most once an hour, 81 % at most once a minute, and eight
/// orders of magnitude from the rarest to the most frequent (Shahrad et al., ATC 2020).
const POPULARITY: [(f64, f64); 4] = [(0.0, 1.6e-6), (0.45, 1.0 / 3600.0), (0.81, 1.0 / 60.0), (1.0, 160.0)];
/// Calls of one function vary from minute to minute by this standard deviation of their logarithm.
const BURSTINESS: f64 = 0.7;
/// Amplitude of the slow wave over all functions.
const WAVE: f64 = 0.3;
/// Mean and standard deviation of the logarithm of a duration in seconds, and the longest one (same source).
const DURATION: (f64, f64, f64) = (-0.38, 2.36, 900.0);

/// Azure-like calls: the same ones for the same options.
pub fn synthetic(options: &Options) -> Traffic {
    let mut random = fastrand::Rng::with_seed(7);
    let functions: Vec<_> = (0..options.functions).map(|number| Function::draw(number, options, &mut random)).collect();
    // Functions that are called often carry the load; the rare ones stay as rare as they are.
    let demand = |often: bool| -> f64 {
        let of = functions.iter().filter(|function| (function.rate > 1.0 / 60.0) == often);
        of.map(|function| function.rate * function.mean_seconds).sum()
    };
    let room = options.workers as f64 * f64::from(options.concurrency());
    let factor = ((options.load * room - demand(false)) / demand(true)).max(0.0);
    let mut calls = Vec::new();
    for (number, function) in functions.iter().enumerate() {
        let rate = if function.rate > 1.0 / 60.0 { function.rate * factor } else { function.rate };
        function.calls(number as u32, rate, options.minutes, &mut random, &mut calls);
    }
    Traffic::new(calls, options.functions)
}

struct Function {
    rate: f64,
    /// Its own typical duration; single calls vary around it.
    typical: f64,
    mean_seconds: f64,
    longest: f64,
}

/// How much single calls of one function vary: standard deviation of the logarithm.
const VARIATION: f64 = 0.4;

impl Function {
    fn draw(number: usize, options: &Options, random: &mut fastrand::Rng) -> Self {
        let quantile = (number as f64 + 0.5) / options.functions as f64;
        let (mean, deviation, longest) = DURATION;
        let longest = longest * options.duration_scale;
        let typical = (mean + deviation * normal(random)).exp() * options.duration_scale;
        let typical = typical.clamp(1e-4, longest);
        Self {
            rate: interpolate(quantile),
            typical,
            mean_seconds: typical * (VARIATION * VARIATION / 2.0).exp(),
            longest,
        }
    }

    fn calls(&self, number: u32, rate: f64, minutes: usize, random: &mut fastrand::Rng, calls: &mut Vec<Call>) {
        for minute in 0..minutes {
            let wave = 1.0 + WAVE * (std::f64::consts::TAU * minute as f64 / minutes as f64).sin();
            let burst = (BURSTINESS * normal(random) - BURSTINESS * BURSTINESS / 2.0).exp();
            // Within a minute, arrivals are independent of each other.
            let (rate, mut at) = (rate * wave * burst, minute as f64 * 60.0);
            let end = at + 60.0;
            loop {
                at += exponential(random) / rate.max(1e-12);
                if at >= end {
                    break;
                }
                let seconds = (self.typical * (VARIATION * normal(random)).exp()).min(self.longest);
                calls.push(Call { at, function: number, seconds: seconds as f32 });
            }
        }
    }
}

/// The rate at a quantile, on a logarithmic scale.
fn interpolate(quantile: f64) -> f64 {
    let ends = POPULARITY.windows(2).find(|ends| quantile <= ends[1].0).unwrap_or(&POPULARITY[2..]);
    let ((from, low), (to, high)) = (ends[0], ends[1]);
    let at = (quantile - from) / (to - from);
    (low.ln() + at * (high.ln() - low.ln())).exp()
}

/// Exponentially distributed, with mean 1.
fn exponential(random: &mut fastrand::Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

/// Normally distributed, with mean 0 and deviation 1 (Box-Muller).
fn normal(random: &mut fastrand::Rng) -> f64 {
    (2.0 * exponential(random)).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popularity_is_as_published() {
        let rates: Vec<_> = (0..1000).map(|n| interpolate((f64::from(n) + 0.5) / 1000.0)).collect();
        let share = |least: f64| rates.iter().filter(|rate| **rate <= least).count() as f64 / 1000.0;
        assert!((share(1.0 / 3600.0) - 0.45).abs() < 0.01 && (share(1.0 / 60.0) - 0.81).abs() < 0.01);
        let (often, all) = (rates.iter().filter(|rate| **rate > 1.0 / 60.0).sum::<f64>(), rates.iter().sum::<f64>());
        assert!(often / all > 0.996);
    }
}
