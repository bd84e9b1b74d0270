//! Rows and badges that several pages show, made of the model. Pure: now is an argument.

use std::time::SystemTime;

use super::format::{self, When};
use crate::admin::model::{Function, Invocation, LogLine, LogList, LogStream, WorkerState};

/// A state in words; the class only colours them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Badge {
    pub(super) text: String,
    pub(super) class: &'static str,
}

impl Badge {
    /// All is well.
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "ok" }
    }

    /// Somebody may want to look.
    pub(super) fn warn(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "warn" }
    }

    /// Something is wrong.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "bad" }
    }

    /// Neither good nor bad.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "bare" }
    }

    /// Who may call a function.
    pub(super) fn access(function: &Function) -> Self {
        match (function.disabled, function.public) {
            (true, _) => Self::bad("disabled"),
            (false, true) => Self::warn("public"),
            (false, false) => Self::plain("private"),
        }
    }

    /// How an invocation ended. An answer of 500 or above counts as failed everywhere.
    pub(super) fn outcome(call: &Invocation) -> Self {
        match call.outcome.as_str() {
            "ok" if call.status >= 500 => Self::bad("failed"),
            "ok" => Self::ok("ok"),
            "cancelled" => Self::warn("caller left"),
            other => Self::bad(other),
        }
    }

    /// Whether a worker takes invocations.
    pub(super) fn worker(state: WorkerState) -> Self {
        match state {
            WorkerState::Ready => Self::ok(state.as_str()),
            WorkerState::Draining | WorkerState::Unknown => Self::warn(state.as_str()),
            WorkerState::Lost => Self::bad(state.as_str()),
        }
    }

    /// Whether a worker has a version.
    pub(super) fn held(state: &str) -> Self {
        match state {
            "ready" => Self::ok(state),
            "failed" => Self::bad(state),
            _ => Self::warn(state),
        }
    }
}

/// An invocation in a table.
#[derive(Debug, Clone)]
pub(super) struct InvocationRow {
    pub(super) href: String,
    pub(super) time: Option<When>,
    pub(super) function: String,
    pub(super) function_href: String,
    pub(super) version: u32,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) state: Badge,
    pub(super) status: u32,
    pub(super) total: String,
    pub(super) cpu: String,
    pub(super) memory: String,
    pub(super) bytes_out: String,
}

impl InvocationRow {
    /// The row of an invocation.
    pub(super) fn new(call: &Invocation, now: SystemTime) -> Self {
        Self {
            href: format!("/{}", call.name),
            time: call.start_time.map(|time| When::new(time, now)),
            function_href: call.name.split_once("/invocations/").map(|(f, _)| format!("/{f}")).unwrap_or_default(),
            function: call.function.clone(),
            version: call.version,
            method: call.method.clone(),
            path: short(&call.path),
            state: Badge::outcome(call),
            status: call.status,
            total: format::micros(call.total_us()),
            cpu: format::micros(call.receipt.cpu_us),
            memory: format::bytes(call.receipt.peak_memory_bytes),
            bytes_out: format::bytes(call.receipt.bytes_out),
        }
    }

    /// The rows of invocations.
    pub(super) fn all(calls: &[Invocation], now: SystemTime) -> Vec<Self> {
        calls.iter().map(|call| Self::new(call, now)).collect()
    }
}

/// A log line.
#[derive(Debug, Clone, Default)]
pub(super) struct LineRow {
    pub(super) iso: String,
    pub(super) absolute: String,
    pub(super) clock: String,
    pub(super) stream: &'static str,
    pub(super) is_error: bool,
    pub(super) text: String,
    pub(super) function: String,
    pub(super) version: u32,
    pub(super) invocation: String,
    /// The invocation's page; empty where a line names none.
    pub(super) href: String,
    pub(super) dropped: u64,
    /// That lines are missing; then all else but the time is empty.
    pub(super) gap: String,
}

impl LineRow {
    /// A line of a namespace.
    pub(super) fn new(namespace: &str, line: LogLine) -> Self {
        let time = line.time;
        let href = match line.invocation.as_str() {
            "" => String::new(),
            id => format!("/namespaces/{namespace}/functions/{}/invocations/{id}", line.function),
        };
        Self {
            iso: time.map(|time| time.rfc3339()).unwrap_or_default(),
            absolute: time.map(|time| time.for_people()).unwrap_or_default(),
            clock: time.map(|time| time.clock()).unwrap_or_default(),
            stream: line.stream.as_str(),
            is_error: line.stream == LogStream::Stderr,
            text: visible(&line.text),
            function: line.function,
            version: line.version,
            invocation: line.invocation,
            href,
            dropped: line.dropped_bytes,
            gap: String::new(),
        }
    }

    /// Lines of a namespace.
    pub(super) fn all(namespace: &str, lines: Vec<LogLine>) -> Vec<Self> {
        lines.into_iter().map(|line| Self::new(namespace, line)).collect()
    }

    /// Lines of a namespace, and what is missing of them, where it is missing.
    pub(super) fn of(namespace: &str, LogList { lines, gaps, .. }: LogList) -> Vec<Self> {
        let mut rows = Self::all(namespace, lines);
        for gap in gaps.into_iter().rev() {
            let row = Self { gap: gap.text, ..Self::default() };
            rows.insert(gap.before.min(rows.len()), row);
        }
        rows
    }
}

/// The most letters of a path that a heading or a cell shows.
const LONG: usize = 120;

/// The beginning of a text that may be very long.
pub(in crate::admin) fn short(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// Text of a guest with what would not be seen, or would turn what follows around, made visible (U+2400 on; T51).
pub(super) fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => '\t',
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_500_is_shown_as_failed() {
        for (outcome, status, text, class) in [
            ("ok", 200, "ok", "ok"),
            ("ok", 404, "ok", "ok"),
            ("ok", 500, "failed", "bad"),
            ("ok", 503, "failed", "bad"),
            ("cancelled", 0, "caller left", "warn"),
        ] {
            let wire = dunlin_proto::v1::Invocation { outcome: outcome.to_owned(), status, ..Default::default() };
            let badge = Badge::outcome(&Invocation::from(wire));
            assert_eq!((badge.text.as_str(), badge.class), (text, class), "{outcome} {status}");
        }
    }

    #[test]
    fn of_a_long_path_the_beginning_is_shown() {
        let most = "ä".repeat(LONG);
        assert_eq!(short(&most), most);
        assert_eq!(short(&format!("{most}/")), format!("{most}…"));
    }

    #[test]
    fn t51_what_hides_or_turns_text_is_made_visible() {
        assert_eq!(visible("a\u{1b}[31mb\r\n\0"), "a␛[31mb␍␊␀");
        assert_eq!(visible("ab\u{202e}cd\u{2066}"), "ab\u{fffd}cd\u{fffd}");
        assert_eq!(visible("ключ\t🦤"), "ключ\t🦤");
    }
}
