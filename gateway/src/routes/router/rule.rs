//! A route as the gateway uses it: what can be made ready once is.

use std::{borrow::Cow, fmt::Write, sync::Arc};

use anyhow::Context;
use dunlin_openapi::Checker;
use dunlin_proto::{
    ids::Digest,
    names::RouteName,
    route::{ParameterName, RouteSpec},
    v1,
};
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Headers that carry parameters: one, if any, in most routes.
pub(crate) type Parameters = SmallVec<[(HeaderName, HeaderValue); 1]>;

/// A route with its name.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: RouteName,
    /// Its bare name, for the records of calls.
    pub(crate) label: Arc<str>,
    /// The path that it is for, for traces.
    pub(crate) pattern: Arc<str>,
    pub(crate) spec: RouteSpec,
    /// The parameters of its path in their order, and the headers that carry them.
    parameters: Vec<(ParameterName, HeaderName)>,
    /// Where a function says who may call: another one as soon as anything in it changes.
    digest: Option<Digest>,
    /// What requests are checked against.
    checker: Option<Arc<Checker>>,
}

impl Rule {
    /// Reads a route of the configuration.
    pub(crate) fn from_wire(wire: v1::Route) -> anyhow::Result<Self> {
        let name = wire.name.parse::<RouteName>().context("read its name")?;
        let spec: RouteSpec = wire.try_into()?;
        let checker = spec.validation.as_ref().map(Checker::new).transpose()?.map(Arc::new);
        Ok(Self { checker, ..Self::new(name, spec)? })
    }

    /// One that checks nothing.
    pub(crate) fn new(name: RouteName, spec: RouteSpec) -> anyhow::Result<Self> {
        let header = |parameter: &ParameterName| {
            let header = format!("dunlin-path-{}", parameter.as_str().to_ascii_lowercase());
            anyhow::Ok((parameter.clone(), header.parse::<HeaderName>()?))
        };
        let parameters = spec.path.parameters().map(header).collect::<Result<_, _>>()?;
        let of_all = || serde_json::to_vec(&(name.to_string(), &spec)).map(|json| Digest::of(&json));
        let digest = spec.authorizer().map(|_| of_all()).transpose()?;
        let label = name.route.as_str().into();
        let pattern = spec.path.to_string().into();
        Ok(Self { name, label, pattern, spec, parameters, digest, checker: None })
    }

    /// What tells a route with an authorizer from every other one, and from what it was before it changed.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What requests are checked against.
    pub(crate) fn checker(&self) -> Option<&Arc<Checker>> {
        self.checker.as_ref()
    }

    /// The names of the parameters of its path, each with the header that carries it.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, &HeaderName)> {
        self.parameters.iter().map(|(name, header)| (name.as_str(), header))
    }

    /// Whether it names a method.
    pub(super) fn takes(&self, method: &str) -> bool {
        self.spec.methods.contains(method)
    }

    /// The value of a parameter among those of a request.
    pub(crate) fn value<'v>(&self, values: &'v [Cow<'_, str>], name: &ParameterName) -> &'v str {
        let at = self.parameters.iter().position(|(known, _)| known == name);
        at.and_then(|at| values.get(at)).map_or("", |value| value.as_ref())
    }

    /// The headers that carry the parameters of a request.
    pub(crate) fn headers(&self, values: &[Cow<'_, str>]) -> Parameters {
        let header = |((_, name), value): (&(ParameterName, HeaderName), &Cow<'_, str>)| {
            Some((name.clone(), HeaderValue::from_str(value).ok()?))
        };
        self.parameters.iter().zip(values).filter_map(header).collect()
    }
}

/// A piece of a path as it may stand in a header, a path or a URL: as the caller wrote it, but for what no URL may have.
pub(super) fn safe(text: &str) -> Cow<'_, str> {
    let fine = |byte: u8| byte.is_ascii_graphic() && !b"\"<>^`{|}".contains(&byte);
    if text.bytes().all(fine) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if fine(byte) {
            out.push(char::from(byte));
        } else {
            // A string takes everything.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    Cow::Owned(out)
}
