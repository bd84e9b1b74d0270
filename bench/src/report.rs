//! What came of a load: answers by status, their latencies, failures by their words, CPU time for each answer.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::process::Used;

/// Counts calls as they end.
pub struct Report {
    /// Latencies of answers with status 200, in nanoseconds.
    fine: Histogram<u64>,
    /// Those of all other answers.
    refused: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<String, u64>,
    skipped: u64,
}

impl Report {
    /// Nothing yet.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> anyhow::Result<Self> {
        let (fine, refused) = (Histogram::new(3)?, Histogram::new(3)?);
        Ok(Self { fine, refused, statuses: BTreeMap::new(), failures: BTreeMap::new(), skipped: 0 })
    }

    /// An answer, after so long.
    pub fn answered(&mut self, status: u16, after: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        let latencies = if status == 200 { &mut self.fine } else { &mut self.refused };
        // It grows with its values; only a lack of memory stops it.
        let _ = latencies.record(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
    }

    /// No answer.
    pub fn failed(&mut self, error: &anyhow::Error) {
        *self.failures.entry(format!("{error:#}")).or_default() += 1;
    }

    /// Due, but not sent, since too many calls were in flight.
    pub fn skipped(&mut self) {
        self.skipped += 1;
    }

    /// All of it. Rates and latencies are of answers with status 200; CPU time is divided by all answers.
    pub fn json(&self, seconds: Duration, used: &[Used]) -> Value {
        let micros = |latencies: &Histogram<u64>, quantile| tenths(latencies.value_at_quantile(quantile) as f64 / 1e3);
        let answers: u64 = self.statuses.values().sum();
        let each =
            |used: &Used| (used.name.clone(), json!(tenths(used.cpu.as_secs_f64() * 1e6 / answers.max(1) as f64)));
        let share =
            |used: &Used| (used.name.clone(), json!(tenths(used.cpu.as_secs_f64() * 100.0 / seconds.as_secs_f64())));
        json!({
            "seconds": (seconds.as_secs_f64() * 1e4).round() / 1e4,
            "per_second": (self.fine.len() as f64 / seconds.as_secs_f64()).round(),
            "p50_us": micros(&self.fine, 0.5),
            "p90_us": micros(&self.fine, 0.9),
            "p99_us": micros(&self.fine, 0.99),
            "p999_us": micros(&self.fine, 0.999),
            "max_us": micros(&self.fine, 1.0),
            "refused_p50_us": micros(&self.refused, 0.5),
            "refused_p99_us": micros(&self.refused, 0.99),
            "statuses": self.statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect::<Map<_, _>>(),
            "failures": self.failures,
            "skipped": self.skipped,
            "cpu_us_per_call": used.iter().map(each).collect::<Map<_, _>>(),
            "cpu_percent_of_a_core": used.iter().map(share).collect::<Map<_, _>>(),
        })
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
