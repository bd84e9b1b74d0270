//! Routes as a document of OpenAPI 3.1, from which the same routes can be imported.
//!
//! What OpenAPI has no word for stands in extensions (`settings.rs`); schemas are `export/components.rs`'s.

mod components;

use std::collections::{BTreeMap, BTreeSet};

use dunlin_proto::{
    ids::Namespace,
    v1::{self, route::Target},
};
use serde_json::{Map, Value, json};

use crate::{
    settings::{ANY_METHOD, FUNCTION, ROUTE, ROUTES, Settings},
    template::{parameters as parameters_of, plain, shape},
};
use components::Components;

/// The methods that a path may have, but for `trace`, which is not served.
const METHODS: [&str; 7] = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH"];

/// The document of a namespace.
#[must_use]
pub fn document(namespace: &Namespace, routes: &[v1::Route]) -> Value {
    let names = routes.iter().map(|route| bare(route).to_owned()).collect();
    let mut export = Export { names, ..Export::default() };
    routes.iter().for_each(|route| export.add(route));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": namespace.as_str(), "version": "1", "description": "The routes of a namespace of Dunlin." },
        "paths": export.paths,
        "components": { "schemas": export.components.schemas, "securitySchemes": schemes() },
    });
    if let (Some(fields), false) = (document.as_object_mut(), export.others.is_empty()) {
        fields.insert(ROUTES.to_owned(), Value::Array(export.others));
    }
    document
}

fn schemes() -> Value {
    json!({
        "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
        "key": { "type": "apiKey", "in": "header", "name": "X-Api-Key" },
    })
}

#[derive(Debug, Default)]
struct Export {
    paths: Map<String, Value>,
    /// The path that stands for all that differ in the names of their parameters alone, by what they have in common.
    shapes: BTreeMap<String, String>,
    others: Vec<Value>,
    components: Components,
    /// The routes' own names.
    names: BTreeSet<String>,
    /// The ids that operations have.
    ids: BTreeSet<String>,
}

impl Export {
    fn add(&mut self, route: &v1::Route) {
        let path = plain(&route.path);
        let shape = self.shapes.entry(shape(&path)).or_insert_with(|| path.clone()).clone();
        let methods = methods(route);
        let item = self.paths.get(&path).and_then(Value::as_object);
        let free = shape == path && methods.iter().all(|method| item.is_none_or(|item| !item.contains_key(method)));
        if !free {
            let operation = self.operation(route, None);
            self.others.push(operation);
            return;
        }
        for method in &methods {
            let operation = self.operation(route, Some((path.as_str(), method.as_str(), methods.len() > 1)));
            let item = self.paths.entry(path.clone()).or_insert_with(|| json!({}));
            if let Some(item) = item.as_object_mut() {
                item.insert(method.clone(), operation);
            }
        }
    }

    /// An operation at a path and method, or one that says both itself.
    fn operation(&mut self, route: &v1::Route, place: Option<(&str, &str, bool)>) -> Value {
        let name = bare(route);
        let mut settings = Settings { name: Some(name.to_owned()), ..Settings::of(route) };
        settings.path = Some(route.path.clone()).filter(|path| place.is_none_or(|(known, ..)| known != path.as_str()));
        let said = place.is_some_and(|(_, method, _)| said(method) == route.methods);
        settings.methods = Some(route.methods.clone()).filter(|_| !said);
        let id = self.id(route, place.and_then(|(_, method, several)| several.then_some(method)));
        let mut out = Map::from_iter([
            ("operationId".to_owned(), id.into()),
            (ROUTE.to_owned(), serde_json::to_value(settings).unwrap_or_default()),
            ("responses".to_owned(), responses(route)),
        ]);
        if let Some(Target::Function(v1::FunctionTarget { function, alias, .. })) = &route.target {
            let alias = if alias.is_empty() { String::new() } else { format!(":{alias}") };
            out.insert(FUNCTION.to_owned(), format!("{function}{alias}").into());
        }
        if let Some(security) = security(route) {
            out.insert("security".to_owned(), security);
        }
        self.checked(route, name, &mut out);
        Value::Object(out)
    }

    /// An id that no other operation has: the one that the route was imported with, or else its name.
    fn id(&mut self, route: &v1::Route, method: Option<&str>) -> String {
        let own = Some(&*route.operation_id).filter(|id| !id.is_empty() && !self.names.contains(*id));
        let with = |id: &str| method.map_or_else(|| id.to_owned(), |method| format!("{id}-{method}"));
        let name = with(bare(route));
        let others = (2..).map(|number| format!("{name}-{number}"));
        let mut wanted = own.map(with).into_iter().chain([name.clone()]).chain(others);
        let id = wanted.find(|id| !self.ids.contains(id)).unwrap_or_default();
        self.ids.insert(id.clone());
        id
    }

    /// What requests must be like.
    fn checked(&mut self, route: &v1::Route, name: &str, out: &mut Map<String, Value>) {
        let rules = route.validation.as_ref().map_or(&[][..], |validation| &validation.parameters);
        let mut parameters: Vec<_> = rules.iter().map(|rule| parameter(rule, name, &mut self.components)).collect();
        let is_ruled =
            |wanted: &str| rules.iter().any(|rule| rule.place() == v1::ParameterPlace::Path && rule.name == wanted);
        let in_path = parameters_of(&route.path).filter(|name| !is_ruled(name));
        parameters.extend(
            in_path.map(|name| json!({ "in": "path", "name": name, "required": true, "schema": { "type": "string" } })),
        );
        if !parameters.is_empty() {
            out.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(body) = route.validation.as_ref().and_then(|validation| validation.body.as_ref()) {
            let components = &mut self.components;
            let media = body.media_types.iter().map(|rule| {
                let schema = Some(&rule.schema).filter(|schema| !schema.is_empty());
                let schema = schema.map(|schema| components.place(schema, name));
                (rule.media_type.clone(), schema.map_or(json!({}), |schema| json!({ "schema": schema })))
            });
            let content: Map<_, _> = media.collect();
            out.insert("requestBody".to_owned(), json!({ "required": body.required, "content": content }));
        }
    }
}

/// A route's name without its namespace.
fn bare(route: &v1::Route) -> &str {
    route.name.rsplit('/').next().unwrap_or_default()
}

/// The keys of a route's methods under its path.
fn methods(route: &v1::Route) -> Vec<String> {
    let known = !route.methods.is_empty() && route.methods.iter().all(|method| METHODS.contains(&&**method));
    if known {
        route.methods.iter().map(|method| method.to_ascii_lowercase()).collect()
    } else {
        vec![ANY_METHOD.to_owned()]
    }
}

/// What a key says of the methods.
fn said(key: &str) -> Vec<String> {
    if key == ANY_METHOD { Vec::new() } else { vec![key.to_ascii_uppercase()] }
}

fn responses(route: &v1::Route) -> Value {
    match &route.target {
        Some(Target::Response(response)) => json!({ response.status.to_string(): { "description": "Always." } }),
        Some(Target::Redirect(redirect)) => {
            json!({ redirect.status.to_string(): { "description": "It is elsewhere." } })
        }
        _ if route.validation.is_some() => json!({
            "default": { "description": "What the function answers." },
            "400": { "description": "The request is not what the route takes; `error.violations` says why." },
        }),
        _ => json!({ "default": { "description": "What the function answers." } }),
    }
}

fn security(route: &v1::Route) -> Option<Value> {
    let scopes = route.token.as_ref().map(|rule| rule.scopes.clone()).unwrap_or_default();
    match route.auth() {
        // An authorizer is among what OpenAPI can't say.
        v1::RouteAuth::Unspecified | v1::RouteAuth::Authorizer => None,
        v1::RouteAuth::Public => Some(json!([])),
        v1::RouteAuth::Private => Some(json!([{ "token": scopes }, { "key": [] }])),
        v1::RouteAuth::Jwt => Some(json!([{ "token": scopes }])),
        v1::RouteAuth::Key => Some(json!([{ "key": [] }])),
    }
}

fn parameter(rule: &v1::ParameterRule, name: &str, components: &mut Components) -> Value {
    let place = match rule.place() {
        v1::ParameterPlace::Path => "path",
        v1::ParameterPlace::Query | v1::ParameterPlace::Unspecified => "query",
        v1::ParameterPlace::Header => "header",
        v1::ParameterPlace::Cookie => "cookie",
    };
    let style = match rule.style() {
        v1::ParameterStyle::Form | v1::ParameterStyle::Unspecified => "form",
        v1::ParameterStyle::Simple => "simple",
        v1::ParameterStyle::SpaceDelimited => "spaceDelimited",
        v1::ParameterStyle::PipeDelimited => "pipeDelimited",
        v1::ParameterStyle::DeepObject => "deepObject",
        v1::ParameterStyle::Json => "",
    };
    let schema = components.place(&rule.schema, name);
    let mut out = json!({ "in": place, "name": rule.name, "required": rule.required });
    let more = match style {
        "" => json!({ "content": { "application/json": { "schema": schema } } }),
        style => json!({ "style": style, "explode": rule.explode, "schema": schema }),
    };
    if let (Some(out), Value::Object(more)) = (out.as_object_mut(), more) {
        out.extend(more);
    }
    out
}

#[cfg(test)]
mod tests;
