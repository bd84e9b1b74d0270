//! Fields of JSON bodies, checked as the document describes them, so that what it allows is taken and nothing else is.

use serde::{Deserialize, Deserializer, de::Error};
use utoipa::openapi::{
    ArrayBuilder, ObjectBuilder,
    schema::{Schema, Type},
};

use super::body::Object;

/// Text of so many characters at most.
pub(super) fn text<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.chars().count() <= MAX {
        true => Ok(text),
        false => Err(D::Error::custom(format_args!("a text may have {MAX} characters at most"))),
    }
}

/// Text that begins and ends with something to see, in ASCII, of so many characters at most.
pub(super) fn printable<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<String, D::Error> {
    let text = text::<D, MAX>(deserializer)?;
    let plain = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    plain.then_some(text).ok_or_else(|| D::Error::custom("a name must have printable ASCII characters"))
}

/// Text of so many characters at most, where it is there.
pub(super) fn maybe_text<'de, D: Deserializer<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    text::<D, MAX>(deserializer).map(Some)
}

/// A value that is there: null is none.
pub(super) fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An object that is there.
pub(super) fn there_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| Some(value))
}

/// A UUID, where it is there.
pub(super) fn maybe_uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = text.parse::<dunlin_proto::ids::RequestId>().map_err(D::Error::custom)?;
    Ok(Some(known.to_string()))
}

/// A whole number within bounds; JSON knows no other numbers than those with a point, so `2.0` is one.
pub(in crate::admin) fn whole<'de, D: Deserializer<'de>, const MIN: u32, const MAX: u32>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let whole = between(deserializer, MIN.into(), MAX.into())?;
    u32::try_from(whole).map_err(D::Error::custom)
}

/// The same for numbers that may be larger.
pub(in crate::admin) fn large<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<u64, D::Error> {
    between(deserializer, MIN, MAX)
}

fn between<'de, D: Deserializer<'de>>(deserializer: D, min: u64, max: u64) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_u64().or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64));
    let whole = whole.filter(|whole| (min..=max).contains(whole));
    whole.ok_or_else(|| D::Error::custom(format_args!("{number} must be a whole number from {min} to {max}")))
}

/// A whole number within bounds, where it is there.
pub(super) fn maybe_whole<'de, D: Deserializer<'de>, const MIN: u32, const MAX: u32>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    whole::<D, MIN, MAX>(deserializer).map(Some)
}

/// A list of so many entries.
pub(super) fn items<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MIN: usize, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let items = Vec::<T>::deserialize(deserializer)?;
    match (MIN..=MAX).contains(&items.len()) {
        true => Ok(items),
        false => Err(D::Error::custom(format_args!("a list must have {MIN} to {MAX} entries"))),
    }
}

/// A list of so many objects.
pub(super) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MIN: usize, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = items::<D, Object<T>, MIN, MAX>(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

/// The schema of a list of texts with a pattern.
fn texts(pattern: &str, longest: usize, most: usize) -> Schema {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).max_length(Some(longest));
    ArrayBuilder::new().items(text).max_items(Some(most)).into()
}

/// The schema of a list of functions' bare names.
pub(super) fn functions() -> Schema {
    texts("^[a-z](-?[a-z0-9])*$", 32, 100)
}

/// The schema of a list of scopes.
pub(super) fn scopes() -> Schema {
    texts("^[A-Za-z0-9._:/*-]+$", 64, 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Fields {
        #[serde(deserialize_with = "whole::<_, 1, 100>")]
        percent: u32,
        #[serde(default, deserialize_with = "maybe_text::<_, 3>")]
        text: Option<String>,
        #[serde(default, deserialize_with = "maybe_uuid")]
        id: Option<String>,
        #[serde(default, deserialize_with = "items::<_, _, 1, 2>")]
        list: Vec<bool>,
    }

    #[test]
    fn what_the_document_allows_is_taken_and_nothing_else_is() {
        let fields: Fields = serde_json::from_str(r#"{"percent": 7.0, "text": "äöü", "list": [true]}"#).unwrap();
        assert_eq!((fields.percent, fields.text.as_deref(), fields.list.len()), (7, Some("äöü"), 1));
        assert!(fields.id.is_none());
        for bad in [
            r#"{"percent": 0}"#,
            r#"{"percent": 101}"#,
            r#"{"percent": -1}"#,
            r#"{"percent": 1.5}"#,
            r#"{"percent": 1e300}"#,
            r#"{"percent": "1"}"#,
            r#"{"percent": 1, "text": "abcd"}"#,
            r#"{"percent": 1, "text": null}"#,
            r#"{"percent": 1, "id": "1"}"#,
            r#"{"percent": 1, "list": []}"#,
            r#"{"percent": 1, "list": [true, true, true]}"#,
        ] {
            assert!(serde_json::from_str::<Fields>(bad).is_err(), "{bad}");
        }
    }
}
