//! What the command prints: data on standard output as a table or JSON, talk on standard error.
//!
//! Text that came from others (names, log lines, messages) passes [`printable`] on its way to a person, so that no
//! function can steer somebody's terminal. JSON escapes control characters by itself.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Failure;

/// The shape of the data on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// The same with more columns.
    Wide,
    /// JSON: snake_case names, times in RFC 3339, durations in milliseconds. Streams are one object a line.
    Json,
    /// Comma-separated values; of `dunlin usage` alone.
    Csv,
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// No colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colour: false };

    /// Colours where standard error is a terminal and nobody forbids them (no-color.org).
    pub(crate) fn of_stderr() -> Self {
        Self::when(io::stderr().is_terminal())
    }

    /// Colours where standard output is a terminal and nobody forbids them.
    pub(crate) fn of_stdout() -> Self {
        Self::when(io::stdout().is_terminal())
    }

    fn when(terminal: bool) -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { colour: terminal && !forbidden && !dumb }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For what went wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// For what went well.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what needs attention.
    pub(crate) fn caution(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// For headings.
    pub(crate) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what may be overlooked.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// A column of a table over items of one type.
pub(crate) struct Column<T> {
    head: &'static str,
    wide: bool,
    cell: fn(&T) -> String,
}

impl<T> Column<T> {
    /// A column that is always shown.
    pub(crate) const fn new(head: &'static str, cell: fn(&T) -> String) -> Self {
        Self { head, wide: false, cell }
    }

    /// A column that `-o wide` adds.
    pub(crate) const fn wide(head: &'static str, cell: fn(&T) -> String) -> Self {
        Self { head, wide: true, cell }
    }
}

/// Where a command prints.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Output {
    /// The shape of the data.
    pub(crate) format: Format,
    /// Whether talk is left out. Errors and warnings are not talk.
    pub(crate) quiet: bool,
}

impl Output {
    /// Whether the data is for a program.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints text as it is, on standard output.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Prints bytes as they are, on standard output. A reader that has left ends the process quietly: `dunlin ... | head`.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            written => Ok(written?),
        }
    }

    /// Prints a JSON document.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
        self.text(&(harmless(&text).into_owned() + "\n"))
    }

    /// Prints one JSON object on a line of its own.
    pub(crate) fn json_line(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        self.text(&(harmless(&text).into_owned() + "\n"))
    }

    /// Says what was deleted: an object that names it for a program, a note for a person.
    pub(crate) fn deleted(self, name: &str, said: &str) -> Result<(), Failure> {
        self.note(printable(said));
        if self.is_json() { self.json(&serde_json::json!({ "name": name, "deleted": true })) } else { Ok(()) }
    }

    /// Prints items as a table or a JSON array; `nothing` is said where there are none.
    pub(crate) fn list<T: Serialize>(self, items: &[T], columns: &[Column<T>], nothing: &str) -> Result<(), Failure> {
        if self.is_json() {
            return self.json(&items);
        }
        if items.is_empty() {
            self.note(nothing);
            return Ok(());
        }
        self.text(&table(items, columns, self.format == Format::Wide))
    }

    /// Says something on standard error, unless asked to be quiet.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Says something on standard error, always. Where nobody can hear it, nothing more can be done.
    pub(crate) fn warn(self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
    }

    /// Prints a failure on standard error, in the shape of the data.
    pub(crate) fn failure(self, failure: &Failure) {
        let text = if self.is_json() { format!("{}\n", failure.json()) } else { failure.text(Style::of_stderr()) };
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Items as aligned columns.
pub(crate) fn table<T>(items: &[T], columns: &[Column<T>], wide: bool) -> String {
    let shown: Vec<_> = columns.iter().filter(|column| wide || !column.wide).collect();
    let rows = items.iter().map(|item| shown.iter().map(|column| (column.cell)(item)).collect()).collect();
    aligned(Some(shown.iter().map(|column| column.head.to_owned()).collect()), rows)
}

/// Names and values, one pair a line, the values aligned.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    aligned(None, pairs.iter().map(|(name, value)| vec![format!("{name}:"), value.clone()]).collect())
}

/// Rows of cells as aligned columns without borders.
fn aligned(head: Option<Vec<String>>, rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(head) = head {
        table.set_header(head);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell).replace('\t', " ")));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// Text that can be shown on a terminal: control characters, and those that turn the direction of text, are escaped.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hostile(c).then(|| c.escape_default().to_string()))
}

/// JSON in which what would steer a terminal is escaped (RFC 8259, section 7): serde_json leaves DEL, the C1 controls and the
/// marks of direction as they are, and whatever is beyond ASCII stands in a string.
fn harmless(json: &str) -> Cow<'_, str> {
    let beyond = |c: char| c >= '\x7f' && is_hostile(c);
    escaped(json, |c| beyond(c).then(|| format!("\\u{:04x}", u32::from(c))))
}

fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}'..='\u{2029}')
}

fn escaped(text: &str, escape: impl Fn(char) -> Option<String>) -> Cow<'_, str> {
    if !text.contains(|c| escape(c).is_some()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| escape(c).unwrap_or_else(|| c.to_string())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Item(&'static str, u32);

    const COLUMNS: &[Column<Item>] = &[
        Column::new("NAME", |item| item.0.to_owned()),
        Column::wide("SECRET", |item| "x".repeat(item.0.len())),
        Column::new("COUNT", |item| item.1.to_string()),
    ];

    #[test]
    fn tables_align_and_end_without_spaces() {
        let items = [Item("a", 1), Item("longer-name", 22)];
        assert_eq!(table(&items, COLUMNS, false), "NAME         COUNT\na            1\nlonger-name  22\n");
        assert_eq!(
            table(&items, COLUMNS, true),
            "NAME         SECRET       COUNT\na            x            1\nlonger-name  xxxxxxxxxxx  22\n"
        );
        assert_eq!(pairs(&[("a", "1".into()), ("long", "2".into())]), "a:     1\nlong:  2\n");
    }

    #[test]
    fn wide_characters_align_too() {
        let items = [Item("日本", 1), Item("abcd", 2)];
        assert_eq!(table(&items, COLUMNS, false), "NAME  COUNT\n日本  1\nabcd  2\n");
    }

    #[test]
    fn control_characters_are_escaped_and_the_rest_is_left() {
        for (text, shown) in [
            ("plain ü 日本\t!", "plain ü 日本\t!"),
            ("\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            ("a\nb\rc", "a\\nb\\rc"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\u{202e}txt", "\\u{202e}txt"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn json_steers_no_terminal_and_stays_the_same_json() {
        let value = serde_json::json!({"text": "a\u{9b}2J\u{7f}\u{202e}ü\x1b\t\n"});
        let text = serde_json::to_string(&value).unwrap();
        let shown = harmless(&text);
        assert_eq!(shown, r#"{"text":"a\u009b2J\u007f\u202eü\u001b\t\n"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&harmless(&pretty)).unwrap(), value);
    }

    #[test]
    fn colours_are_off_unless_on() {
        assert_eq!(Style::PLAIN.bad("x"), "x");
        assert_eq!(Style { colour: true }.bad("x"), "\x1b[1;31mx\x1b[0m");
    }
}
