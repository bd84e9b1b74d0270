//! What requests of a route must be like, as administration shows and takes it.

use dunlin_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What requests must be like.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Validation {
    /// Parameters that are checked; others pass.
    #[serde(default)]
    #[schema(max_items = 100, required = false)]
    pub(crate) parameters: Vec<ParameterRule>,
    /// The body; null means that anything goes.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) body: Option<BodyRule>,
}

/// Where a parameter is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ParameterPlace {
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
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ParameterStyle {
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
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParameterRule {
    /// Where it is.
    pub(crate) place: ParameterPlace,
    /// Its name.
    #[schema(min_length = 1, max_length = 128, example = "limit")]
    pub(crate) name: String,
    /// Requests without it are refused.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) required: bool,
    /// A JSON Schema of draft 2020-12, as text.
    #[schema(max_length = 65536, example = "{\"type\":\"integer\"}")]
    pub(crate) schema: String,
    /// How it is written; null means as usual in its place.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) style: Option<ParameterStyle>,
    /// Each element of a list stands alone.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) explode: bool,
}

/// What bodies must be like.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BodyRule {
    /// Requests without one are refused.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) required: bool,
    /// The media types that are taken.
    #[schema(min_items = 1, max_items = 20)]
    pub(crate) media_types: Vec<MediaTypeRule>,
}

/// A media type that is taken.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MediaTypeRule {
    /// Such as `application/json`.
    #[schema(min_length = 3, max_length = 128, example = "application/json")]
    pub(crate) media_type: String,
    /// A JSON Schema of draft 2020-12, as text; empty means that anything goes.
    #[serde(default)]
    #[schema(max_length = 65536, required = false)]
    pub(crate) schema: String,
}

impl From<v1::Validation> for Validation {
    fn from(wire: v1::Validation) -> Self {
        let media = |v1::MediaTypeRule { media_type, schema }| MediaTypeRule { media_type, schema };
        let body = |wire: v1::BodyRule| BodyRule {
            required: wire.required,
            media_types: wire.media_types.into_iter().map(media).collect(),
        };
        Self { parameters: wire.parameters.into_iter().map(ParameterRule::from).collect(), body: wire.body.map(body) }
    }
}

impl From<Validation> for v1::Validation {
    fn from(validation: Validation) -> Self {
        let media = |MediaTypeRule { media_type, schema }| v1::MediaTypeRule { media_type, schema };
        let body = |body: BodyRule| v1::BodyRule {
            required: body.required,
            media_types: body.media_types.into_iter().map(media).collect(),
        };
        Self {
            parameters: validation.parameters.into_iter().map(v1::ParameterRule::from).collect(),
            body: validation.body.map(body),
        }
    }
}

impl From<v1::ParameterRule> for ParameterRule {
    fn from(wire: v1::ParameterRule) -> Self {
        let place = match wire.place() {
            v1::ParameterPlace::Path => ParameterPlace::Path,
            v1::ParameterPlace::Query | v1::ParameterPlace::Unspecified => ParameterPlace::Query,
            v1::ParameterPlace::Header => ParameterPlace::Header,
            v1::ParameterPlace::Cookie => ParameterPlace::Cookie,
        };
        let style = match wire.style() {
            v1::ParameterStyle::Unspecified => None,
            v1::ParameterStyle::Form => Some(ParameterStyle::Form),
            v1::ParameterStyle::Simple => Some(ParameterStyle::Simple),
            v1::ParameterStyle::SpaceDelimited => Some(ParameterStyle::SpaceDelimited),
            v1::ParameterStyle::PipeDelimited => Some(ParameterStyle::PipeDelimited),
            v1::ParameterStyle::DeepObject => Some(ParameterStyle::DeepObject),
            v1::ParameterStyle::Json => Some(ParameterStyle::Json),
        };
        Self { place, name: wire.name, required: wire.required, schema: wire.schema, style, explode: wire.explode }
    }
}

impl From<ParameterRule> for v1::ParameterRule {
    fn from(rule: ParameterRule) -> Self {
        let place = match rule.place {
            ParameterPlace::Path => v1::ParameterPlace::Path,
            ParameterPlace::Query => v1::ParameterPlace::Query,
            ParameterPlace::Header => v1::ParameterPlace::Header,
            ParameterPlace::Cookie => v1::ParameterPlace::Cookie,
        };
        let style = match rule.style {
            None => v1::ParameterStyle::Unspecified,
            Some(ParameterStyle::Form) => v1::ParameterStyle::Form,
            Some(ParameterStyle::Simple) => v1::ParameterStyle::Simple,
            Some(ParameterStyle::SpaceDelimited) => v1::ParameterStyle::SpaceDelimited,
            Some(ParameterStyle::PipeDelimited) => v1::ParameterStyle::PipeDelimited,
            Some(ParameterStyle::DeepObject) => v1::ParameterStyle::DeepObject,
            Some(ParameterStyle::Json) => v1::ParameterStyle::Json,
        };
        Self {
            place: place.into(),
            name: rule.name,
            required: rule.required,
            schema: rule.schema,
            style: style.into(),
            explode: rule.explode,
        }
    }
}
