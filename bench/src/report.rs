//! What came of a load: answers by status, their latencies, failures by their words, CPU time for each answer.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::process::Used;

/// Counts calls as they end.
pub struct Report {
    /// Latencies of answers with status 200, in nanoseconds.
    fine: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<String, u64>,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { fine: Histogram::new(3)?, statuses: BTreeMap::new(), failures: BTreeMap::new() })
    }

    /// An answer, after so long.
    pub fn answered(&mut self, status: u16, after: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        if status == 200 {
            // It grows with its values; only a lack of memory stops it.
            let _ = self.fine.record(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// No answer.
    pub fn failed(&mut self, error: &anyhow::Error) {
        *self.failures.entry(format!("{error:#}")).or_default() += 1;
    }

    /// All of it. Rates and latencies are of answers with status 200; CPU time is divided by all answers.
    pub fn json(&self, seconds: Duration, used: &[Used]) -> Value {
        let micros = |quantile: f64| (self.fine.value_at_quantile(quantile) as f64 / 100.0).round() / 10.0;
        let answers: u64 = self.statuses.values().sum();
        let each = |used: &Used| (used.name.clone(), json!((used.cpu.as_secs_f64() * 1e7 / answers.max(1) as f64).round() / 10.0));
        json!({
            "seconds": seconds.as_secs_f64(),
            "per_second": (self.fine.len() as f64 / seconds.as_secs_f64()).round(),
            "p50_us": micros(0.5), "p90_us": micros(0.9), "p99_us": micros(0.99), "p999_us": micros(0.999), "max_us": micros(1.0),
            "statuses": self.statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "failures": self.failures,
            "cpu_us_per_call": used.iter().map(each).collect::<serde_json::Map<_, _>>(),
        })
    }
}
