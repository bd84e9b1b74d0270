//! How values come out of rows: checked again, since a damaged or foreign database must not become a damaged answer.

use std::str::FromStr;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, any::AnyRow};

use crate::{error::Error, model::Time};

fn damaged(what: &'static str, value: &str) -> Error {
    Error::Damaged { what, value: value.chars().take(80).collect() }
}

/// A text.
pub(super) fn text(row: &AnyRow, column: &'static str) -> Result<String, Error> {
    Ok(row.try_get(column)?)
}

/// A text that may not be there.
pub(super) fn optional_text(row: &AnyRow, column: &'static str) -> Result<Option<String>, Error> {
    Ok(row.try_get(column)?)
}

/// A text that is an id, a digest or a number.
pub(super) fn parsed<T: FromStr>(row: &AnyRow, column: &'static str) -> Result<T, Error> {
    let text = text(row, column)?;
    text.parse().map_err(|_| damaged(column, &text))
}

/// A text that is an id, a digest or a number, and may not be there.
pub(super) fn optional_parsed<T: FromStr>(row: &AnyRow, column: &'static str) -> Result<Option<T>, Error> {
    let text = optional_text(row, column)?;
    text.map(|text| text.parse().map_err(|_| damaged(column, &text))).transpose()
}

/// A text that is JSON.
pub(super) fn json<T: DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T, Error> {
    let text = text(row, column)?;
    serde_json::from_str(&text).map_err(|_| damaged(column, &text))
}

/// A text that is JSON and may not be there.
pub(super) fn optional_json<T: DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<Option<T>, Error> {
    let text = optional_text(row, column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| damaged(column, &text))).transpose()
}

/// A number.
pub(super) fn number(row: &AnyRow, column: &'static str) -> Result<i64, Error> {
    Ok(row.try_get(column)?)
}

/// A number that counts something.
pub(super) fn count<T: TryFrom<i64>>(row: &AnyRow, column: &'static str) -> Result<T, Error> {
    let number = number(row, column)?;
    number.try_into().map_err(|_| damaged(column, &number.to_string()))
}

/// A moment.
pub(super) fn time(row: &AnyRow, column: &'static str) -> Result<Time, Error> {
    number(row, column).map(Time)
}

/// A moment that may not have come.
pub(super) fn optional_time(row: &AnyRow, column: &'static str) -> Result<Option<Time>, Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Time))
}

/// A number that counts something that may not be bounded.
pub(super) fn optional_count<T: TryFrom<i64>>(row: &AnyRow, column: &'static str) -> Result<Option<T>, Error> {
    let number = row.try_get::<Option<i64>, _>(column)?;
    number.map(|number| number.try_into().map_err(|_| damaged(column, &number.to_string()))).transpose()
}

/// A value as JSON.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| damaged("value", &error.to_string()))
}

/// A size as the database keeps it.
pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A count that is never negative.
pub(super) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}
