//! Requests against a route's rules: everything that is wrong with one, or nothing.
//!
//! How parameters are written is `request/parameter.rs`'s business, what JSON is, `request/json.rs`'s.

mod json;
mod parameter;

use std::borrow::Cow;

use dunlin_proto::{
    ApiError, ErrorCode,
    error::Violation,
    route::{BodyRule, Validation},
};
use http::{HeaderMap, header};

use crate::schema::{Flaw, Schema};
use parameter::Parameter;

/// How many violations are named.
const MOST: usize = 20;

/// A route's rules, ready.
#[derive(Debug)]
pub struct Checker {
    parameters: Vec<Parameter>,
    body: Option<Body>,
}

/// What a caller has sent, but for the body.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The parameters of the path, as the caller wrote them.
    pub path: &'a [(&'a str, Cow<'a, str>)],
    /// The query, without its question mark.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// One of the media types that a route takes, for JSON that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Media(usize);

#[derive(Debug)]
struct Body {
    required: bool,
    media_types: Vec<(String, Option<Schema>)>,
}

impl Checker {
    /// Reads a route's rules.
    ///
    /// # Errors
    /// `InvalidArgument` with the schema and the place in it.
    pub fn new(validation: &Validation) -> Result<Self, ApiError> {
        let mut schemas = Vec::new();
        for (field, text) in validation.schemas() {
            schemas.push(Schema::compile(text).map_err(|flaw| refused(&field, &flaw))?);
        }
        let mut schemas = schemas.into_iter();
        let parameters = validation.parameters.iter().zip(schemas.by_ref());
        let parameters = parameters.map(|(rule, schema)| Parameter::new(rule, schema)).collect();
        Ok(Self { parameters, body: validation.body.as_ref().map(|rule| Body::new(rule, &mut schemas)) })
    }

    /// Everything that is wrong with the parameters.
    #[must_use]
    pub fn parameters(&self, given: &Given<'_>) -> Vec<Violation> {
        let (mut violations, query) = (Vec::new(), parameter::pairs(given.query));
        for parameter in &self.parameters {
            parameter.check(given, &query, &mut violations, MOST);
            if violations.len() >= MOST {
                break;
            }
        }
        violations.truncate(MOST);
        violations
    }

    /// How the body is to be checked; nothing where it need not be read for that.
    ///
    /// # Errors
    /// `UnsupportedMediaType`.
    pub fn media(&self, headers: &HeaderMap) -> Result<Option<Media>, ApiError> {
        let Some(body) = &self.body else { return Ok(None) };
        let (at, schema) = body.find(&media_type(headers)?).ok_or_else(|| body.unsupported())?;
        if schema.is_none() {
            return Ok(None);
        }
        let plain = headers.get_all(header::CONTENT_ENCODING).iter().all(|coding| coding == "identity");
        if plain {
            return Ok(Some(Media(at)));
        }
        let message = "this route reads the bodies of requests, which must not be compressed";
        Err(ApiError::new(ErrorCode::UnsupportedMediaType, message).hint("send it without Content-Encoding"))
    }

    /// What is wrong with a request without a body.
    #[must_use]
    pub fn without_body(&self) -> Option<Violation> {
        let missing = || Violation { field: "body".to_owned(), message: "it is missing".to_owned() };
        self.body.as_ref().filter(|body| body.required).map(|_| missing())
    }

    /// Adds everything that is wrong with a body.
    pub fn body(&self, Media(at): Media, bytes: &[u8], violations: &mut Vec<Violation>) {
        let schema = self.body.as_ref().and_then(|body| body.media_types.get(at)?.1.as_ref());
        let Some(schema) = schema else { return };
        match json::read(bytes) {
            Ok(value) => schema.check("body", &value, violations, MOST),
            Err(why) => {
                violations.push(Violation { field: "body".to_owned(), message: format!("it is not JSON: {why}") })
            }
        }
        violations.truncate(MOST);
    }
}

fn refused(field: &str, flaw: &Flaw) -> ApiError {
    ApiError::invalid(field, format!("the schema of {field} is not valid: {flaw}"))
        .hint("schemas are JSON Schema, draft 2020-12, and refer to nothing outside of themselves")
}

/// The media type of a body, without its parameters.
fn media_type(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let one = types.next().and_then(|text| text.to_str().ok()).filter(|_| types.next().is_none());
    let one = one.and_then(|text| text.split(';').next()).map(|text| text.trim().to_ascii_lowercase());
    one.filter(|text| text.contains('/')).ok_or_else(|| {
        ApiError::new(ErrorCode::UnsupportedMediaType, "the request does not say of which media type its body is")
            .hint("send one Content-Type, such as application/json")
    })
}

/// Whether bodies of a media type are JSON.
pub(crate) fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}

impl Body {
    fn new(rule: &BodyRule, schemas: &mut impl Iterator<Item = Schema>) -> Self {
        let media_types = rule.media_types.iter();
        let mut with_schema = |schema: &str| if schema.is_empty() { None } else { schemas.next() };
        let media_types = media_types.map(|media| (media.media_type.clone(), with_schema(&media.schema))).collect();
        Self { required: rule.required, media_types }
    }

    /// The most specific entry for a media type; its schema, where bodies of the type are JSON.
    fn find(&self, media_type: &str) -> Option<(usize, Option<&Schema>)> {
        let kind = media_type.split('/').next().unwrap_or_default();
        let position = |wanted: &str| self.media_types.iter().position(|(known, _)| known == wanted);
        let at = position(media_type).or_else(|| position(&format!("{kind}/*"))).or_else(|| position("*/*"))?;
        let schema = self.media_types.get(at).and_then(|(_, schema)| schema.as_ref());
        Some((at, schema.filter(|_| is_json(media_type))))
    }

    fn unsupported(&self) -> ApiError {
        let types: Vec<_> = self.media_types.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("this route takes bodies of the media types {}", types.join(", "));
        ApiError::new(ErrorCode::UnsupportedMediaType, message).hint("say so in Content-Type")
    }
}

#[cfg(test)]
mod tests;
