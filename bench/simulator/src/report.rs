//! What became of the calls of a simulation.

use serde_json::{Value, json};

/// Counts calls as they end, and workers as time passes.
#[derive(Debug, Default)]
pub struct Report {
    slowdowns: Vec<f32>,
    delays: Vec<f32>,
    cold: u64,
    /// Seconds of all workers that had a function, and of all functions on all workers.
    occupied: f64,
    loaded: f64,
    wanted: Option<f64>,
    at: f64,
    now_occupied: usize,
    now_loaded: usize,
    now_wanted: Option<u32>,
    looks: u32,
    looked: f64,
    stopped: bool,
}

impl Report {
    /// A call ended: it would have taken `alone` seconds, took `took`, and may have waited for its function.
    pub fn ended(&mut self, alone: f64, took: f64, cold: bool) {
        self.slowdowns.push((took / alone) as f32);
        self.delays.push((took - alone).max(0.0) as f32);
        self.cold += u64::from(cold);
    }

    /// No more calls come: hours are counted no longer.
    pub fn stop_the_clock(&mut self) {
        self.stopped = true;
    }

    /// Time has passed.
    pub fn advance(&mut self, now: f64) {
        if self.stopped {
            return;
        }
        let passed = now - self.at;
        self.occupied += passed * self.now_occupied as f64;
        self.loaded += passed * self.now_loaded as f64;
        if let Some(wanted) = self.now_wanted {
            *self.wanted.get_or_insert(0.0) += passed * f64::from(wanted);
        }
        self.at = now;
    }

    /// A worker has a function more or less, of so many.
    pub fn held(&mut self, more: bool, now_held: usize) {
        if more {
            self.now_loaded += 1;
            self.now_occupied += usize::from(now_held == 1);
        } else {
            self.now_loaded -= 1;
            self.now_occupied -= usize::from(now_held == 0);
        }
    }

    /// A policy looked, which took so many seconds of real time, and asks for so many workers.
    pub fn looked(&mut self, seconds: f64, wanted: Option<u32>) {
        self.looks += 1;
        self.looked += seconds;
        self.now_wanted = wanted;
    }

    /// All of it.
    pub fn json(mut self, unfinished: usize) -> Value {
        self.slowdowns.sort_by(f32::total_cmp);
        self.delays.sort_by(f32::total_cmp);
        let calls = self.slowdowns.len();
        let hours = |seconds: f64| (seconds / 36.0).round() / 100.0;
        json!({
            "calls": calls, "unfinished": unfinished,
            "slowdown": quantiles(&self.slowdowns, 1.0), "delay_ms": quantiles(&self.delays, 1e3),
            "mean_slowdown": (self.slowdowns.iter().map(|slowdown| f64::from(*slowdown)).sum::<f64>() / calls.max(1) as f64 * 1e3).round() / 1e3,
            "cold_percent": (self.cold as f64 / calls.max(1) as f64 * 1e5).round() / 1e3,
            "occupied_machine_hours": hours(self.occupied), "function_hours_in_memory": hours(self.loaded),
            "wanted_machine_hours": self.wanted.map(hours),
            "looks": self.looks, "mean_look_ms": (self.looked / f64::from(self.looks.max(1)) * 1e5).round() / 1e2,
        })
    }
}

fn quantiles(sorted: &[f32], factor: f64) -> Value {
    let at = |quantile: f64| {
        let index = ((sorted.len() as f64 * quantile) as usize).min(sorted.len().saturating_sub(1));
        let value = sorted.get(index).map_or(0.0, |value| f64::from(*value));
        (value * factor * 1e3).round() / 1e3
    };
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0) })
}

/// One line for whoever watches.
pub fn line(figures: &Value) -> String {
    let [slowdown, delay] = ["slowdown", "delay_ms"].map(|name| &figures[name]);
    format!(
        "slowdown p50 {} p99 {} p99.9 {}, delay p99 {} ms, cold {} %, machine-hours {} occupied, {} in memory",
        slowdown["p50"],
        slowdown["p99"],
        slowdown["p999"],
        delay["p99"],
        figures["cold_percent"],
        figures["occupied_machine_hours"],
        figures["function_hours_in_memory"],
    )
}
