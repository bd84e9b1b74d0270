//! How two releases, or two versions, differ: field by field, in words that people read and programs compare.
//!
//! Values of a version's environment are never shown: they may be meant for fewer eyes than a release is.

use std::{collections::BTreeMap, time::Duration};

use dunlin_proto::{
    ids::Digest,
    model::VersionSpec,
    route::{Redirect, RouteSpec, RouteTarget, StaticResponse},
};
use serde_json::Value;

use super::{Contents, Division, FunctionState, changed};
use crate::model::{VersionRecord, text};

/// The longest value that is shown as it is, in bytes; of longer ones it is said what they are the digest of.
const LONGEST: usize = 300;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// What has it, as in `functions/pay`, `functions/pay/aliases/beta`, `functions/pay/versions` or `routes/users`.
    pub(crate) subject: String,
    /// Which one.
    pub(crate) field: String,
    /// Its value before; empty where there was none.
    pub(crate) before: String,
    /// Its value after; empty where there is none.
    pub(crate) after: String,
}

/// The fields of one subject.
type Fields = BTreeMap<String, String>;

/// How a release differs from another one.
pub(crate) fn between(old: &Contents, new: &Contents) -> Vec<Difference> {
    let mut found = Vec::new();
    for (name, state) in changed(&old.functions, &new.functions) {
        compare_functions(&format!("functions/{name}"), old.functions.get(name), state, &mut found);
    }
    for (name, route) in changed(&old.routes, &new.routes) {
        let fields = |route: Option<&RouteSpec>| route.map(of_route).unwrap_or_default();
        compare(&format!("routes/{name}"), &fields(old.routes.get(name)), &fields(route), &mut found);
    }
    found
}

/// What there is to compare of a version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Described<'a> {
    pub(crate) artifact: Digest,
    pub(crate) spec: &'a VersionSpec,
    pub(crate) imports: &'a [String],
}

impl<'a> Described<'a> {
    /// Of one that has been made.
    pub(crate) fn of(version: &'a VersionRecord) -> Self {
        Self { artifact: version.artifact, spec: &version.spec, imports: &version.imports }
    }
}

/// How a version of a function differs from another one, or from none.
pub(crate) fn of_version(subject: &str, old: Option<&Described<'_>>, new: &Described<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(subject, &old.map(version_fields).unwrap_or_default(), &version_fields(new), &mut found);
    let before = old.map(|old| old.spec.environment.clone()).unwrap_or_default();
    for (name, value) in changed(&before, &new.spec.environment) {
        let said = |there: bool, text: &str| if there { text.to_owned() } else { String::new() };
        found.push(Difference {
            subject: subject.to_owned(),
            field: format!("environment.{name}"),
            before: said(before.contains_key(name), "a value"),
            after: said(value.is_some(), if before.contains_key(name) { "another value" } else { "a value" }),
        });
    }
    found
}

fn compare(subject: &str, old: &Fields, new: &Fields, found: &mut Vec<Difference>) {
    for (field, value) in changed(old, new) {
        found.push(Difference {
            subject: subject.to_owned(),
            field: field.clone(),
            before: old.get(field).cloned().unwrap_or_default(),
            after: value.cloned().unwrap_or_default(),
        });
    }
}

fn compare_functions(
    subject: &str,
    old: Option<&FunctionState>,
    new: Option<&FunctionState>,
    found: &mut Vec<Difference>,
) {
    let fields = |state: Option<&FunctionState>| state.map(function_fields).unwrap_or_default();
    compare(subject, &fields(old), &fields(new), found);
    // Another function of the same name may look the same.
    if let (Some(old), Some(new)) = (old, new)
        && old.uid != new.uid
    {
        let (before, after) = (old.uid.to_string(), new.uid.to_string());
        found.push(Difference { subject: subject.to_owned(), field: "uid".to_owned(), before, after });
    }
    let aliases = |state: Option<&FunctionState>| state.map(|state| state.aliases.clone()).unwrap_or_default();
    let (old, new) = (aliases(old), aliases(new));
    for (name, division) in changed(&old, &new) {
        let fields = |division: Option<&Division>| division.map(division_fields).unwrap_or_default();
        compare(&format!("{subject}/aliases/{name}"), &fields(old.get(name)), &fields(division), found);
    }
}

fn function_fields(state: &FunctionState) -> Fields {
    let mut fields = division_fields(&state.live);
    for (name, value) in [("public", state.public), ("direct", state.direct), ("disabled", state.disabled)] {
        fields.insert(name.to_owned(), value.to_string());
    }
    fields
}

fn division_fields(division: &Division) -> Fields {
    let header = division.sticky.header.as_ref().map(|header| format!("header:{header}"));
    let cookie = division.sticky.cookie.then(|| "cookie".to_owned());
    let sticky = header.into_iter().chain(cookie).collect::<Vec<_>>().join(",");
    [("traffic", text(&division.shares)), ("sticky", sticky)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(field, value)| (field.to_owned(), value))
        .collect()
}

fn of_route(route: &RouteSpec) -> Fields {
    let mut fields = Fields::new();
    flatten("", serde_json::to_value(route).unwrap_or_default(), 1, &mut fields);
    fields.insert("target".to_owned(), shown(&target(&route.target)));
    fields
}

/// What becomes of a route's requests, for people.
fn target(target: &RouteTarget) -> String {
    match target {
        RouteTarget::Function { function, alias, rewrite } => {
            let alias = alias.as_ref().map(|alias| format!(":{alias}")).unwrap_or_default();
            let rewrite = rewrite.as_ref().map(|rewrite| format!(" as {rewrite}")).unwrap_or_default();
            format!("function {function}{alias}{rewrite}")
        }
        RouteTarget::Response(StaticResponse { status, content_type, body }) => {
            format!("{status} {content_type} {}", String::from_utf8_lossy(body))
        }
        RouteTarget::Redirect(Redirect { location, status }) => format!("{status} to {location}"),
    }
}

fn version_fields(version: &Described<'_>) -> Fields {
    let mut fields = Fields::new();
    let mut spec = serde_json::to_value(version.spec).unwrap_or_default();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("environment");
    }
    flatten("", spec, 2, &mut fields);
    fields.insert("artifact".to_owned(), version.artifact.to_string());
    if !version.imports.is_empty() {
        fields.insert("imports".to_owned(), shown(&version.imports.join(",")));
    }
    fields
}

/// The members of an object by their names, down to a depth; what is empty has no field.
fn flatten(name: &str, value: Value, depth: usize, fields: &mut Fields) {
    if let Some(span) = span(&value) {
        fields.insert(name.to_owned(), span);
        return;
    }
    match bare(value) {
        Some(Value::Object(members)) if depth > 0 => {
            for (member, value) in members {
                let name = if name.is_empty() { member } else { format!("{name}.{member}") };
                flatten(&name, value, depth.saturating_sub(1), fields);
            }
        }
        Some(Value::String(text)) => drop(fields.insert(name.to_owned(), shown(&text))),
        Some(other) => drop(fields.insert(name.to_owned(), shown(&other.to_string()))),
        None => {}
    }
}

/// A span of time, which is kept as seconds and nanoseconds.
fn span(value: &Value) -> Option<String> {
    let members = value.as_object().filter(|members| members.len() == 2)?;
    let (seconds, nanos) = (members.get("secs")?.as_u64()?, members.get("nanos")?.as_u64()?);
    let span = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos));
    Some(humantime::format_duration(span).to_string())
}

/// A value without members that say nothing; nothing where that is all.
fn bare(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter_map(|(name, value)| Some((name, bare(value)?)));
            let members: serde_json::Map<_, _> = members.collect();
            (!members.is_empty()).then_some(Value::Object(members))
        }
        Value::Null => None,
        Value::Array(list) if list.is_empty() => None,
        other => Some(other),
    }
}

fn shown(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    format!("{} bytes, {}", text.len(), Digest::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use dunlin_proto::v1;

    use super::*;
    use crate::model::Share;

    fn function(shares: &[(u32, u32)], public: bool, aliases: &[(&str, u32)]) -> FunctionState {
        let share = |(version, percent): &(u32, u32)| Share((*version).try_into().unwrap(), *percent);
        let division = |shares| Division { shares, sticky: dunlin_proto::model::Sticky::default() };
        FunctionState {
            uid: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".parse().unwrap(),
            public,
            direct: false,
            disabled: false,
            live: division(shares.iter().map(share).collect()),
            aliases: aliases
                .iter()
                .map(|(name, version)| (name.parse().unwrap(), division(vec![share(&(*version, 100))])))
                .collect(),
        }
    }

    fn route(path: &str, body: &str) -> RouteSpec {
        let target = v1::StaticResponse { body: body.to_owned().into(), ..Default::default() };
        let target = Some(v1::route::Target::Response(target));
        v1::Route { path: path.into(), target, ..Default::default() }.try_into().unwrap()
    }

    fn contents(functions: &[(&str, FunctionState)], routes: &[(&str, RouteSpec)]) -> Contents {
        Contents {
            functions: functions.iter().map(|(name, state)| (name.parse().unwrap(), state.clone())).collect(),
            routes: routes.iter().map(|(name, route)| (name.parse().unwrap(), route.clone())).collect(),
        }
    }

    fn lines(old: &Contents, new: &Contents) -> Vec<String> {
        let line = |it: Difference| format!("{} {}: {} -> {}", it.subject, it.field, it.before, it.after);
        between(old, new).into_iter().map(line).collect()
    }

    #[test]
    fn releases_differ_field_by_field() {
        let one = function(&[(1, 100)], false, &[]);
        let none = contents(&[], &[]);
        let old = contents(&[("pay", one.clone())], &[("a", route("/a", "x"))]);
        assert!(lines(&old, &old).is_empty());
        for (new, expected) in [
            (
                contents(&[("pay", function(&[(1, 90), (2, 10)], false, &[]))], &[("a", route("/a", "x"))]),
                vec!["functions/pay traffic: v1=100 -> v1=90,v2=10"],
            ),
            (
                contents(&[("pay", function(&[(1, 100)], true, &[("beta", 2)]))], &[("a", route("/a", "x"))]),
                vec!["functions/pay public: false -> true", "functions/pay/aliases/beta traffic:  -> v2=100"],
            ),
            (
                contents(&[("pay", one.clone())], &[("a", route("/b", "y"))]),
                vec![
                    "routes/a path: /a -> /b",
                    "routes/a target: 200 text/plain; charset=utf-8 x -> 200 text/plain; charset=utf-8 y",
                ],
            ),
            (
                contents(&[("pay", one)], &[]),
                vec!["routes/a compress: false -> ", "routes/a path: /a -> ", "routes/a auth: function -> "],
            ),
        ] {
            let found = lines(&old, &new);
            for expected in expected {
                assert!(found.iter().any(|line| line == expected), "{expected:?} is not in {found:?}");
            }
        }
        let gone = lines(&old, &none);
        assert!(gone.iter().any(|line| line == "functions/pay traffic: v1=100 -> "), "{gone:?}");
        let back = lines(&none, &old);
        assert_eq!(back.len(), gone.len(), "{back:?}");
    }

    #[test]
    fn values_are_written_for_people() {
        let mut fields = Fields::new();
        let value = serde_json::json!({
            "timeout": { "secs": 90, "nanos": 0 },
            "headers": { "add": [], "remove": [] },
            "target": { "function": { "function": "pay", "rewrite": null } },
            "host": null,
            "path": "/a",
        });
        flatten("", value, 1, &mut fields);
        let found: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            found,
            [("path", "/a"), ("target", "{\"function\":{\"function\":\"pay\"}}"), ("timeout", "1m 30s"),]
        );
    }

    #[test]
    fn what_is_long_is_named_by_its_digest() {
        let (old, new) =
            (contents(&[], &[("a", route("/a", "x"))]), contents(&[], &[("a", route("/a", &"y".repeat(400)))]));
        let found = lines(&old, &new);
        assert!(found.len() == 1 && found[0].contains("bytes, sha256:") && found[0].len() < 700, "{found:?}");
    }
}
