//! What a process tells Prometheus: a list of who counts what, asked at each scrape. Nothing is counted twice, and nothing is
//! computed while nobody asks.
//!
//! The text is `metrics/page.rs`'s, what calls count with is in `metrics/count.rs`, what every process says of itself in
//! `metrics/own.rs`, the port in `metrics/endpoint.rs`. What a metric means is known to whoever adds it, not here.

pub mod count;
mod endpoint;
mod own;
pub mod page;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

pub use endpoint::{MetricsConfig, Serving};
pub use page::{Family, Format, Kind, Page, Value};

/// Writes what somebody has counted.
type Source = Arc<dyn Fn(&mut Page) + Send + Sync>;

/// What a process measures. Clones share it; where several roles are one process, they share one.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Vec<Source>>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Metrics").field("sources", &sources).finish()
    }
}

impl Metrics {
    /// Those of a process that begins now, with what each says of itself; `version` is its software's.
    #[must_use]
    pub fn of_process(version: &'static str) -> Self {
        let metrics = Self::default();
        let own = own::Own::new(version);
        metrics.add(move |page| own.write(page));
        metrics
    }

    /// Adds whoever counts something: `source` writes it at each scrape, in families that nobody else writes.
    pub fn add(&self, source: impl Fn(&mut Page) + Send + Sync + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(source));
    }

    /// Everything as it is now.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut page = Page::new(format);
        sources.iter().for_each(|source| source(&mut page));
        page.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_asked_at_each_scrape() {
        let metrics = Metrics::of_process("1.2.3");
        let calls = Arc::new(count::Counter::default());
        let counted = calls.clone();
        metrics.add(move |page| page.counter("dunlin_calls_total", "Calls.", counted.get()));
        calls.add(3);
        let text = metrics.render(Format::Prometheus);
        assert!(text.contains("dunlin_calls_total 3\n"), "{text}");
        calls.add(1);
        let text = metrics.clone().render(Format::OpenMetrics);
        assert!(text.contains("dunlin_calls_total 4\n") && text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains("dunlin_build_info{version=\"1.2.3\"} 1\n"), "{text}");
    }
}
