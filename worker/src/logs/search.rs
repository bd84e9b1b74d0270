//! Finds the calls that wrote lines with a text, the newest ones first, in all that is kept. Blocking, and made of steps: each takes a
//! turn at one file, so that whoever asks can stop between two of them. How long that may go on is decided by `service.rs`.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use dunlin_proto::{ids::InvocationId, model::Limits};
use memchr::{memchr, memmem, memrchr};

use super::{
    line::{Entry, micros, moment},
    read::{Query, first, read},
    segments,
};

/// The clocks of a gateway, which numbers calls, and of a worker differ by less than this.
const CLOCKS: Duration = Duration::from_secs(2);
/// No line of a call comes later after its beginning: it may take as long as a version allows, after having waited.
const LONGEST_CALL: Duration = Limits::MAX_TIMEOUT.saturating_add(Duration::from_secs(60));

/// The newest calls that were found, in bounded memory.
#[derive(Debug)]
struct Newest {
    ids: BTreeSet<InvocationId>,
    most: usize,
    /// Older ones were left out, or not looked for.
    is_cut: bool,
}

impl Newest {
    fn add(&mut self, id: InvocationId) {
        self.ids.insert(id);
        if self.ids.len() > self.most {
            self.ids.pop_first();
            self.is_cut = true;
        }
    }

    /// Whether no call that had ended by this time is among them any more.
    fn are_after(&self, time: SystemTime) -> bool {
        let oldest = self.ids.first().filter(|_| self.ids.len() >= self.most);
        oldest.is_some_and(|oldest| oldest.time() > time + CLOCKS)
    }
}

/// A search under way.
#[derive(Debug)]
pub(super) struct Search {
    query: Query,
    /// Only calls with a smaller id.
    before: Option<InvocationId>,
    needle: memmem::Finder<'static>,
    /// Files that have not been looked at, the oldest first.
    files: Vec<PathBuf>,
    found: Newest,
    /// Lines that were written from then on have been looked at; at the beginning, none.
    looked_from: SystemTime,
}

/// What a search has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The greatest first.
    pub(super) invocations: Vec<InvocationId>,
    /// All with this id or a greater one are there; nothing where all are.
    pub(super) complete_from: Option<InvocationId>,
}

impl Search {
    /// A search in `logs`, the folder of all namespaces, for so many calls.
    pub(super) fn new(logs: &Path, query: Query, before: Option<InvocationId>, most: usize) -> io::Result<Self> {
        // A validated name: it can't lead to another tenant's folder.
        let folder = logs.join(query.scope.namespace.as_str());
        let files = segments::list(&folder)?.into_iter().map(|(_, path)| path).collect();
        let needle = memmem::Finder::new(&written(&query.search)).into_owned();
        let found = Newest { ids: BTreeSet::new(), most: most.max(1), is_cut: false };
        Ok(Self { query, before, needle, files, found, looked_from: SystemTime::now() })
    }

    /// Whether there is something left to look at.
    pub(super) fn has_more(&self) -> bool {
        !self.files.is_empty()
    }

    /// Looks at the newest file that is left.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let Some(path) = self.files.pop() else { return Ok(()) };
        // The writer may have removed it to make room; then it holds nothing.
        let begins = first(&path)?.map(|entry| moment(entry.time()));
        if !self.is_later(begins) {
            self.look_at(&read(&path)?);
        }
        self.looked_from = begins.unwrap_or(self.looked_from);
        if micros(self.looked_from) < self.query.since {
            self.files.clear();
        }
        if self.has_more() && self.found.are_after(self.looked_from) {
            self.files.clear();
            self.found.is_cut = true;
        }
        Ok(())
    }

    /// Whether what begins then can't be of a call that is asked for.
    fn is_later(&self, begins: Option<SystemTime>) -> bool {
        let last = self.before.map(|before| before.time() + LONGEST_CALL);
        begins.zip(last).is_some_and(|(begins, last)| begins > last)
    }

    fn look_at(&mut self, text: &[u8]) {
        for line in containing(text, &self.needle) {
            if let Some(Entry::Line(line)) = Entry::parse(line)
                && self.before.is_none_or(|before| line.invocation < before)
                && self.query.matches(&line)
            {
                self.found.add(line.invocation);
            }
        }
    }

    /// What was found up to here.
    pub(super) fn found(self) -> Found {
        let has_more = self.has_more();
        let cut = self.found.ids.first().copied().filter(|_| self.found.is_cut);
        let unread = has_more.then(|| InvocationId::first_at(self.looked_from + CLOCKS));
        Found { invocations: self.found.ids.into_iter().rev().collect(), complete_from: cut.max(unread) }
    }
}

/// A text as it stands in a file: escaped as JSON, without the quotes.
fn written(text: &str) -> Vec<u8> {
    let quoted = serde_json::to_vec(text).unwrap_or_default();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_vec()
}

/// The lines of a file that have this in them: searching for it is many times faster than understanding every line.
fn containing<'t>(text: &'t [u8], needle: &memmem::Finder<'_>) -> impl Iterator<Item = &'t [u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (before, after) = rest.split_at_checked(needle.find(rest).filter(|_| !rest.is_empty())?)?;
        let begins = memrchr(b'\n', before).map_or(0, |end| end + 1);
        let ends = memchr(b'\n', after).map_or(rest.len(), |end| before.len() + end);
        let line = rest.get(begins..ends)?;
        rest = rest.get(ends + 1..).unwrap_or_default();
        Some(line)
    })
}

#[cfg(test)]
mod tests;
