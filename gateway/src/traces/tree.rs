//! Traces for somebody in the same process who watches them come, made of the same spans that are exported. Who does not keep up
//! misses some.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::{
    Source, refusal,
    spans::{self, Span},
};
use crate::records::{Record, Refusal};

/// A finished invocation or a request that was refused before, as a tree of its spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The trace's id in hexadecimal digits.
    pub trace_id: String,
    /// The invocation's id.
    pub invocation: String,
    /// The function's name in the API; empty where a refused request led to none.
    pub function: String,
    /// HTTP status that the caller got; 0 when it left before.
    pub status: u16,
    /// What went wrong.
    pub error: Option<String>,
    /// The parts in the order of time, each after what it is a part of; the first is the whole.
    pub branches: Vec<Branch>,
}

/// A part of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// What it is.
    pub name: String,
    /// Of how many others it is a part.
    pub depth: usize,
    /// When it began, from the invocation's acceptance on.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
}

/// Traces as they come.
#[derive(Debug)]
pub struct Trees(pub(super) mpsc::Receiver<Source>);

impl Trees {
    /// The next one; nothing once the gateway is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Tree> {
        Some(match self.0.recv().await? {
            Source::Call(record) => tree(&record),
            Source::Refusal(refusal) => of_refusal(&refusal),
        })
    }
}

/// The tree of a finished invocation.
pub(crate) fn tree(record: &Record) -> Tree {
    let spans = spans::of(record);
    let error = spans.first().and_then(|root| root.error.clone());
    Tree {
        trace_id: format!("{:032x}", record.came.trace),
        invocation: record.id.to_string(),
        function: record.function.to_string(),
        status: record.status,
        error,
        branches: spans.iter().map(|span| branch(span, &spans, record.start_time)).collect(),
    }
}

/// The tree of a request that was refused.
fn of_refusal(refusal: &Refusal) -> Tree {
    let spans = refusal::of(refusal);
    let function = refusal.namespace.as_ref().zip(refusal.function.as_ref());
    Tree {
        trace_id: format!("{:032x}", refusal.trace),
        invocation: refusal.id.to_string(),
        function: function.map(|(of, name)| format!("namespaces/{of}/functions/{name}")).unwrap_or_default(),
        status: refusal.code.http_status(),
        error: Some(refusal.error.clone()),
        branches: spans.iter().map(|span| branch(span, &spans, refusal.start_time)).collect(),
    }
}

fn branch(span: &Span, all: &[Span], origin: SystemTime) -> Branch {
    let above = |span: &Span| all.iter().find(|other| other.id == span.parent);
    // The root's parent is the caller's, and is not here.
    let depth = std::iter::successors(above(span), |span| above(span)).take(all.len()).count();
    let since = |time: SystemTime, from| time.duration_since(from).unwrap_or_default();
    Branch { name: span.name.clone(), depth, at: since(span.start, origin), took: since(span.end, span.start) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_stands_below_what_it_is_a_part_of() {
        let tree = tree(&spans::tests::record());
        let depths: Vec<_> = tree.branches.iter().map(|branch| (branch.name.as_str(), branch.depth)).collect();
        let expected =
            [("queue", 1), ("invoke", 1), ("fetch", 2), ("load", 2), ("wait", 2), ("sandbox", 2), ("run", 2)];
        assert_eq!(depths.first(), Some(&("GET /users/{id}", 0)));
        assert_eq!(depths.get(1..), Some(&expected[..]));
        assert_eq!((tree.trace_id.len(), tree.status, tree.error), (32, 200, None));
    }

    #[tokio::test]
    async fn whoever_watches_sees_what_was_refused_and_by_which_part() {
        let (watcher, watched) = mpsc::channel(1);
        let refused =
            refusal::tests::refusal(dunlin_proto::ErrorCode::Unauthenticated, crate::records::Phase::Authenticate);
        watcher.send(Source::Refusal(Box::new(refused))).await.unwrap();
        let tree = Trees(watched).next().await.unwrap();
        let depths: Vec<_> = tree.branches.iter().map(|branch| (branch.name.as_str(), branch.depth)).collect();
        assert_eq!(depths, [("GET pay", 0), ("route", 1), ("authenticate", 1)]);
        assert_eq!((tree.status, tree.error.as_deref()), (401, Some("not that")));
        assert!(tree.function.ends_with("/functions/pay"), "{tree:?}");
    }
}
