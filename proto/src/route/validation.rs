//! What requests must be like, as far as it can be checked without reading the schemas themselves.
//!
//! Schemas are text here: `dunlin-openapi` reads them, for the scheduler before a route gets in and for gateways before it
//! is served.

use serde::{Deserialize, Serialize};

use super::pattern::PathPattern;
use crate::{error::ApiError, v1};

/// The most parameters and the most media types of a route.
const MOST_PARAMETERS: usize = 100;
const MOST_MEDIA_TYPES: usize = 20;
/// The largest schema, in bytes.
const MAX_SCHEMA: usize = 64 << 10;

/// What requests must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    /// Parameters that are checked; others pass.
    pub parameters: Vec<ParameterRule>,
    /// The body; nothing means that anything goes.
    pub body: Option<BodyRule>,
}

/// Where a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterPlace {
    /// In the route's path.
    Path,
    /// In the query.
    Query,
    /// A header.
    Header,
    /// A cookie.
    Cookie,
}

/// How lists and objects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterStyle {
    /// `a=1,2` or `a=1&a=2`.
    Form,
    /// `1,2`.
    Simple,
    /// `a=1%202`.
    SpaceDelimited,
    /// `a=1|2`.
    PipeDelimited,
    /// `a[x]=1&a[y]=2`.
    DeepObject,
    /// The value is JSON.
    Json,
}

/// A parameter that is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterRule {
    /// Where it is.
    pub place: ParameterPlace,
    /// Its name.
    pub name: String,
    /// Requests without it are refused.
    pub required: bool,
    /// A JSON Schema.
    pub schema: String,
    /// How it is written.
    pub style: ParameterStyle,
    /// Each element of a list stands alone.
    pub explode: bool,
}

/// What bodies must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRule {
    /// Requests without one are refused.
    pub required: bool,
    /// The media types that are taken.
    pub media_types: Vec<MediaTypeRule>,
}

/// A media type that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaTypeRule {
    /// In lower case, without parameters.
    pub media_type: String,
    /// A JSON Schema; empty means that anything goes.
    pub schema: String,
}

impl ParameterPlace {
    /// As OpenAPI has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }
}

impl ParameterStyle {
    /// That of a place where nothing is said.
    #[must_use]
    pub fn of(place: ParameterPlace) -> Self {
        match place {
            ParameterPlace::Path | ParameterPlace::Header => Self::Simple,
            ParameterPlace::Query | ParameterPlace::Cookie => Self::Form,
        }
    }

    /// Whether parameters of a place can be written so.
    fn fits(self, place: ParameterPlace) -> bool {
        self == Self::of(place)
            || self == Self::Json
            || (place == ParameterPlace::Query
                && matches!(self, Self::SpaceDelimited | Self::PipeDelimited | Self::DeepObject))
    }
}

impl Validation {
    /// Whether there is nothing to check.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.body.is_none()
    }

    /// All schemas, each with the field that it is in.
    pub fn schemas(&self) -> impl Iterator<Item = (String, &str)> {
        let parameters = self.parameters.iter().enumerate().map(|(at, rule)| {
            let named = format!("{} {}", rule.place.as_str(), rule.name);
            (field("parameters", at, &named), rule.schema.as_str())
        });
        let bodies = self.body.iter().flat_map(|body| body.media_types.iter().enumerate());
        let bodies = bodies.filter(|(_, rule)| !rule.schema.is_empty());
        parameters
            .chain(bodies.map(|(at, rule)| (field("body.media_types", at, &rule.media_type), rule.schema.as_str())))
    }

    /// Checks what was sent, for the paths of a pattern.
    pub(super) fn read(wire: v1::Validation, path: &PathPattern) -> Result<Self, ApiError> {
        at_most("route.validation.parameters", wire.parameters.len(), MOST_PARAMETERS)?;
        let parameters = wire.parameters.into_iter().enumerate().map(|(at, wire)| parameter(at, wire, path));
        let parameters: Vec<ParameterRule> = parameters.collect::<Result<_, _>>()?;
        let mut known = std::collections::BTreeSet::new();
        if let Some(twice) = parameters.iter().find(|rule| !known.insert((rule.place, rule.name.as_str()))) {
            let message = format!("the {} parameter {:?} is there twice", twice.place.as_str(), twice.name);
            return Err(ApiError::invalid("route.validation.parameters", message));
        }
        Ok(Self { parameters, body: wire.body.map(body).transpose()? })
    }
}

fn field(list: &str, at: usize, named: &str) -> String {
    format!("route.validation.{list}[{at}] ({named})")
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), ApiError> {
    if count <= most {
        return Ok(());
    }
    Err(ApiError::invalid(field, format!("{field} may have {most} entries at most")))
}

fn place(wire: v1::ParameterPlace) -> Option<ParameterPlace> {
    match wire {
        v1::ParameterPlace::Unspecified => None,
        v1::ParameterPlace::Path => Some(ParameterPlace::Path),
        v1::ParameterPlace::Query => Some(ParameterPlace::Query),
        v1::ParameterPlace::Header => Some(ParameterPlace::Header),
        v1::ParameterPlace::Cookie => Some(ParameterPlace::Cookie),
    }
}

fn style(wire: v1::ParameterStyle, place: ParameterPlace) -> ParameterStyle {
    match wire {
        v1::ParameterStyle::Unspecified => ParameterStyle::of(place),
        v1::ParameterStyle::Form => ParameterStyle::Form,
        v1::ParameterStyle::Simple => ParameterStyle::Simple,
        v1::ParameterStyle::SpaceDelimited => ParameterStyle::SpaceDelimited,
        v1::ParameterStyle::PipeDelimited => ParameterStyle::PipeDelimited,
        v1::ParameterStyle::DeepObject => ParameterStyle::DeepObject,
        v1::ParameterStyle::Json => ParameterStyle::Json,
    }
}

fn parameter(at: usize, wire: v1::ParameterRule, path: &PathPattern) -> Result<ParameterRule, ApiError> {
    let list = format!("route.validation.parameters[{at}]");
    let wrong = |message: String| ApiError::invalid(&list, message);
    let missing = || wrong("place must be path, query, header or cookie".to_owned());
    let place = place(wire.place()).ok_or_else(missing)?;
    let style = style(wire.style(), place);
    if !style.fits(place) {
        return Err(wrong(format!("a {} parameter can't be written in this style", place.as_str())));
    }
    if wire.name.is_empty() || wire.name.len() > 128 || wire.name.chars().any(char::is_control) {
        return Err(wrong("name must have 1 to 128 characters".to_owned()));
    }
    if place == ParameterPlace::Header && http::HeaderName::try_from(&*wire.name).is_err() {
        return Err(wrong(format!("{:?} is no name of a header", wire.name)));
    }
    let in_path = || path.parameters().any(|known| known.as_str() == wire.name);
    if place == ParameterPlace::Path && !in_path() {
        return Err(wrong(format!("the path {path} has no parameter {:?}", wire.name)));
    }
    schema_size(&list, &wire.schema)?;
    if wire.schema.is_empty() {
        return Err(wrong("the schema is missing".to_owned()).hint("{} takes everything"));
    }
    let required = wire.required || place == ParameterPlace::Path;
    Ok(ParameterRule { place, name: wire.name, required, schema: wire.schema, style, explode: wire.explode })
}

fn schema_size(field: &str, schema: &str) -> Result<(), ApiError> {
    if schema.len() <= MAX_SCHEMA {
        return Ok(());
    }
    let message = format!("the schema has {} bytes but may have {MAX_SCHEMA} at most", schema.len());
    Err(ApiError::invalid(field, message))
}

fn body(wire: v1::BodyRule) -> Result<BodyRule, ApiError> {
    const LIST: &str = "route.validation.body.media_types";
    at_most(LIST, wire.media_types.len(), MOST_MEDIA_TYPES)?;
    if wire.media_types.is_empty() {
        return Err(ApiError::invalid(LIST, "a body has one media type at least").hint("*/* takes all"));
    }
    let media_types = wire.media_types.into_iter().map(media_type).collect::<Result<_, _>>()?;
    Ok(BodyRule { required: wire.required, media_types })
}

fn media_type(wire: v1::MediaTypeRule) -> Result<MediaTypeRule, ApiError> {
    const LIST: &str = "route.validation.body.media_types";
    let media_type = wire.media_type.to_ascii_lowercase();
    let token =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&b));
    let fine =
        media_type.len() <= 128 && media_type.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub));
    if !fine {
        let shown: String = media_type.chars().take(60).collect();
        return Err(ApiError::invalid(LIST, format!("{shown:?} is no media type; write for example application/json")));
    }
    schema_size(LIST, &wire.schema)?;
    Ok(MediaTypeRule { media_type, schema: wire.schema })
}

impl From<&Validation> for v1::Validation {
    fn from(validation: &Validation) -> Self {
        let body = validation.body.as_ref().map(|body| v1::BodyRule {
            required: body.required,
            media_types: body.media_types.iter().map(v1::MediaTypeRule::from).collect(),
        });
        Self { parameters: validation.parameters.iter().map(v1::ParameterRule::from).collect(), body }
    }
}

impl From<&MediaTypeRule> for v1::MediaTypeRule {
    fn from(rule: &MediaTypeRule) -> Self {
        Self { media_type: rule.media_type.clone(), schema: rule.schema.clone() }
    }
}

impl From<&ParameterRule> for v1::ParameterRule {
    fn from(rule: &ParameterRule) -> Self {
        let place = match rule.place {
            ParameterPlace::Path => v1::ParameterPlace::Path,
            ParameterPlace::Query => v1::ParameterPlace::Query,
            ParameterPlace::Header => v1::ParameterPlace::Header,
            ParameterPlace::Cookie => v1::ParameterPlace::Cookie,
        };
        let style = match rule.style {
            ParameterStyle::Form => v1::ParameterStyle::Form,
            ParameterStyle::Simple => v1::ParameterStyle::Simple,
            ParameterStyle::SpaceDelimited => v1::ParameterStyle::SpaceDelimited,
            ParameterStyle::PipeDelimited => v1::ParameterStyle::PipeDelimited,
            ParameterStyle::DeepObject => v1::ParameterStyle::DeepObject,
            ParameterStyle::Json => v1::ParameterStyle::Json,
        };
        Self {
            place: place.into(),
            name: rule.name.clone(),
            required: rule.required,
            schema: rule.schema.clone(),
            style: style.into(),
            explode: rule.explode,
        }
    }
}
