//! What became of a request, as shown.

use dunlin_proto::v1;
use serde::Serialize;

use super::{Millis, invocation::InvocationView};
use crate::{
    output::{Style, printable},
    units,
};

/// What became of a request.
#[derive(Debug, Serialize)]
pub(crate) struct ExplanationView {
    pub(crate) summary: String,
    pub(crate) advice: String,
    /// The record; null where none is kept.
    pub(crate) invocation: Option<InvocationView>,
    pub(crate) steps: Vec<StepView>,
    pub(crate) backtrace: Vec<String>,
    pub(crate) group: Vec<CountView>,
    pub(crate) unreachable: Vec<String>,
}

/// A step of a request.
#[derive(Debug, Serialize)]
pub(crate) struct StepView {
    pub(crate) at_ms: Millis,
    /// Null where it is a moment.
    pub(crate) took_ms: Option<Millis>,
    pub(crate) stage: String,
    pub(crate) text: String,
}

/// How often something became of requests.
#[derive(Debug, Serialize)]
pub(crate) struct CountView {
    pub(crate) function: String,
    pub(crate) outcome: String,
    pub(crate) count: u64,
}

impl From<v1::ExplainInvocationResponse> for ExplanationView {
    fn from(wire: v1::ExplainInvocationResponse) -> Self {
        let v1::Explanation { summary, advice, invocation, steps, backtrace, group } =
            wire.explanation.unwrap_or_default();
        let count = |v1::OutcomeCount { function, outcome, count }| CountView { function, outcome, count };
        Self {
            summary,
            advice,
            invocation: invocation.map(InvocationView::from),
            steps: steps.into_iter().map(StepView::from).collect(),
            backtrace,
            group: group.into_iter().map(count).collect(),
            unreachable: wire.unreachable,
        }
    }
}

impl From<v1::ExplanationStep> for StepView {
    fn from(wire: v1::ExplanationStep) -> Self {
        let took_ms = wire.took.map(|took| Millis::from_wire(Some(took)));
        Self { at_ms: Millis::from_wire(wire.at), took_ms, stage: wire.stage, text: wire.text }
    }
}

impl ExplanationView {
    /// For a person: the sentence, the steps with their times, where it trapped, what to do.
    pub(crate) fn text(&self, style: Style) -> String {
        let line = |text: &str| format!("{}\n", printable(text));
        let mut text = style.strong(&printable(&self.summary)) + "\n";
        if !self.steps.is_empty() {
            text.push('\n');
        }
        self.steps.iter().for_each(|step| text.push_str(&step.text(style)));
        let trace = self.invocation.as_ref().map_or("", |record| record.trace_id.as_str());
        if !trace.is_empty() {
            text.push_str(&format!("\n{}\n", style.faint(&format!("trace {}", printable(trace)))));
        }
        self.section(&mut text, "Backtrace", self.backtrace.iter().map(|frame| format!("  at {}", printable(frame))));
        let counts = self.group.iter().map(|group| {
            let function = if group.function.is_empty() { "no function" } else { &group.function };
            format!("  {:>6}  {} {}", group.count, printable(function), printable(&group.outcome))
        });
        self.section(&mut text, "Requests around that time", counts);
        if !self.advice.is_empty() {
            text.push_str(&format!("\n{}", line(&self.advice)));
        }
        text
    }

    fn section(&self, text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
        let lines: Vec<_> = lines.collect();
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n{}\n", lines.join("\n")));
        }
    }
}

impl StepView {
    fn text(&self, style: Style) -> String {
        let stage = format!("{:<9}", printable(&self.stage));
        let stage = match self.stage.as_str() {
            "failed" | "refused" => style.bad(&stage),
            _ => style.faint(&stage),
        };
        format!("{:>10}  {stage} {}\n", format!("+{}", units::duration(self.at_ms.0)), printable(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_is_a_sentence_its_steps_and_what_to_do() {
        let step = |micros: i32, stage: &str, text: &str| v1::ExplanationStep {
            at: Some(prost_types::Duration { seconds: 0, nanos: micros * 1_000 }),
            took: None,
            stage: stage.into(),
            text: text.into(),
        };
        let explanation = v1::Explanation {
            summary: "GET / of pay v1 failed".into(),
            advice: "look at its log".into(),
            steps: vec![step(0, "accepted", "GET /"), step(1_500, "log", "\u{1b}[31mred")],
            backtrace: vec!["charge".into()],
            invocation: Some(v1::Invocation { trace_id: "0af7".into(), ..Default::default() }),
            ..Default::default()
        };
        let wire = v1::ExplainInvocationResponse { explanation: Some(explanation), unreachable: Vec::new() };
        let text = ExplanationView::from(wire).text(Style::PLAIN);
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], "GET / of pay v1 failed");
        assert!(lines[2].ends_with("accepted  GET /") && lines[3].ends_with("\\u{1b}[31mred"), "{text}");
        assert_eq!(lines[4..], ["", "trace 0af7", "", "Backtrace", "at charge", "", "look at its log"]);
    }
}
