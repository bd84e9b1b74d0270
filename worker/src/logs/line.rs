//! What lies in a file, one JSON object a line: lines of guests, and marks that say what is missing. The tenant is the folder.

use std::time::{Duration, SystemTime};

use dunlin_proto::{
    ids::{FunctionName, InvocationId, Namespace, VersionNumber},
    internal::v1 as internal,
    names::FunctionRef,
    v1,
};
use serde::{Deserialize, Serialize};

use crate::sandbox::{LogRecord, LogStream};

/// Who wrote lines.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) function: FunctionName,
    pub(crate) version: VersionNumber,
    pub(crate) invocation: InvocationId,
    /// The caller's own id; may be empty.
    pub(crate) request_id: String,
}

/// A place in a namespace's log: after this many lines of this start. Later places are greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) boot: u64,
    pub(super) sequence: u64,
}

impl From<internal::LogPosition> for Position {
    fn from(internal::LogPosition { boot, sequence }: internal::LogPosition) -> Self {
        Self { boot, sequence }
    }
}

impl From<Position> for internal::LogPosition {
    fn from(Position { boot, sequence }: Position) -> Self {
        Self { boot, sequence }
    }
}

/// Something in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Line(Line),
    Mark(Mark),
    /// A line of which nothing is asked but its place. Never in a file.
    #[serde(skip_serializing)]
    Passed(Passed),
}

impl Entry {
    /// Nothing where it is neither, such as the torn end of a process that died.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let line = serde_json::from_slice(json).map(Self::Line);
        line.or_else(|_| serde_json::from_slice(json).map(Self::Mark)).ok()
    }

    /// The same for who asks for one function: a line of another is known by its beginning, and not read to its end.
    pub(super) fn of_function(json: &[u8], function: &FunctionName) -> Option<Self> {
        match Passed::skim(json) {
            Some((passed, whose)) if whose != function.as_str().as_bytes() => Some(Self::Passed(passed)),
            Some(_) => Self::parse(json),
            None => serde_json::from_slice(json).map(Self::Mark).ok().or_else(|| Self::parse(json)),
        }
    }

    /// The place after it.
    pub(super) fn position(&self) -> Position {
        match self {
            Self::Line(Line { boot, sequence, .. })
            | Self::Mark(Mark { boot, sequence, .. })
            | Self::Passed(Passed { boot, sequence, .. }) => Position { boot: *boot, sequence: *sequence },
        }
    }

    /// How many lines it is or stands for.
    pub(super) fn lines(&self) -> u64 {
        match self {
            Self::Line(_) | Self::Passed(_) => 1,
            Self::Mark(mark) => mark.lines,
        }
    }

    pub(super) fn time(&self) -> u64 {
        match self {
            Self::Line(Line { time, .. }) | Self::Mark(Mark { time, .. }) | Self::Passed(Passed { time, .. }) => *time,
        }
    }
}

/// Why lines are missing, or that none are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// They came too fast.
    Rate,
    /// They could not be written.
    Disk,
    /// The process ended before they were written, if there were any. Never in a file: it follows from what is there.
    Restart,
    /// They were removed to make room. Never in a file.
    Removed,
    /// The process closed its log: there are no more.
    End,
}

/// Says that lines are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) time: u64,
    pub(super) boot: u64,
    /// The number of the last of them.
    pub(super) sequence: u64,
    /// How many; 0 where nobody knows.
    pub(super) lines: u64,
    pub(super) why: Why,
}

impl Mark {
    /// The gap as the API has it.
    pub(super) fn to_wire(&self, worker: &str) -> v1::LogGap {
        let reason = match self.why {
            Why::Rate => v1::LogGapReason::Rate,
            Why::Disk => v1::LogGapReason::Disk,
            Why::Restart => v1::LogGapReason::Restart,
            Why::Removed => v1::LogGapReason::Removed,
            Why::End => v1::LogGapReason::Unspecified,
        };
        v1::LogGap {
            time: Some(moment(self.time).into()),
            worker: worker.to_owned(),
            lines: self.lines,
            reason: reason.into(),
            boot: self.boot,
            sequence: self.sequence,
        }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// When, in microseconds since 1970; never less than the line before has.
    pub(super) time: u64,
    /// The start of the log.
    pub(super) boot: u64,
    /// Its number in its namespace since then.
    pub(super) sequence: u64,
    pub(super) function: FunctionName,
    pub(super) version: VersionNumber,
    pub(super) invocation: InvocationId,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) request_id: String,
    /// Written to standard error rather than to standard output.
    pub(super) stderr: bool,
    pub(super) text: String,
    /// Bytes of the same call that were dropped with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) dropped_bytes: u64,
}

/// The place of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passed {
    time: u64,
    boot: u64,
    sequence: u64,
}

impl Passed {
    /// Reads how a [`Line`] begins in a file, and whose it is; nothing where anything else is there.
    fn skim(json: &[u8]) -> Option<(Self, &[u8])> {
        let (time, rest) = number(json.strip_suffix(b"}")?, br#"{"time":"#)?;
        let (boot, rest) = number(rest, br#","boot":"#)?;
        let (sequence, rest) = number(rest, br#","sequence":"#)?;
        let rest = rest.strip_prefix(br#","function":""#)?;
        let whose = rest.split(|byte| *byte == b'"').next()?;
        Some((Self { time, boot, sequence }, whose))
    }
}

/// The number behind a key, and what follows.
fn number<'j>(json: &'j [u8], key: &[u8]) -> Option<(u64, &'j [u8])> {
    let rest = json.strip_prefix(key)?;
    let (digits, rest) = rest.split_at_checked(rest.iter().take_while(|byte| byte.is_ascii_digit()).count())?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Line {
    pub(super) fn new(source: &Source, record: LogRecord, time: u64, Position { boot, sequence }: Position) -> Self {
        Self {
            time,
            boot,
            sequence,
            function: source.function.clone(),
            version: source.version,
            invocation: source.invocation,
            request_id: source.request_id.clone(),
            stderr: record.stream == LogStream::Stderr,
            text: record.text,
            dropped_bytes: record.truncated_bytes,
        }
    }

    /// The line as the API has it.
    pub(super) fn to_wire(&self, namespace: &Namespace, worker: &str) -> v1::LogLine {
        let function = FunctionRef { namespace: namespace.clone(), function: self.function.clone() };
        let stream = if self.stderr { v1::LogStream::Stderr } else { v1::LogStream::Stdout };
        v1::LogLine {
            time: Some(moment(self.time).into()),
            function: function.to_string(),
            version: self.version.get(),
            invocation: self.invocation.to_string(),
            stream: stream.into(),
            text: self.text.clone(),
            worker: worker.to_owned(),
            dropped_bytes: self.dropped_bytes,
            boot: self.boot,
            sequence: self.sequence,
        }
    }
}

/// The moment so many microseconds after 1970.
pub(super) fn moment(micros: u64) -> SystemTime {
    // A file may hold any number.
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Microseconds since 1970.
pub(super) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_other_functions_lines_only_the_place_is_read() {
        let line = Line {
            time: 17,
            boot: 3,
            sequence: 40,
            function: "pay".parse().unwrap(),
            version: VersionNumber::FIRST,
            invocation: InvocationId::new(),
            request_id: "\"function\":\"ship\"".to_owned(),
            stderr: true,
            text: "a \"}\n".to_owned(),
            dropped_bytes: 9,
        };
        let mark = Entry::Mark(Mark { time: 18, boot: 3, sequence: 42, lines: 2, why: Why::Rate });
        let text = |entry: &Entry| serde_json::to_vec(entry).unwrap();
        let read = |json: &[u8], function: &str| Entry::of_function(json, &function.parse().unwrap());
        let line = Entry::Line(line);
        let passed = read(&text(&line), "ship").unwrap();
        assert_eq!(passed, Entry::Passed(Passed { time: 17, boot: 3, sequence: 40 }));
        assert_eq!((passed.position(), passed.time(), passed.lines()), (line.position(), line.time(), line.lines()));
        assert_eq!(read(&text(&line), "pay"), Some(line.clone()));
        assert_eq!(read(&text(&mark), "ship"), Some(mark));
        for torn in [10, 30, 60, 100] {
            assert_eq!(read(&text(&line)[..torn], "ship"), None, "{torn} bytes");
        }
    }
}
