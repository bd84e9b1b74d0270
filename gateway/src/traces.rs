//! Traces of invocations: which are taken (`traces/head.rs`), of which spans they consist (`traces/spans.rs`, and `traces/refusal.rs` for
//! those that were refused), how they leave (`traces/otlp.rs`, `traces/export.rs`), and what somebody sees who watches (`traces/tree.rs`).
//!
//! Nothing is traced while a call runs. Its record has every time that matters, the worker's by the receipt, so that spans are made
//! of finished records, off the path, and only of those that are wanted.

mod export;
mod head;
mod otlp;
mod refusal;
mod spans;
mod tree;

use std::{fmt, sync::Arc, time::Duration};

use dashmap::DashMap;
use dunlin_process::metrics::count::Counters;
use dunlin_proto::ids::Namespace;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    config::{Config, TracingConfig},
    limits::bucket::{Asked, Bucket, Moment, Share, units},
    records::{Record, Refusal, Traced},
};
pub(crate) use export::Exporter;
use head::{Rule, Wish};
pub(crate) use spans::protocol_of;
pub(crate) use tree::tree;
pub use tree::{Branch, Tree, Trees};

/// Records that wait to be exported; beyond that they are dropped and counted.
const BACKLOG: usize = 1_024;

/// Of the traces of a gateway, one in so many may be of requests that were refused, so that a flood of them hides nothing else.
const REFUSALS: u32 = 4;

/// What the spans of a trace are made of.
#[derive(Debug)]
pub(crate) enum Source {
    /// An invocation.
    Call(Arc<Record>),
    /// A request that was refused before.
    Refusal(Box<Refusal>),
}

impl Source {
    fn spans(&self) -> Vec<spans::Span> {
        match self {
            Self::Call(record) => spans::of(record),
            Self::Refusal(refusal) => refusal::of(refusal),
        }
    }
}

/// Which invocations are traced, and the way to the exporter. Clones share it; the default traces nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    rule: Rule,
    origin: Instant,
    /// All traces together.
    all: Bucket,
    /// What callers of a namespace ask for themselves; only namespaces that there are come here.
    callers: DashMap<Namespace, Bucket>,
    callers_per_second: u32,
    most_per_second: u32,
    /// Those of requests that are refused.
    refusals: Bucket,
    /// What callers ask for whose requests are refused, apart from others', since anybody can be refused. Nothing is a namespace
    /// where there is none.
    refused_callers: DashMap<Option<Namespace>, Bucket>,
    /// To the exporter, where there is one.
    backlog: Option<mpsc::Sender<Source>>,
    /// To whoever watches.
    watcher: Option<mpsc::Sender<Source>>,
    counted: Arc<Counted>,
}

/// Why a trace that somebody asked for does not go to the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// There is none.
    NoCollector,
    /// So many a second are asked for in the namespace at the most.
    NamespaceHasMany(u32),
    /// So many a second are taken at the most.
    GatewayHasMany(u32),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCollector => f.write_str("this gateway has no collector of traces (tracing.endpoint)"),
            Self::NamespaceHasMany(most) => {
                write!(f, "the namespace asks for more than {most} traces a second (tracing.callers_per_second)")
            }
            Self::GatewayHasMany(most) => {
                write!(f, "this gateway takes no more than {most} traces a second (tracing.most_per_second)")
            }
        }
    }
}

/// Spans that were exported, and those that were lost.
#[derive(Debug, Default)]
pub(crate) struct Counted(Counters<2>);

impl Counted {
    fn exported(&self, spans: usize) {
        self.0.add(0, spans as u64);
    }

    fn dropped(&self, spans: usize) {
        self.0.add(1, spans as u64);
    }
}

fn bucket(per_second: u32, now: Moment) -> Bucket {
    let most = f64::from(per_second);
    Bucket::new(Share { per_second: most, burst: most }, most, now)
}

impl Traces {
    /// What the configuration asks for; the [`Exporter`], where there is one, is to run until the end, and the [`Trees`] are
    /// there where somebody watches.
    ///
    /// # Errors
    /// The endpoint is no URL, or the file of headers can't be used.
    pub(crate) fn open(config: &Config) -> anyhow::Result<(Self, Option<Exporter>, Option<Trees>)> {
        let tracing = &config.tracing;
        let mut shared = Shared::new(tracing);
        let trees = tracing.watched.then(|| {
            let (watcher, watched) = mpsc::channel(BACKLOG);
            shared.watcher = Some(watcher);
            Trees(watched)
        });
        let mut exporter = None;
        if let Some(url) = tracing.url()? {
            let (backlog, waiting) = mpsc::channel(BACKLOG);
            shared.backlog = Some(backlog);
            exporter = Some(Exporter::new(url, config, waiting, shared.counted.clone())?);
        }
        let is_on = trees.is_some() || exporter.is_some();
        Ok((Self(is_on.then(|| Arc::new(shared))), exporter, trees))
    }

    /// Whether anything is traced.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the trace of a new invocation will be taken. `flag` is what its caller says of the trace with this id, where the
    /// trace is the caller's.
    pub(crate) fn takes(&self, namespace: &Namespace, id: u128, flag: Option<bool>) -> bool {
        let Some(shared) = self.0.as_ref().filter(|shared| shared.backlog.is_some()) else { return false };
        match shared.rule.wish(id, flag) {
            Wish::Nobodys => false,
            Wish::Ours => shared.has_room(),
            Wish::Callers => shared.grants(namespace) && shared.has_room(),
        }
    }

    /// The same for a request that is refused: of those it takes few.
    pub(crate) fn takes_refusal(&self, namespace: Option<&Namespace>, id: u128, flag: Option<bool>) -> bool {
        let Some(shared) = self.0.as_ref().filter(|shared| shared.backlog.is_some()) else { return false };
        match shared.rule.wish(id, flag) {
            Wish::Nobodys => false,
            Wish::Ours => shared.has_room_for_refusal(),
            Wish::Callers => shared.grants_refusal(namespace) && shared.has_room_for_refusal(),
        }
    }

    /// Takes the trace of an invocation because somebody with a right to it asks, within the same bounds as a caller's flag.
    ///
    /// # Errors
    /// Why it can't be taken.
    pub(crate) fn force(&self, namespace: &Namespace) -> Result<(), NotTaken> {
        let shared = self.0.as_ref().filter(|shared| shared.backlog.is_some()).ok_or(NotTaken::NoCollector)?;
        if !shared.grants(namespace) {
            return Err(NotTaken::NamespaceHasMany(shared.callers_per_second));
        }
        if shared.has_room() { Ok(()) } else { Err(NotTaken::GatewayHasMany(shared.most_per_second)) }
    }

    /// Whether anybody wants the trace of a call that took so long and was answered without its function.
    pub(crate) fn wants(&self, traced: &Traced, lasted: Duration) -> bool {
        let Some(shared) = &self.0 else { return false };
        traced.sampled || shared.watcher.is_some() || lasted >= shared.rule.slow()
    }

    /// Takes a copy of the record of an invocation whose trace is wanted, and of one that failed or was slow. What only its spans need
    /// goes where it has none.
    pub(crate) fn offer(&self, record: &mut Record) {
        let (watcher, backlog) = self.takers(record);
        record.came.traced.exported = backlog.is_some();
        if watcher.is_none() && backlog.is_none() {
            record.came.traced.phases = None;
            return;
        }
        let record = Arc::new(record.clone());
        if let Some(watcher) = watcher {
            // Who does not keep up misses some.
            let _ = watcher.try_send(Source::Call(record.clone()));
        }
        if let (Some(shared), Some(backlog)) = (&self.0, backlog) {
            shared.send(backlog, Source::Call(record));
        }
    }

    /// Who takes the spans of an invocation: whoever watches, and the exporter.
    fn takers(&self, record: &Record) -> (Option<&mpsc::Sender<Source>>, Option<&mpsc::Sender<Source>>) {
        let traced = &record.came.traced;
        let Some(shared) = self.0.as_ref().filter(|_| traced.span != 0) else { return (None, None) };
        let is_wanted = || traced.sampled || (shared.rule.is_notable(record) && shared.has_room());
        (shared.watcher.as_ref(), shared.backlog.as_ref().filter(|_| is_wanted()))
    }

    /// Takes a request that was refused, where its trace is wanted or it could not be served. Whoever watches gets it in any case.
    pub(crate) fn offer_refusal(&self, refused: &Refusal) {
        let Some(shared) = self.0.as_ref().filter(|_| refused.traced.span != 0) else { return };
        if let Some(Ok(place)) = shared.watcher.as_ref().map(mpsc::Sender::try_reserve) {
            place.send(Source::Refusal(Box::new(refused.clone())));
        }
        let Some(backlog) = &shared.backlog else { return };
        let is_notable = || refusal::failed(refused) || refused.took >= shared.rule.slow();
        if refused.traced.sampled || (is_notable() && shared.has_room_for_refusal()) {
            shared.send(backlog, Source::Refusal(Box::new(refused.clone())));
        }
    }

    /// How many spans were exported so far, and how many were lost; nothing where nothing is traced.
    pub(crate) fn counted(&self) -> Option<(u64, u64)> {
        self.0.as_ref().map(|shared| (shared.counted.0.get(0), shared.counted.0.get(1)))
    }
}

impl Shared {
    fn new(config: &TracingConfig) -> Self {
        Self {
            rule: Rule::new(config.ratio, config.slow),
            origin: Instant::now(),
            all: bucket(config.most_per_second, 0),
            callers: DashMap::new(),
            callers_per_second: config.callers_per_second,
            most_per_second: config.most_per_second,
            refusals: bucket(config.most_per_second.div_ceil(REFUSALS), 0),
            refused_callers: DashMap::new(),
            backlog: None,
            watcher: None,
            counted: Arc::default(),
        }
    }

    fn now(&self) -> Moment {
        units(self.origin.elapsed())
    }

    fn has_room(&self) -> bool {
        self.all.admit(self.now()) == Asked::Admitted
    }

    fn has_room_for_refusal(&self) -> bool {
        self.refusals.admit(self.now()) == Asked::Admitted && self.has_room()
    }

    fn send(&self, backlog: &mpsc::Sender<Source>, source: Source) {
        if let Err(error) = backlog.try_send(source) {
            self.counted.dropped(error.into_inner().spans().len());
        }
    }

    fn grants_refusal(&self, namespace: Option<&Namespace>) -> bool {
        let now = self.now();
        let new = || bucket(self.callers_per_second, now);
        self.refused_callers.entry(namespace.cloned()).or_insert_with(new).admit(now) == Asked::Admitted
    }

    fn grants(&self, namespace: &Namespace) -> bool {
        let now = self.now();
        if let Some(known) = self.callers.get(namespace) {
            return known.admit(now) == Asked::Admitted;
        }
        let new = self.callers.entry(namespace.clone()).or_insert_with(|| bucket(self.callers_per_second, now));
        new.admit(now) == Asked::Admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(config: &TracingConfig) -> (Traces, mpsc::Receiver<Source>) {
        let (backlog, waiting) = mpsc::channel(2);
        (Traces(Some(Arc::new(Shared { backlog: Some(backlog), ..Shared::new(config) }))), waiting)
    }

    fn taken(traces: &Traces, namespace: &str, flag: Option<bool>) -> usize {
        let namespace = namespace.parse().unwrap();
        (0..1_000).filter(|_| traces.takes(&namespace, 0, flag)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn callers_who_ask_for_traces_get_few_and_all_together_have_a_bound() {
        let config = TracingConfig { callers_per_second: 10, most_per_second: 25, ..TracingConfig::default() };
        let (traces, _waiting) = traces(&config);
        assert_eq!(taken(&traces, "shop", Some(true)), 10);
        assert_eq!(taken(&traces, "bank", Some(true)), 10);
        assert_eq!(taken(&traces, "mill", Some(true)), 5, "what is left of all");
        assert_eq!(taken(&traces, "mill", None), 0);
        tokio::time::advance(std::time::Duration::from_millis(500)).await;
        assert_eq!(taken(&traces, "shop", Some(true)), 5);
        assert_eq!(taken(&Traces::default(), "shop", Some(true)), 0, "off");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_a_trace_is_told_why_it_is_not_taken() {
        let config = TracingConfig { callers_per_second: 1, most_per_second: 2, ..TracingConfig::default() };
        let (traces, _waiting) = traces(&config);
        let asked = |traces: &Traces, namespace: &str| traces.force(&namespace.parse().unwrap());
        assert_eq!(asked(&traces, "shop"), Ok(()));
        assert_eq!(asked(&traces, "shop"), Err(NotTaken::NamespaceHasMany(1)));
        assert_eq!(asked(&traces, "bank"), Ok(()));
        assert_eq!(asked(&traces, "mill"), Err(NotTaken::GatewayHasMany(2)));
        assert_eq!(asked(&Traces::default(), "shop"), Err(NotTaken::NoCollector));
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_is_counted_and_what_nobody_asked_for_is_left() {
        let (traces, mut waiting) = traces(&TracingConfig::default());
        let mut record = spans::tests::record();
        record.came.traced.phases = Some(Box::default());
        for (sampled, outcome, has_spans) in
            [(true, "ok", true), (false, "function_failed", true), (false, "ok", false), (true, "ok", true)]
        {
            record.came.traced.sampled = sampled;
            record.outcome = outcome.into();
            let mut kept = record.clone();
            traces.offer(&mut kept);
            assert_eq!(kept.came.traced.phases.is_some(), has_spans, "{sampled} {outcome}");
        }
        let mut outcome = || match waiting.try_recv().ok()? {
            Source::Call(record) => Some(record.outcome.to_string()),
            Source::Refusal(refusal) => Some(refusal.code.to_string()),
        };
        assert_eq!(
            [outcome(), outcome(), outcome()],
            [Some("ok".to_owned()), Some("function_failed".to_owned()), None]
        );
        assert_eq!(traces.counted(), Some((0, spans::of(&record).len() as u64)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_leaves_room_for_the_traces_of_calls() {
        let config =
            TracingConfig { callers_per_second: 5, most_per_second: 40, ratio: 1.0, ..TracingConfig::default() };
        let (traces, _waiting) = traces(&config);
        let refused = |traces: &Traces, namespace: Option<&str>, flag| {
            let namespace = namespace.map(|name| name.parse().unwrap());
            (0..1_000).filter(|_| traces.takes_refusal(namespace.as_ref(), 0, flag)).count()
        };
        assert_eq!(refused(&traces, Some("shop"), Some(false)), 0, "nobody asked");
        assert_eq!(refused(&traces, Some("shop"), Some(true)), 5);
        assert_eq!(refused(&traces, None, Some(true)), 5, "a quarter of all");
        assert_eq!(refused(&traces, Some("bank"), None), 0);
        assert_eq!(taken(&traces, "shop", Some(true)), 5, "callers who are let in have their own");
        assert_eq!(taken(&traces, "shop", None), 25, "what is left of all");
        assert_eq!(refused(&Traces::default(), Some("shop"), Some(true)), 0, "off");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_goes_where_it_is_wanted_and_where_nobody_could_serve_it() {
        use crate::records::Phase;
        use dunlin_proto::ErrorCode::{TooManyRequests, Unauthenticated, Unavailable};
        let (traces, mut waiting) = traces(&TracingConfig { most_per_second: 8, ..TracingConfig::default() });
        for (code, sampled, span, expected) in [
            (Unauthenticated, true, 7, true),
            (Unauthenticated, false, 7, false),
            (TooManyRequests, false, 7, false),
            (Unavailable, false, 7, true),
            (Unavailable, false, 0, false),
            (Unavailable, false, 7, true),
            // Two a second of those that nobody asked for are enough.
            (Unavailable, false, 7, false),
        ] {
            let mut refusal = refusal::tests::refusal(code, Phase::Authenticate);
            (refusal.traced.sampled, refusal.traced.span) = (sampled, span);
            traces.offer_refusal(&refusal);
            assert_eq!(waiting.try_recv().is_ok(), expected, "{code:?} {sampled} {span}");
        }
        assert_eq!(traces.counted(), Some((0, 0)));
    }
}
