//! Reads a TOML document field by field, and says of whatever is wrong in which line and column it is.
//!
//! Not serde: its errors for unknown fields carry no suggestion, and values with units would lose their place.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::exit::Failure;

/// A document and what to call it.
pub(super) struct Reader<'t> {
    file: &'t str,
    text: &'t str,
}

impl<'t> Reader<'t> {
    /// A reader of `text`, which messages call `file`.
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text }
    }

    /// The top level of the document.
    pub(super) fn root(&'t self) -> Result<Section<'t>, Failure> {
        let table = DeTable::parse(self.text).map_err(|error| {
            self.error(error.span().map_or(0, |span| span.start), error.message()).hint("it must be TOML (toml.io)")
        })?;
        Ok(Section { reader: self, name: String::new(), at: 0, table: table.into_inner() })
    }

    /// A failure at this byte of the document.
    fn error(&self, at: usize, message: &str) -> Failure {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Failure::usage(format!("{}:{line}:{column}: {message}", self.file))
    }
}

/// A table of the document.
pub(super) struct Section<'t> {
    reader: &'t Reader<'t>,
    /// As it stands between brackets; empty at the top.
    name: String,
    at: usize,
    table: DeTable<'t>,
}

impl<'t> Section<'t> {
    /// The same table, once it is sure that it has no other fields than these.
    pub(super) fn with_fields(self, known: &[&str]) -> Result<Self, Failure> {
        let unknown = self.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(self) };
        let name = key.get_ref().as_ref();
        let failure = self.reader.error(key.span().start, &format!("unknown field {name:?}{}", self.place()));
        let near = nearest(name, known).map_or(String::new(), |near| format!("did you mean {near:?}? "));
        Err(failure.hint(format!("{near}known fields: {}", known.join(", "))))
    }

    /// The names of the fields that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.table.keys().map(|key| key.get_ref().to_string())
    }

    /// A table in this one; the one with the empty name is nowhere.
    pub(super) fn section(&self, name: &str) -> Result<Option<Section<'t>>, Failure> {
        let found = self.value(name, "a table", |value| value.as_table().cloned())?;
        Ok(found.map(|(table, span)| self.inner(self.path(name), span.start, table)))
    }

    /// Tables of one name, as `[[name]]` begins each; none where there is none.
    pub(super) fn sections(&self, name: &str) -> Result<Vec<Section<'t>>, Failure> {
        let tables = |value: &DeValue<'t>| {
            let items = value.as_array()?.iter();
            items.map(|item| Some((item.span().start, item.get_ref().as_table()?.clone()))).collect::<Option<Vec<_>>>()
        };
        let found = self.value(name, &format!("a list of tables, each of which begins with [[{name}]]"), tables)?;
        let inner = |(at, table)| self.inner(format!("[{}]", self.path(name)), at, table);
        Ok(found.map_or_else(Vec::new, |(tables, _)| tables.into_iter().map(inner).collect()))
    }

    fn inner(&self, name: String, at: usize, table: DeTable<'t>) -> Section<'t> {
        Section { reader: self.reader, name, at, table }
    }

    /// What a table in this one is called.
    fn path(&self, name: &str) -> String {
        let outer = self.name.trim_matches(['[', ']']);
        if outer.is_empty() { name.to_owned() } else { format!("{outer}.{name}") }
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        let found = self.value(name, "a text in quotes", |value| value.as_str().map(str::to_owned))?;
        Ok(found.map(|(text, _)| text))
    }

    /// A text that `parse` understands.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse(&text).map(Some).map_err(|message| self.wrong(name, &format!("{name}: {message}")))
    }

    /// A text that `parse` understands and that has to be there.
    pub(super) fn required<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
        let missing = || self.reader.error(self.at, &format!("the field {name:?} is missing{}", self.place()));
        self.parsed(name, parse)?.ok_or_else(missing)
    }

    /// Yes or no.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        Ok(self.value(name, "true or false", DeValue::as_bool)?.map(|(value, _)| value))
    }

    /// A whole number from 0 on.
    pub(super) fn count(&self, name: &str) -> Result<Option<u32>, Failure> {
        let number = |value: &DeValue<'t>| {
            let integer = value.as_integer()?;
            u32::from_str_radix(integer.as_str(), integer.radix()).ok()
        };
        Ok(self.value(name, "a whole number from 0 on", number)?.map(|(value, _)| value))
    }

    /// A list of texts; empty where there is none.
    pub(super) fn strings(&self, name: &str) -> Result<Vec<String>, Failure> {
        let texts = |value: &DeValue<'t>| {
            let items = value.as_array()?.iter();
            items.map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        };
        Ok(self
            .value(name, "a list of texts, such as [\"a\", \"b\"]", texts)?
            .map_or_else(Vec::new, |(value, _)| value))
    }

    /// One text, or a list of them; empty where there is none.
    pub(super) fn one_or_more(&self, name: &str) -> Result<Vec<String>, Failure> {
        match self.table.get(name).map(|value| value.get_ref()) {
            Some(DeValue::Array(_)) => self.strings(name),
            _ => Ok(self.text(name)?.into_iter().collect()),
        }
    }

    /// A list of texts that `parse` understands.
    pub(super) fn parsed_list<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Failure> {
        let wrong = |message| self.wrong(name, &format!("{name}: {message}"));
        self.strings(name)?.iter().map(|text| parse(text).map_err(wrong)).collect()
    }

    /// A failure at the value of this field.
    pub(super) fn wrong(&self, name: &str, message: &str) -> Failure {
        let at = self.table.get(name).map_or(self.at, |value| value.span().start);
        self.reader.error(at, message)
    }

    /// The value of a field with where it is, as `read` understands it.
    fn value<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&DeValue<'t>) -> Option<T>,
    ) -> Result<Option<(T, Range<usize>)>, Failure> {
        let Some(value) = self.table.get(name) else { return Ok(None) };
        let wrong = || {
            let kind = value.get_ref().type_str();
            self.wrong(name, &format!("{name} must be {expected}, but is of type {kind}"))
        };
        read(value.get_ref()).map(|read| Some((read, value.span()))).ok_or_else(wrong)
    }

    /// Which table it is, for the end of a message.
    fn place(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) }
    }
}

/// The known name that somebody who wrote `name` most likely meant.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let close = |candidate: &&str| strsim::jaro_winkler(name, candidate);
    let best = known.iter().copied().max_by(|a, b| close(a).total_cmp(&close(b)))?;
    (close(&best) > 0.75).then_some(best)
}
