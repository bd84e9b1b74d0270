//! What an operation says of its parameters and its body, as rules.

use std::collections::BTreeMap;

use dunlin_proto::v1;

use crate::{
    at::{At, Malformed},
    dialect::{self, Dialect},
    request::is_json,
};

/// Headers that are not parameters (OpenAPI 3.1, 4.8.12).
const NO_PARAMETERS: [&str; 3] = ["accept", "content-type", "authorization"];

/// The rules of an operation, with those that its path has for all.
pub(super) fn of(
    operation: &At<'_>,
    item: Option<&At<'_>>,
    dialect: Dialect,
) -> Result<Option<v1::Validation>, Malformed> {
    let mut rules = BTreeMap::new();
    for at in item.into_iter().chain([operation]) {
        for parameter in at.get("parameters").map_or(Ok(Vec::new()), |list| list.items())? {
            let parameter = parameter.resolved()?;
            let rule = parameter_rule(&parameter, dialect)?;
            rules.insert((rule.place, rule.name.clone()), rule);
        }
    }
    let parameters: Vec<_> = rules.into_values().filter(|rule| !says_nothing(rule)).collect();
    let body = operation.get("requestBody").map(|body| body_rule(&body.resolved()?, dialect)).transpose()?;
    let nothing = parameters.is_empty() && body.is_none();
    Ok((!nothing).then_some(v1::Validation { parameters, body }))
}

/// Whether every request passes.
fn says_nothing(rule: &v1::ParameterRule) -> bool {
    let header =
        rule.place() == v1::ParameterPlace::Header && NO_PARAMETERS.contains(&&*rule.name.to_ascii_lowercase());
    let text = matches!(&*rule.schema, "{}" | "true" | r#"{"type":"string"}"#);
    header || (text && (rule.place() == v1::ParameterPlace::Path || !rule.required))
}

fn parameter_rule(at: &At<'_>, dialect: Dialect) -> Result<v1::ParameterRule, Malformed> {
    let (name, place) = (at.need("name")?.text()?, place(at)?);
    let (schema, style) = match at.get("schema") {
        Some(schema) => (dialect::schema(&schema, dialect)?, style(at, place)?),
        None => (of_content(at, dialect)?, v1::ParameterStyle::Json),
    };
    let form = matches!(style, v1::ParameterStyle::Form | v1::ParameterStyle::DeepObject);
    let explode = if at.get("explode").is_some() { at.flag("explode")? } else { form };
    let fields = crate::schema::Schema::compile(&schema).is_ok_and(|schema| schema.shape.has_fields());
    if fields && !matches!(style, v1::ParameterStyle::DeepObject | v1::ParameterStyle::Json) {
        let error = at.wrong(format!("the parameter {name:?} is an object, which can't be read in this style"));
        return Err(error.hint("write style: deepObject, or content with application/json"));
    }
    let (place, style) = (place.into(), style.into());
    Ok(v1::ParameterRule { place, name: name.to_owned(), required: at.flag("required")?, schema, style, explode })
}

fn place(at: &At<'_>) -> Result<v1::ParameterPlace, Malformed> {
    let place = at.need("in")?;
    match place.text()? {
        "path" => Ok(v1::ParameterPlace::Path),
        "query" => Ok(v1::ParameterPlace::Query),
        "header" => Ok(v1::ParameterPlace::Header),
        "cookie" => Ok(v1::ParameterPlace::Cookie),
        _ => Err(place.wrong("must be path, query, header or cookie")),
    }
}

fn style(at: &At<'_>, place: v1::ParameterPlace) -> Result<v1::ParameterStyle, Malformed> {
    use v1::{ParameterPlace as Place, ParameterStyle as Style};
    let Some(style) = at.get("style") else {
        let simple = matches!(place, Place::Path | Place::Header);
        return Ok(if simple { Style::Simple } else { Style::Form });
    };
    match (style.text()?, place) {
        ("form", Place::Query | Place::Cookie) => Ok(Style::Form),
        ("simple", Place::Path | Place::Header) => Ok(Style::Simple),
        ("spaceDelimited", Place::Query) => Ok(Style::SpaceDelimited),
        ("pipeDelimited", Place::Query) => Ok(Style::PipeDelimited),
        ("deepObject", Place::Query) => Ok(Style::DeepObject),
        _ => Err(style.wrong("parameters there can't be read in this style")),
    }
}

/// The schema of a parameter whose value is of a media type.
fn of_content(at: &At<'_>, dialect: Dialect) -> Result<String, Malformed> {
    let content = at.get("content").ok_or_else(|| at.wrong("a parameter has schema or content"))?;
    let types = content.fields()?;
    let [(media_type, media)] = types.as_slice() else {
        return Err(content.wrong("must have one media type"));
    };
    if !is_json(&media_type.to_ascii_lowercase()) {
        return Err(content.wrong("parameters are read as application/json alone"));
    }
    media.get("schema").map_or(Ok("{}".to_owned()), |schema| dialect::schema(&schema, dialect))
}

fn body_rule(at: &At<'_>, dialect: Dialect) -> Result<v1::BodyRule, Malformed> {
    let media_type = |(name, at): (&str, At<'_>)| {
        let name = name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let checked = is_json(&name) || name.ends_with("/*");
        let schema = at.get("schema").filter(|_| checked).map(|schema| dialect::schema(&schema, dialect));
        Ok(v1::MediaTypeRule { media_type: name, schema: schema.transpose()?.unwrap_or_default() })
    };
    let content = at.need("content")?;
    let media_types = content.fields()?.into_iter().map(media_type).collect::<Result<_, Malformed>>()?;
    Ok(v1::BodyRule { required: at.flag("required")?, media_types })
}
