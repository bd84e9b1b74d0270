//! A trace as a tree for people or an object for programs, of `dunlin up --trace` and `dunlin invoke --trace` alike.

use dunlin_gateway::{Branch, Tree};
use dunlin_proto::{model, v1};
use serde::Serialize;

use super::{Millis, part};
use crate::{
    output::{Style, printable},
    units,
};

/// A trace for programs.
#[derive(Serialize)]
pub(crate) struct TraceView<'a> {
    trace_id: &'a str,
    invocation: &'a str,
    function: &'a str,
    status: u16,
    error: Option<&'a str>,
    spans: Vec<SpanView<'a>>,
}

#[derive(Serialize)]
pub(crate) struct SpanView<'a> {
    name: &'a str,
    depth: usize,
    at_ms: Millis,
    took_ms: Millis,
}

impl<'a> From<&'a Tree> for TraceView<'a> {
    fn from(tree: &'a Tree) -> Self {
        let Tree { trace_id, invocation, function, status, error, branches } = tree;
        let spans = branches.iter().map(SpanView::from).collect();
        Self { trace_id, invocation, function, status: *status, error: error.as_deref(), spans }
    }
}

impl<'a> From<&'a Branch> for SpanView<'a> {
    fn from(branch: &'a Branch) -> Self {
        let Branch { name, depth, at, took } = branch;
        Self { name, depth: *depth, at_ms: Millis(*at), took_ms: Millis(*took) }
    }
}

/// The trace of a call that somebody asked for.
pub(crate) fn asked_for(response: &v1::InvokeResponse) -> Option<Tree> {
    let (trace, call) = (response.trace.as_ref()?, response.invocation.clone().unwrap_or_default());
    let branch = |span: &v1::InvocationSpan| Branch {
        name: span.name.clone(),
        depth: span.depth as usize,
        at: model::from_wire_duration(span.at),
        took: model::from_wire_duration(span.took),
    };
    Some(Tree {
        trace_id: trace.trace_id.clone(),
        invocation: part(&call.name, "invocations"),
        function: call.name.split("/invocations/").next().unwrap_or_default().to_owned(),
        status: u16::try_from(response.status).unwrap_or_default(),
        error: (call.outcome != "ok").then_some(call.error),
        branches: trace.spans.iter().map(branch).collect(),
    })
}

/// A trace for people, the durations below each other.
pub(crate) fn text(tree: &Tree, style: Style) -> String {
    let Some((whole, parts)) = tree.branches.split_first() else { return String::new() };
    let status = tree.status.to_string();
    let status = if tree.error.is_some() { style.bad(&status) } else { style.good(&status) };
    let name = style.strong(&printable(&whole.name));
    let about = style.faint(&format!("invocation {} trace {}", tree.invocation, tree.trace_id));
    let mut text = format!("{name} {status} {}  {about}\n", units::duration(whole.took));
    let names: Vec<_> = (0..parts.len()).map(|place| limb(parts, place)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    for (name, part) in names.iter().zip(parts) {
        text += &format!("{name:width$}  {}\n", units::duration(part.took));
    }
    if let Some(error) = &tree.error {
        // A backtrace has a line for each function.
        error.lines().for_each(|line| text += &format!("{}\n", style.bad(&printable(line))));
    }
    text
}

/// A part's name behind the branches that lead to it.
fn limb(parts: &[Branch], place: usize) -> String {
    let Some(part) = parts.get(place) else { return String::new() };
    // Whether another part of the same level follows before the tree goes back to a lower one.
    let goes_on = |depth: usize| {
        let mut later = parts.iter().skip(place + 1).skip_while(|other| other.depth > depth);
        later.next().is_some_and(|other| other.depth == depth)
    };
    let mut text = String::new();
    for depth in 1..part.depth {
        text += if goes_on(depth) { "│  " } else { "   " };
    }
    text += if goes_on(part.depth) { "├─ " } else { "└─ " };
    text + &printable(&part.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tree() -> Tree {
        let micros = Duration::from_micros;
        let branch =
            |name: &str, depth, at, took| Branch { name: name.to_owned(), depth, at: micros(at), took: micros(took) };
        Tree {
            trace_id: "0af7".to_owned(),
            invocation: "0198".to_owned(),
            function: "namespaces/shop/functions/pay".to_owned(),
            status: 200,
            error: None,
            branches: vec![
                branch("GET pay", 0, 0, 3_000),
                branch("queue", 1, 0, 1_000),
                branch("invoke", 1, 1_000, 2_000),
                branch("load", 2, 1_000, 500),
                branch("run", 2, 1_500, 1_500),
            ],
        }
    }

    #[test]
    fn a_trace_is_a_tree_with_durations_below_each_other() {
        let shown = text(&tree(), Style::PLAIN);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[0].starts_with("GET pay 200 ") && lines[0].ends_with("  invocation 0198 trace 0af7"), "{shown}");
        let limbs: Vec<_> = lines[1..].iter().map(|line| line.split("  ").next().unwrap()).collect();
        assert_eq!(limbs[..2], ["├─ queue", "└─ invoke"], "{shown}");
        assert!(lines[3].starts_with("   ├─ load  ") && lines[4].starts_with("   └─ run   "), "{shown}");
        let failed = Tree { error: Some("a \u{1b}[2J trap".to_owned()), ..tree() };
        assert!(text(&failed, Style::PLAIN).ends_with("a \\u{1b}[2J trap\n"));
    }

    #[test]
    fn programs_get_milliseconds() {
        let json = serde_json::to_value(TraceView::from(&tree())).unwrap();
        assert_eq!((&json["status"], &json["spans"][3]["name"]), (&200.into(), &"load".into()));
        assert_eq!((json["spans"][4]["at_ms"].as_f64(), json["spans"][4]["depth"].as_u64()), (Some(1.5), Some(2)));
    }
}
