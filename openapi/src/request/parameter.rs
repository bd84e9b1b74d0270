//! Parameters as callers write them (OpenAPI 3.1, style and explode), and what they are then.

use std::borrow::Cow;

use dunlin_proto::{
    error::Violation,
    route::{ParameterPlace, ParameterRule, ParameterStyle},
};
use http::header;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{Given, json};
use crate::schema::{Schema, Shape};

/// A parameter that is checked.
#[derive(Debug)]
pub(super) struct Parameter {
    rule: ParameterRule,
    schema: Schema,
}

/// Why a parameter can't be read.
type Why = &'static str;

const NO_TEXT: Why = "it is not UTF-8 text";
const TWICE: Why = "it is there more than once";

/// The parts of a query: each name, and its value as it was written.
pub(super) fn pairs(query: Option<&str>) -> Vec<(String, &str)> {
    let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    let pair = |part| {
        let (name, value) = str::split_once(part, '=').unwrap_or((part, ""));
        Some((form(name).ok()?.into_owned(), value))
    };
    parts.filter_map(pair).collect()
}

fn decoded(text: &str) -> Result<Cow<'_, str>, Why> {
    percent_decode_str(text).decode_utf8().map_err(|_| NO_TEXT)
}

fn trimmed(text: &str) -> Result<Cow<'_, str>, Why> {
    Ok(Cow::Borrowed(text.trim()))
}

/// As forms are written: a plus is a space.
fn form(text: &str) -> Result<Cow<'_, str>, Why> {
    if !text.contains('+') {
        return decoded(text);
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(|text| Cow::Owned(text.into_owned())).map_err(|_| NO_TEXT)
}

impl Parameter {
    pub(super) fn new(rule: &ParameterRule, schema: Schema) -> Self {
        Self { rule: rule.clone(), schema }
    }

    /// Adds what is wrong with it.
    pub(super) fn check(
        &self,
        given: &Given<'_>,
        query: &[(String, &str)],
        violations: &mut Vec<Violation>,
        most: usize,
    ) {
        let place = format!("{}.{}", self.rule.place.as_str(), self.rule.name);
        let wrong = |message: &str| Violation { field: place.clone(), message: message.to_owned() };
        match self.read(given, query) {
            Ok(Some(value)) => self.schema.check(&place, &value, violations, most),
            Ok(None) if self.rule.required => violations.push(wrong("it is missing")),
            Ok(None) => {}
            Err(why) => violations.push(wrong(why)),
        }
    }

    fn read(&self, given: &Given<'_>, query: &[(String, &str)]) -> Result<Option<Value>, Why> {
        let name = self.rule.name.as_str();
        match self.rule.place {
            ParameterPlace::Path => {
                let value = given.path.iter().find(|(known, _)| *known == name);
                value.map(|(_, text)| self.written(text, ',', decoded)).transpose()
            }
            ParameterPlace::Header => {
                let values: Vec<_> = given.headers.get_all(name).iter().map(|value| value.to_str()).collect();
                let values = values.into_iter().collect::<Result<Vec<_>, _>>().map_err(|_| NO_TEXT)?;
                if values.is_empty() { Ok(None) } else { self.written(&values.join(","), ',', trimmed).map(Some) }
            }
            ParameterPlace::Cookie => {
                let values: Vec<_> = cookies(given, name).collect();
                self.repeated(&values)
            }
            ParameterPlace::Query if self.rule.style == ParameterStyle::DeepObject => self.deep(query),
            ParameterPlace::Query => {
                let values: Vec<_> = query.iter().filter(|(known, _)| known == name).map(|(_, value)| *value).collect();
                self.repeated(&values)
            }
        }
    }

    /// What may be there several times.
    fn repeated(&self, values: &[&str]) -> Result<Option<Value>, Why> {
        match (&self.schema.shape, values) {
            (_, []) => Ok(None),
            (Shape::List(kinds), values) if self.rule.explode && self.rule.style != ParameterStyle::Json => {
                let items = values.iter().map(|text| Ok(kinds.value(&form(text)?)));
                items.collect::<Result<_, Why>>().map(Value::Array).map(Some)
            }
            (_, [one]) => self.delimited(one).map(Some),
            _ => Err(TWICE),
        }
    }

    fn delimited(&self, text: &str) -> Result<Value, Why> {
        match self.rule.style {
            ParameterStyle::SpaceDelimited => self.written(&text.replace("%20", "+"), '+', form),
            ParameterStyle::PipeDelimited => self.written(&text.replace("%7C", "|").replace("%7c", "|"), '|', form),
            _ => self.written(text, ',', form),
        }
    }

    /// One text, which has all of it.
    fn written(
        &self,
        text: &str,
        delimiter: char,
        decode: fn(&str) -> Result<Cow<'_, str>, Why>,
    ) -> Result<Value, Why> {
        if self.rule.style == ParameterStyle::Json {
            return json::read(decode(text)?.as_bytes()).map_err(|_| "it is not JSON");
        }
        match &self.schema.shape {
            Shape::List(_) if text.is_empty() => Ok(Value::Array(Vec::new())),
            Shape::List(kinds) => {
                let items = text.split(delimiter).map(|item| Ok(kinds.value(&decode(item)?)));
                items.collect::<Result<_, Why>>().map(Value::Array)
            }
            Shape::Scalar(kinds) => Ok(kinds.value(&decode(text)?)),
            Shape::Fields(_) => Ok(Value::String(decode(text)?.into_owned())),
        }
    }

    /// `name[field]=value`.
    fn deep(&self, query: &[(String, &str)]) -> Result<Option<Value>, Why> {
        let mut fields = Map::new();
        for (name, text) in query {
            let inner =
                name.strip_prefix(self.rule.name.as_str()).and_then(|rest| rest.strip_prefix('[')?.strip_suffix(']'));
            let Some(field) = inner else { continue };
            let kinds = match &self.schema.shape {
                Shape::Fields(known) => known.get(field).copied().unwrap_or_default(),
                Shape::Scalar(_) | Shape::List(_) => crate::schema::Kinds::default(),
            };
            if fields.insert(field.to_owned(), kinds.value(&form(text)?)).is_some() {
                return Err(TWICE);
            }
        }
        Ok((!fields.is_empty()).then_some(Value::Object(fields)))
    }
}

fn cookies<'a>(given: &Given<'a>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let headers = given.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = headers.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(known, _)| *known == name).map(|(_, value)| value)
}
