//! Percentiles of measured times, as JSON.

use std::time::Duration;

/// The usual percentiles in microseconds.
pub fn json(times: &[Duration]) -> String {
    let mut micros: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros.get(((micros.len() - 1) as f64 * share) as usize).copied().unwrap_or_default();
    let mean = micros.iter().sum::<f64>() / micros.len() as f64;
    format!(
        r#"{{"calls": {}, "mean_us": {mean:.1}, "p50_us": {:.1}, "p90_us": {:.1}, "p99_us": {:.1}, "max_us": {:.1}}}"#,
        micros.len(), at(0.5), at(0.9), at(0.99), at(1.0)
    )
}
