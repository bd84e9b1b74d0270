//! The audit log: who changed what, with what was there before and since; of a namespace, or for operators of everything.

use std::time::SystemTime;

use askama::Template;
use axum::extract::State;
use dunlin_proto::{ids::Namespace, names::NamespaceRef, v1};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Page, escaped,
    format::When,
    render,
    shell::{Section, Shell},
    view::{Badge, visible},
};
use crate::{
    admin::{
        app::App,
        model::{AuditEntry, AuditList, AuditOutcome},
        params::{Named, Query},
        session::Visitor,
    },
    auth::Principal,
};

/// Entries of a page.
const SHOWN: i32 = 50;

#[derive(Debug, Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    /// The namespace; empty for everything.
    namespace: String,
    /// Where the form sends to.
    here: String,
    filter: Filter,
    rows: Vec<Row>,
    /// The address of the next page; empty on the last one.
    older: String,
    /// The same from a terminal.
    command: String,
}

/// Which entries.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    subject: String,
    action: String,
    resource: String,
    page_token: String,
}

#[derive(Debug)]
struct Row {
    sequence: u64,
    when: Option<When>,
    who: String,
    role: String,
    address: String,
    gateway: String,
    action: String,
    resource: String,
    outcome: Badge,
    /// What differs, a line each.
    changes: Vec<Line>,
    request_id: String,
    token_id: String,
    hash: String,
}

/// A line of a difference.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    field: String,
    before: String,
    after: String,
}

impl Row {
    fn new(entry: AuditEntry, now: SystemTime) -> Self {
        let outcome = match entry.outcome {
            AuditOutcome::Done => Badge::ok("done"),
            AuditOutcome::Refused => Badge::bad("refused"),
            AuditOutcome::Unknown => Badge::warn("unknown"),
        };
        Self {
            sequence: entry.sequence,
            when: entry.at.map(|at| When::new(at, now)),
            who: if entry.subject.is_empty() { "the platform".to_owned() } else { visible(&entry.subject) },
            role: visible(&entry.role),
            address: visible(&entry.address),
            gateway: visible(&entry.gateway),
            action: visible(&entry.action),
            resource: visible(&entry.resource),
            outcome,
            changes: difference(&entry.before, &entry.after),
            request_id: visible(&entry.request_id),
            token_id: visible(&entry.token_id),
            hash: entry.hash,
        }
    }
}

/// The fields that differ between two states. What is no JSON document is shown as it is.
fn difference(before: &str, after: &str) -> Vec<Line> {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.into());
    let mut lines = Vec::new();
    compare("", &parsed(before), &parsed(after), &mut lines);
    lines
}

/// How deep states are looked into; below that they are compared whole.
const DEEP: usize = 4;

fn compare(field: &str, before: &Value, after: &Value, lines: &mut Vec<Line>) {
    if before == after {
        return;
    }
    let none = serde_json::Map::new();
    let members = |value: &Value| value.as_object().cloned().unwrap_or_else(|| none.clone());
    let nested = |value: &Value| value.is_object() || value.is_null() || value.as_str() == Some("");
    let deep = field.matches('.').count() + 1 >= DEEP;
    if deep || !nested(before) || !nested(after) || (!before.is_object() && !after.is_object()) {
        lines.push(Line { field: visible(field), before: shown(before), after: shown(after) });
        return;
    }
    let (old, new) = (members(before), members(after));
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let below = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
        compare(&below, old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null), lines);
    }
}

/// The most letters of a value that a page shows.
const LONG: usize = 400;

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let short: String = text.chars().take(LONG).collect();
    if short.len() < text.len() { format!("{}…", visible(&short)) } else { visible(&text) }
}

impl Filter {
    fn into_request(self, parent: String) -> v1::ListAuditEntriesRequest {
        v1::ListAuditEntriesRequest {
            parent,
            page_size: SHOWN,
            page_token: self.page_token,
            subject: self.subject,
            action: self.action,
            resource: self.resource,
            ..Default::default()
        }
    }

    /// The filter as a query, with a place to go on from.
    fn query(&self, page_token: &str) -> String {
        let fields = [("subject", &*self.subject), ("action", &*self.action), ("resource", &*self.resource)];
        let fields = fields.into_iter().chain([("page_token", page_token)]);
        let pairs = fields.filter(|(_, value)| !value.is_empty());
        pairs.map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
    }

    /// The same from a terminal.
    fn command(&self, namespace: &str) -> String {
        let fields = [
            ("--namespace", namespace),
            ("--actor", &*self.subject),
            ("--action", &*self.action),
            ("--resource", &*self.resource),
        ];
        let words = fields.into_iter().filter(|(_, value)| !value.is_empty());
        words.fold("dunlin audit list".to_owned(), |line, (flag, value)| {
            let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/@".contains(&byte));
            let value = if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) };
            format!("{line} {flag} {}", visible(&value))
        })
    }
}

/// Shows a namespace's entries.
pub(super) async fn of_namespace(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
    Query(filter): Query<Filter>,
) -> Page {
    show(&app, &who, Some(&namespace), filter).await
}

/// Shows everything.
pub(super) async fn of_cluster(State(app): State<App>, Visitor(who): Visitor, Query(filter): Query<Filter>) -> Page {
    show(&app, &who, None, filter).await
}

async fn show(app: &App, who: &Principal, namespace: Option<&Namespace>, filter: Filter) -> Page {
    let here = namespace.map_or_else(|| "/audit".to_owned(), |name| format!("/namespaces/{name}/audit"));
    let parent = namespace.map(|name| format!("namespaces/{name}")).unwrap_or_default();
    let (list, shell) = tokio::join!(
        app.audit_list(who, filter.clone().into_request(parent)),
        Shell::new(app, who, namespace, Section::Audit),
    );
    let (list, now) = (AuditList::from(list?), SystemTime::now());
    let namespace = namespace.map(ToString::to_string).unwrap_or_default();
    let next = list.next_page_token;
    render(&AuditPage {
        shell,
        command: filter.command(&namespace),
        older: if next.is_empty() { String::new() } else { format!("{here}?{}", filter.query(&next)) },
        rows: list.entries.into_iter().map(|entry| Row::new(entry, now)).collect(),
        namespace,
        here,
        filter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(before: &str, after: &str) -> Vec<(String, String, String)> {
        difference(before, after).into_iter().map(|line| (line.field, line.before, line.after)).collect()
    }

    #[test]
    fn only_what_differs_is_shown() {
        let line = |field: &str, before: &str, after: &str| (field.to_owned(), before.to_owned(), after.to_owned());
        for (before, after, expected) in [
            ("", "", vec![]),
            ("{}", r#"{"a":1}"#, vec![line("a", "", "1")]),
            ("", r#"{"a":"x","b":{"c":[1]}}"#, vec![line("a", "", "x"), line("b.c", "", "[1]")]),
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, vec![line("b", "2", "3")]),
            (r#"{"a":{"b":true}}"#, "", vec![line("a.b", "true", "")]),
            (r#"{"a":1}"#, r#"{"a":{"b":2}}"#, vec![line("a", "1", r#"{"b":2}"#)]),
            ("no json", "other", vec![line("", "no json", "other")]),
        ] {
            assert_eq!(lines(before, after), expected, "{before} {after}");
        }
        let long = lines("", &format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000)));
        assert_eq!(long[0].2.chars().count(), LONG + 1);
    }

    #[test]
    fn a_filter_becomes_a_query_and_a_command() {
        let filter = Filter { subject: "it's me".into(), action: "route".into(), ..Filter::default() };
        assert_eq!(filter.query("abc"), "subject=it%27s%20me&action=route&page_token=abc");
        assert_eq!(filter.command("shop"), r"dunlin audit list --namespace shop --actor 'it'\''s me' --action route");
        assert_eq!(Filter::default().command(""), "dunlin audit list");
    }
}
