//! A document as routes: one for each operation, or nothing and the place of what can't be one.
//!
//! Parameters and bodies are `import/validation.rs`'s, whether parameters fit their operation `import/parameters.rs`'s,
//! credentials `import/security.rs`'s, base paths `import/servers.rs`'s.

mod parameters;
mod security;
mod servers;
mod validation;

use parameters::Paths;
use security::Access;
use std::collections::{BTreeMap, BTreeSet};

use dunlin_proto::{
    ApiError,
    ids::{Namespace, RouteId},
    names::RouteName,
    route::RouteSpec,
    v1::{self, route::Target},
};
use serde_json::Value;

use crate::{
    at::{At, Malformed},
    dialect::{self, Dialect},
    names,
    settings::{ANY_METHOD, FUNCTION, ROUTE, ROUTES, Settings},
    template,
};

/// The methods that a path may have.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Which operations are whose: `NAME` or `NAME:ALIAS` by an operation's id, by `METHOD /path`, or by `*` for all others.
pub type Mapping = BTreeMap<String, String>;

/// What is said beside the document.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which functions are called; it comes before what the document says.
    pub functions: Mapping,
    /// The host of all routes that name none.
    pub host: Option<String>,
}

/// The routes of a document.
///
/// # Errors
/// The document is not valid, or says what no route can.
pub fn routes(document: &Value, namespace: &Namespace, options: &Options) -> Result<Vec<v1::Route>, Malformed> {
    let root = At::root(document);
    let mut import = Import {
        dialect: version(&root)?,
        base: servers::base(&root)?.unwrap_or_default(),
        root: &root,
        namespace,
        options,
        used: BTreeSet::new(),
        taken: BTreeSet::new(),
        shapes: BTreeMap::new(),
        ids: BTreeMap::new(),
        routes: Vec::new(),
    };
    root.need("info")?.fields()?;
    if let Some(paths) = root.get("paths") {
        paths.fields()?.into_iter().try_for_each(|(path, item)| import.path(path, &item))?;
    }
    if let Some(more) = root.get(ROUTES) {
        more.items()?.iter().try_for_each(|operation| import.operation(&Operation::alone(operation)))?;
    }
    import.finished()
}

/// What the routes of a document are called together where nobody says it: after its title.
#[must_use]
pub fn api(document: &Value) -> Option<RouteId> {
    let title = document.pointer("/info/title")?.as_str()?;
    let slug: String = names::slug(title).chars().take(63).collect();
    slug.trim_end_matches('-').parse().ok()
}

fn version(root: &At<'_>) -> Result<Dialect, Malformed> {
    const HINT: &str = "documents of OpenAPI 3.0 and 3.1 are read";
    if root.get("swagger").is_some() {
        return Err(root.wrong("this is a document of Swagger 2.0").hint(HINT));
    }
    let version = root.need("openapi").map_err(|error| error.hint(HINT))?;
    match version.text()? {
        text if text.starts_with("3.0.") => Ok(Dialect::Old),
        text if text.starts_with("3.1.") => {
            root.get("jsonSchemaDialect").map_or(Ok(()), |named| dialect::check(&named))?;
            Ok(Dialect::New)
        }
        text => Err(version
            .wrong(format!("the version {:?} is not read", text.chars().take(20).collect::<String>()))
            .hint(HINT)),
    }
}

/// An operation and where it stands.
struct Operation<'a, 'd> {
    at: &'a At<'d>,
    item: Option<&'a At<'d>>,
    method: Option<&'a str>,
    path: &'a str,
}

impl<'a, 'd> Operation<'a, 'd> {
    fn alone(at: &'a At<'d>) -> Self {
        Self { at, item: None, method: None, path: "" }
    }

    /// As in `GET /pets`.
    fn request(&self) -> String {
        let method = self.method.map_or("ANY".to_owned(), str::to_ascii_uppercase);
        format!("{method} {}", self.path)
    }
}

struct Import<'a, 'd> {
    root: &'a At<'d>,
    dialect: Dialect,
    base: String,
    namespace: &'a Namespace,
    options: &'a Options,
    /// The entries of the mapping that have been used.
    used: BTreeSet<String>,
    taken: BTreeSet<RouteId>,
    /// Where paths stand, without the names of their parameters.
    shapes: BTreeMap<String, String>,
    /// Where operationIds stand.
    ids: BTreeMap<String, String>,
    routes: Vec<v1::Route>,
}

impl<'d> Import<'_, 'd> {
    fn path(&mut self, path: &str, item: &At<'d>) -> Result<(), Malformed> {
        if path.starts_with("x-") {
            return Ok(());
        }
        if !path.starts_with('/') {
            return Err(item.wrong("a path begins with a slash"));
        }
        if let Some(other) = self.shapes.insert(template::shape(path), item.place.clone()) {
            let error =
                item.wrong(format!("the path differs from that at {other} in the names of its parameters alone"));
            return Err(error.hint("write the operations of both under one path"));
        }
        let item = item.clone().resolved()?;
        for (key, at) in item.fields()? {
            let method = METHODS.contains(&key).then_some(key);
            if method.is_some() || key == ANY_METHOD {
                self.operation(&Operation { at: &at, item: Some(&item), method, path })?;
            }
        }
        Ok(())
    }

    fn operation(&mut self, operation: &Operation<'_, 'd>) -> Result<(), Malformed> {
        let at = operation.at;
        at.fields()?;
        let settings = settings(at)?;
        let id = self.id(at)?;
        let Access { auth, scopes } = security::access(at, self.root)?;
        let mut route = v1::Route {
            methods: settings
                .methods
                .clone()
                .unwrap_or_else(|| operation.method.map(str::to_ascii_uppercase).into_iter().collect()),
            path: self.full_path(operation, &settings)?,
            auth: auth.into(),
            token: (!scopes.is_empty()).then(|| v1::TokenRule { scopes, ..v1::TokenRule::default() }),
            target: Some(self.target(operation, id, &settings)?),
            ..v1::Route::default()
        };
        let paths = Paths { written: operation.path, whole: &route.path };
        parameters::check(at, operation.item, &paths)?;
        let called = matches!(route.target, Some(Target::Function(_)));
        route.validation = if called { validation::of(at, operation.item, self.dialect)? } else { None };
        let wanted = settings.name.clone();
        settings.apply(&mut route);
        if route.host.is_empty() {
            route.host = self.options.host.clone().unwrap_or_default();
        }
        self.add(route, operation, wanted.as_deref(), id)
    }

    /// The id of an operation, which no other one may have. One that stands at several paths by reference is still one.
    fn id(&mut self, operation: &At<'d>) -> Result<Option<&'d str>, Malformed> {
        let Some(at) = operation.get("operationId") else { return Ok(None) };
        let id = at.text()?;
        let other = self.ids.insert(id.to_owned(), at.place.clone()).filter(|other| *other != at.place);
        let taken = |other: String| at.wrong(format!("another operation has the operationId {id:?}, at {other}"));
        other.map_or(Ok(Some(id)), |other| Err(taken(other)))
    }

    /// Gives a route its name. What stands at several methods with one name is one route.
    fn add(
        &mut self,
        mut route: v1::Route,
        operation: &Operation<'_, 'd>,
        wanted: Option<&str>,
        id: Option<&str>,
    ) -> Result<(), Malformed> {
        let at = operation.at;
        let route_id = match wanted {
            Some(name) => {
                name.parse::<RouteId>().map_err(|error| at.wrong(format!("{ROUTE} has no valid name: {error}")))?
            }
            None => {
                let request = operation.request();
                names::name(id.unwrap_or(&request), &request, &self.taken)
                    .ok_or_else(|| at.wrong("no route can be named after it").hint(format!("name it in {ROUTE}")))?
            }
        };
        route.operation_id = kept(id, operation, &route, &route_id);
        route.name = RouteName { namespace: self.namespace.clone(), route: route_id.clone() }.to_string();
        RouteSpec::try_from(route.clone()).map_err(|error| said(at, error))?;
        if self.taken.insert(route_id.clone()) {
            self.routes.push(route);
            return Ok(());
        }
        let same = |known: &v1::Route| {
            let operation_id = route.operation_id.clone();
            v1::Route { operation_id, ..known.clone() } == route
        };
        if self.routes.iter().any(same) {
            return Ok(());
        }
        Err(at.wrong(format!("another operation has the route's name {route_id}")))
    }

    fn full_path(&self, operation: &Operation<'_, 'd>, settings: &Settings) -> Result<String, Malformed> {
        match &settings.path {
            Some(path) => Ok(path.clone()),
            None if operation.item.is_none() => Err(operation.at.wrong(format!("{ROUTE} needs a path here"))),
            None => {
                let own = servers::base(operation.at)?;
                let of_item = operation.item.map(servers::base).transpose()?.flatten();
                Ok(format!("{}{}", own.or(of_item).unwrap_or_else(|| self.base.clone()), operation.path))
            }
        }
    }

    fn target(
        &mut self,
        operation: &Operation<'_, 'd>,
        id: Option<&str>,
        settings: &Settings,
    ) -> Result<Target, Malformed> {
        if settings.respond.is_some() && settings.redirect.is_some() {
            return Err(operation.at.wrong(format!("{ROUTE} has respond and redirect; only one can be")));
        }
        if let Some(target) = settings.answer() {
            return Ok(target);
        }
        let named = self.function(operation, id)?;
        let (function, alias) = named.split_once(':').unwrap_or((&named, ""));
        let rewrite = settings.rewrite.clone().unwrap_or_default();
        Ok(Target::Function(v1::FunctionTarget { function: function.to_owned(), alias: alias.to_owned(), rewrite }))
    }

    /// The function of an operation: the mapping's, its own, its path's, the document's.
    fn function(&mut self, operation: &Operation<'_, 'd>, id: Option<&str>) -> Result<String, Malformed> {
        let keys = id.map(str::to_owned).into_iter().chain([operation.request()]);
        for key in keys {
            if let Some(function) = self.options.functions.get(&key) {
                self.used.insert(key);
                return Ok(function.clone());
            }
        }
        let places = [Some(operation.at), operation.item, Some(self.root)];
        let named = places.into_iter().flatten().find_map(|at| at.get(FUNCTION)).map(|at| at.text().map(str::to_owned));
        let rest = self.options.functions.get("*").cloned().map(Ok);
        named.or(rest).unwrap_or_else(|| {
            let error = operation.at.wrong("no function is named for this operation");
            Err(error.hint(format!(
                "add {FUNCTION} to it, to its path or to the document, or map {:?}",
                id.unwrap_or(&operation.request())
            )))
        })
    }

    fn finished(self) -> Result<Vec<v1::Route>, Malformed> {
        let unused = self.options.functions.keys().find(|key| *key != "*" && !self.used.contains(*key));
        if let Some(key) = unused {
            let error =
                Malformed::new("", format!("the mapping names {key:?}, and the document has no such operation"));
            return Err(error.hint("name an operationId, or METHOD /path as it stands under paths"));
        }
        if self.routes.is_empty() {
            return Err(self.root.wrong("the document has no operations"));
        }
        Ok(self.routes)
    }
}

/// What is kept of an operation's id: nothing where an export would say the same without it.
fn kept(id: Option<&str>, operation: &Operation<'_, '_>, route: &v1::Route, name: &RouteId) -> String {
    let id = id.unwrap_or_default();
    // A route at several methods is exported as several operations.
    let several = operation.method.filter(|_| route.methods.len() > 1);
    let id = several.and_then(|method| id.strip_suffix(&format!("-{method}"))).unwrap_or(id);
    if id == name.as_str() { String::new() } else { id.to_owned() }
}

fn settings(at: &At<'_>) -> Result<Settings, Malformed> {
    let Some(settings) = at.get(ROUTE) else { return Ok(Settings::default()) };
    Settings::try_from_value(settings.value).map_err(|error| settings.wrong(error))
}

impl Settings {
    fn try_from_value(value: &Value) -> Result<Self, String> {
        serde::Deserialize::deserialize(value).map_err(|error: serde_json::Error| error.to_string())
    }
}

/// What the contract says of a route, with the operation that it comes from.
fn said(at: &At<'_>, error: ApiError) -> Malformed {
    let malformed = at.wrong(error.message);
    match error.hint {
        Some(hint) => malformed.hint(hint),
        None => malformed,
    }
}

#[cfg(test)]
mod tests;
