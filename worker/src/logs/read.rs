//! Finds lines in a namespace's files, the newest first, and no more than asked for. Blocking; the effort is bounded by what a
//! namespace may keep.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use dunlin_proto::{ApiError, names::Scope, v1};

use super::{
    line::{Line, micros},
    segments,
};

const DEFAULT_LINES: u32 = 100;
const MAX_LINES: u32 = 10_000;
const MAX_TEXT: usize = 1024;

/// Which lines are asked for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) scope: Scope,
    pub(super) follow: bool,
    pub(super) since: u64,
    pub(super) lines: usize,
    pub(super) request_id: String,
    pub(super) search: String,
}

impl TryFrom<v1::ReadLogsRequest> for Query {
    type Error = ApiError;

    fn try_from(wire: v1::ReadLogsRequest) -> Result<Self, ApiError> {
        let since = wire.since.map(SystemTime::try_from).transpose();
        let since = since.map_err(|_| ApiError::invalid("since", "since is no point in time"))?;
        if wire.lines > MAX_LINES {
            return Err(ApiError::invalid("lines", format!("lines is {} but may be {MAX_LINES} at most", wire.lines)));
        }
        for (field, text) in [("request_id", &wire.request_id), ("search", &wire.search)] {
            if text.len() > MAX_TEXT {
                return Err(ApiError::invalid(field, format!("{field} may have {MAX_TEXT} bytes at most")));
            }
        }
        Ok(Self {
            scope: wire.parent.parse().map_err(|error| ApiError::invalid("parent", error))?,
            follow: wire.follow,
            since: since.map(first_micros).unwrap_or_default(),
            lines: if wire.lines == 0 { DEFAULT_LINES } else { wire.lines } as usize,
            request_id: wire.request_id,
            search: wire.search,
        })
    }
}

/// The first microsecond that is not before a time: lines have whole microseconds, and one before `since` must not come again.
fn first_micros(since: SystemTime) -> u64 {
    micros(since.checked_add(Duration::from_nanos(999)).unwrap_or(since))
}

impl Query {
    /// Whether the line, which is of the query's namespace, is asked for.
    pub(super) fn matches(&self, line: &Line) -> bool {
        let id = &self.request_id;
        line.time >= self.since
            && self.scope.function.as_ref().is_none_or(|function| *function == line.function)
            && (id.is_empty() || *id == line.request_id || *id == line.invocation.to_string())
            && line.text.contains(&self.search)
    }
}

/// What the files hold now.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The last lines that match, the oldest first.
    pub(super) lines: Vec<Line>,
    /// The time of the last line of all, whether it matches or not.
    pub(super) last: u64,
}

/// Reads the files in `logs`, the folder of all namespaces.
pub(super) fn find(logs: &Path, query: &Query) -> io::Result<Found> {
    // A validated name: it can't lead to another tenant's folder.
    let folder = logs.join(query.scope.namespace.as_str());
    let mut found = Found::default();
    for (_, path) in segments::list(&folder)?.into_iter().rev() {
        let bytes = match fs::read(path) {
            // The writer has just removed it: everything older is gone too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            bytes => bytes?,
        };
        if !search(&bytes, query, &mut found) {
            break;
        }
    }
    found.lines.reverse();
    Ok(found)
}

/// Collects matches of one file, the newest first; says whether older files matter.
fn search(bytes: &[u8], query: &Query, found: &mut Found) -> bool {
    for text in bytes.rsplit(|byte| *byte == b'\n') {
        // A torn line, at the end of a process that died.
        let Ok(line) = serde_json::from_slice::<Line>(text) else { continue };
        found.last = found.last.max(line.time);
        if line.time < query.since || found.lines.len() >= query.lines {
            return false;
        }
        if query.matches(&line) {
            found.lines.push(line);
        }
    }
    true
}
