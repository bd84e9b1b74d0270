//! Finds lines in a namespace's files: where the last ones begin, and from a place on file by file. Blocking; the effort is
//! bounded by what a namespace may keep, the memory by one file.

use std::{
    collections::HashSet,
    fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use dunlin_proto::{ApiError, ids::InvocationId, names::Scope, v1};

use super::{
    line::{Entry, Line, Mark, Position, micros},
    segments,
    track::{Item, Track},
};

const DEFAULT_LINES: u32 = 100;
const MAX_LINES: u32 = 10_000;
const MAX_TEXT: usize = 1024;
/// Invocations that may be asked for at once.
const MAX_INVOCATIONS: usize = 1_000;
/// More than an entry has in a file, in bytes: a line of control characters grows sixfold.
const MAX_ENTRY: u64 = 256 << 10;

/// Which lines are asked for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) scope: Scope,
    pub(super) follow: bool,
    pub(super) since: u64,
    pub(super) lines: usize,
    pub(super) request_id: String,
    pub(super) search: String,
    /// 0 for all.
    pub(super) version: u32,
    /// Empty for all.
    pub(super) invocations: HashSet<InvocationId>,
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
            version: wire.version,
            invocations: HashSet::new(),
        })
    }
}

impl Query {
    /// Only lines of these invocations, where there are any.
    pub(super) fn of(self, invocations: &[String]) -> Result<Self, ApiError> {
        if invocations.len() > MAX_INVOCATIONS {
            let message = format!("invocations may be {MAX_INVOCATIONS} at most");
            return Err(ApiError::invalid("invocations", message));
        }
        let ids = invocations.iter().map(|id| id.parse()).collect::<Result<_, _>>();
        Ok(Self { invocations: ids.map_err(|error| ApiError::invalid("invocations", error))?, ..self })
    }

    /// Nothing that is older than lines are kept.
    pub(super) fn not_before(self, oldest: SystemTime) -> Self {
        Self { since: self.since.max(micros(oldest)), ..self }
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
            && (self.invocations.is_empty() || self.invocations.contains(&line.invocation))
            && (self.version == 0 || self.version == line.version.get())
            && line.text.contains(&self.search)
    }

    /// What a line of a file holds, as far as it may be asked for.
    fn entry(&self, json: &[u8]) -> Option<Entry> {
        match &self.scope.function {
            Some(function) => Entry::of_function(json, function),
            None => Entry::parse(json),
        }
    }

    /// Whether it is about no calls and no text in particular.
    fn wants_all(&self) -> bool {
        self.request_id.is_empty() && self.search.is_empty() && self.version == 0 && self.invocations.is_empty()
    }

    fn wants(&self, item: &Item) -> bool {
        match item {
            Item::Line(line) => self.matches(line),
            Item::Gap(gap) => gap.time >= self.since,
        }
    }
}

/// A reader of a namespace's files.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    folder: PathBuf,
    pub(super) query: Query,
    /// The number of this start of the log.
    boot: u64,
    track: Track,
    /// The last file that was read.
    file: Option<u64>,
}

/// What a reader found in one file.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) items: Vec<Item>,
    /// Whether there are more files.
    pub(super) more: bool,
}

impl Reading {
    /// A reader of the files in `logs`, the folder of all namespaces, that goes on after a place.
    pub(super) fn after(logs: &Path, query: Query, boot: u64, place: Position) -> Self {
        // A validated name: it can't lead to another tenant's folder.
        let folder = logs.join(query.scope.namespace.as_str());
        Self { folder, query, boot, track: Track::after(place), file: None }
    }

    /// A reader of the last lines that match, and of what comes after them.
    pub(super) fn last(logs: &Path, query: Query, boot: u64) -> io::Result<Self> {
        let mut reading = Self::after(logs, query, boot, Position::default());
        reading.track = Track::after(reading.begin()?.unwrap_or_default());
        Ok(reading)
    }

    /// Before the first of the last lines that match; without any, before the end. What is missing before them matters only to
    /// whoever wants all lines.
    fn begin(&self) -> io::Result<Option<Position>> {
        let (mut found, mut begin, all) = (0, None, self.query.wants_all());
        for (_, path) in segments::list(&self.folder)?.into_iter().rev() {
            for entry in read(&path)?.rsplit(|byte| *byte == b'\n').filter_map(|json| self.query.entry(json)) {
                if found >= self.query.lines || entry.time() < self.query.since {
                    return Ok(begin);
                }
                let matches = matches!(&entry, Entry::Line(line) if self.query.matches(line));
                if matches || all || begin.is_none() {
                    found += usize::from(matches);
                    begin = Some(before(&entry));
                }
            }
        }
        Ok(begin)
    }

    /// What the next file holds.
    pub(super) fn chunk(&mut self) -> io::Result<Chunk> {
        let mut chunk = Chunk::default();
        let files = segments::list(&self.folder)?;
        let next = match self.file {
            Some(read) => files.iter().position(|(number, _)| *number > read),
            None => self.first(&files)?,
        };
        let Some((number, path)) = next.and_then(|next| files.get(next)) else { return Ok(chunk) };
        let bytes = read(path)?;
        for json in bytes.split(|byte| *byte == b'\n') {
            let Some(entry) = self.query.entry(json) else { continue };
            self.step(&entry).into_iter().for_each(|item| put(&mut chunk.items, item));
        }
        self.file = Some(*number);
        chunk.more = files.last().is_some_and(|(last, _)| last > number);
        Ok(chunk)
    }

    /// The file that holds the place, or else the first one.
    fn first(&self, files: &[(u64, PathBuf)]) -> io::Result<Option<usize>> {
        let Some(at) = self.track.at() else { return Ok(Some(0)) };
        for (index, (_, path)) in files.iter().enumerate().rev() {
            let begins = first(path)?;
            if begins.is_some_and(|begins| begins.position() <= at) {
                return Ok(Some(index));
            }
        }
        Ok(Some(0))
    }

    /// What an entry tells of what is asked for.
    pub(super) fn step(&mut self, entry: &Entry) -> Vec<Item> {
        let mut items = Vec::new();
        self.track.step(entry, |item| items.push(item));
        items.retain(|item| self.query.wants(item));
        items
    }

    /// There is no more in the files for now; from here on they may be read again.
    pub(super) fn settle(&mut self) -> Vec<Item> {
        self.file = None;
        let mut items = Vec::new();
        self.track.settle(self.boot, micros(SystemTime::now()), |item| items.push(item));
        items
    }

    /// Up to where it has read.
    pub(super) fn position(&self) -> Position {
        self.track.at().unwrap_or_default()
    }
}

/// Adds an item. What is missing for the same reason with nothing between that is asked for is one gap: a namespace that writes
/// too fast would have thousands.
fn put(items: &mut Vec<Item>, item: Item) {
    match (items.last_mut(), item) {
        (Some(Item::Gap(last)), Item::Gap(next)) if last.boot == next.boot && last.why == next.why => {
            *last = Mark { lines: last.lines.saturating_add(next.lines), ..next };
        }
        (_, item) => items.push(item),
    }
}

fn before(entry: &Entry) -> Position {
    let Position { boot, sequence } = entry.position();
    Position { boot, sequence: sequence.saturating_sub(entry.lines()) }
}

/// A file's first entry; nothing where the writer has just removed it.
pub(super) fn first(path: &Path) -> io::Result<Option<Entry>> {
    let mut first = Vec::new();
    match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => BufReader::new(file?).take(MAX_ENTRY).read_until(b'\n', &mut first)?,
    };
    Ok(Entry::parse(&first))
}

/// Nothing where the writer has just removed it: what it held is missing then.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        bytes => bytes,
    }
}
