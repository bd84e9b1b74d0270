//! What became of a request, as administration shows it.

use dunlin_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Invocation, time::micros};

/// What became of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Explanation {
    /// All of it in a sentence.
    pub(crate) summary: String,
    /// What to do; empty where nothing is to be done.
    pub(crate) advice: String,
    /// The record; null where none is kept.
    pub(crate) invocation: Option<Invocation>,
    /// What happened, in the order of time.
    pub(crate) steps: Vec<Step>,
    /// Where the guest trapped, innermost first: the names of its functions, each with `(file:line)` where that is known.
    pub(crate) backtrace: Vec<String>,
    /// Where no record is kept: what became of the namespace's requests around that time.
    pub(crate) group: Vec<OutcomeCount>,
    /// Processes that did not answer, which may know more.
    pub(crate) unreachable: Vec<String>,
}

/// A step of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ExplanationStep)]
pub(crate) struct Step {
    /// When it began, in microseconds from the acceptance of the request.
    pub(crate) at_us: u64,
    /// How long it took, in microseconds; null where it is a moment.
    pub(crate) took_us: Option<u64>,
    /// Its name.
    #[schema(example = "sandbox")]
    pub(crate) stage: String,
    /// What happened.
    pub(crate) text: String,
}

/// How often something became of requests.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct OutcomeCount {
    /// The function's bare name; empty where none was found.
    pub(crate) function: String,
    /// `ok`, or the code of what went wrong.
    pub(crate) outcome: String,
    /// How often.
    pub(crate) count: u64,
}

impl From<v1::ExplainInvocationResponse> for Explanation {
    fn from(wire: v1::ExplainInvocationResponse) -> Self {
        let v1::Explanation { summary, advice, invocation, steps, backtrace, group } =
            wire.explanation.unwrap_or_default();
        Self {
            summary,
            advice,
            invocation: invocation.map(Invocation::from),
            steps: steps.into_iter().map(Step::from).collect(),
            backtrace,
            group: group.into_iter().map(OutcomeCount::from).collect(),
            unreachable: wire.unreachable,
        }
    }
}

impl From<v1::ExplanationStep> for Step {
    fn from(wire: v1::ExplanationStep) -> Self {
        let took_us = wire.took.map(|took| micros(Some(took)));
        Self { at_us: micros(wire.at), took_us, stage: wire.stage, text: wire.text }
    }
}

impl From<v1::OutcomeCount> for OutcomeCount {
    fn from(wire: v1::OutcomeCount) -> Self {
        let v1::OutcomeCount { function, outcome, count } = wire;
        Self { function, outcome, count }
    }
}
