//! Searches the records on disk for those that memory has no more: the newest file first, and no further than what is asked for.
//! Who writes these files is `file.rs`; nothing is kept open or in memory between two questions.

use std::{
    cmp::Reverse,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use dunlin_proto::{ids::InvocationId, names::Scope};
use memchr::{memchr, memmem, memrchr};
use tokio::sync::Semaphore;

use super::{Record, Wanted, file};

/// Questions that read at the same time: more of them would take the disk from those who write.
const READERS: usize = 2;

/// The records on disk.
#[derive(Debug)]
pub(super) struct Archive {
    folder: PathBuf,
    turns: Arc<Semaphore>,
}

/// What somebody looks for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) scope: Scope,
    pub(super) wanted: Wanted,
    /// Only those before this id.
    pub(super) before: Option<InvocationId>,
    /// The most.
    pub(super) limit: usize,
}

impl Archive {
    /// The records in a folder with a folder for each namespace.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, turns: Arc::new(Semaphore::new(READERS)) }
    }

    /// The newest first. What can't be read is left out.
    pub(super) async fn list(&self, query: Query) -> Vec<Arc<Record>> {
        let Ok(turn) = self.turns.clone().acquire_owned().await else { return Vec::new() };
        let folder = self.folder.join(query.scope.namespace.as_str());
        let found = tokio::task::spawn_blocking(move || {
            let found = search(&folder, &query);
            drop(turn);
            found
        });
        found.await.unwrap_or_default()
    }
}

/// Searches the files of a namespace.
fn search(folder: &Path, query: &Query) -> Vec<Arc<Record>> {
    // One room for all files: a new one for each would be made of new pages, which takes longer than reading.
    let (mut found, mut text) = (Vec::new(), Vec::new());
    for number in file::numbers(folder).unwrap_or_default().into_iter().rev() {
        let path = file::path(folder, number);
        // It may have made room meanwhile.
        let Ok(written) = fs::metadata(&path).and_then(|known| known.modified()) else { continue };
        if query.wanted.ends_before(written) || is_full(&found, query.limit, written) {
            break;
        }
        found.extend(read(&path, &mut text, query));
        found.sort_unstable_by_key(|record: &Arc<Record>| Reverse(record.id));
        found.truncate(query.limit);
    }
    found
}

/// Whether there are enough, and nothing that was written by then can be newer: a record is written after its call has ended.
fn is_full(found: &[Arc<Record>], limit: usize, written: SystemTime) -> bool {
    found.len() >= limit && found.last().is_some_and(|last| last.start_time > written)
}

fn read(path: &Path, text: &mut Vec<u8>, query: &Query) -> Vec<Arc<Record>> {
    text.clear();
    if File::open(path).and_then(|mut file| file.read_to_end(text)).is_err() {
        return Vec::new();
    }
    let record = |line: &[u8]| serde_json::from_slice::<Record>(line).ok();
    let wanted = |record: &Record| query.wanted.lists(record, &query.scope, query.before);
    lines(text, query.needle().as_deref()).filter_map(record).filter(wanted).map(Arc::new).collect()
}

impl Query {
    /// What stands in each line that is looked for: searching for it is many times faster than understanding every line.
    fn needle(&self) -> Option<String> {
        if let Some(id) = self.wanted.id {
            return Some(id.to_string());
        }
        let function = self.scope.function.clone()?;
        let name = dunlin_proto::names::FunctionRef { namespace: self.scope.namespace.clone(), function };
        // As it is written: names have nothing in them that JSON would escape.
        Some(format!("\"{name}\""))
    }
}

/// The lines of a text that have `needle` in them, or all of them.
fn lines<'t>(text: &'t [u8], needle: Option<&str>) -> impl Iterator<Item = &'t [u8]> {
    let finder = needle.map(|needle| memmem::Finder::new(needle.as_bytes()).into_owned());
    let mut rest = text;
    std::iter::from_fn(move || {
        let hit = finder.as_ref().map_or(Some(0), |finder| finder.find(rest)).filter(|_| !rest.is_empty())?;
        let (before, after) = rest.split_at_checked(hit)?;
        let begins = memrchr(b'\n', before).map_or(0, |end| end + 1);
        let ends = memchr(b'\n', after).map_or(rest.len(), |end| hit + end);
        let line = rest.get(begins..ends)?;
        rest = rest.get(ends + 1..).unwrap_or_default();
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dunlin_proto::model::Retentions;

    use super::*;
    use crate::{
        config::RecordsConfig,
        records::{
            file::{Files, tests::record},
            shelves::Shelves,
        },
    };

    #[test]
    fn lines_are_found_by_what_is_in_them() {
        let text = b"one a\ntwo b\nthree a\nfour a";
        let found =
            |needle| lines(text, needle).map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>();
        assert_eq!(found(Some("a")), ["one a", "three a", "four a"]);
        assert_eq!(found(Some("b")), ["two b"]);
        assert!(found(Some("c")).is_empty());
        assert_eq!(found(None).len(), 4);
        assert!(lines(b"", None).next().is_none() && lines(b"", Some("a")).next().is_none());
    }

    fn query(scope: &str, limit: usize) -> Query {
        Query { scope: scope.parse().unwrap(), wanted: Wanted::default(), before: None, limit }
    }

    #[tokio::test]
    async fn what_is_on_disk_is_found_the_newest_first_and_page_by_page() {
        let folder = tempfile::tempdir().unwrap();
        let config = RecordsConfig { file_bytes: 4_000, files: 100, ..RecordsConfig::default() };
        let mut shelves = Shelves::open(folder.path().to_owned(), &config, Retentions::default(), |_| {}).unwrap();
        let functions = ["pay", "cart", "pay", "pay"].into_iter().cycle();
        let all: Vec<_> = functions.take(100).map(|function| Arc::new(record("shop", function))).collect();
        all.chunks(3).for_each(|some| assert_eq!(shelves.append(some), 0));
        let archive = Archive::new(folder.path().to_owned());
        let newest = |function: &str| {
            let of = all.iter().rev().filter(|record| record.function.function.as_str() == function);
            of.map(|record| record.id).collect::<Vec<_>>()
        };
        let ids = |found: Vec<Arc<Record>>| found.iter().map(|record| record.id).collect::<Vec<_>>();
        let cart = newest("cart");
        assert_eq!(ids(archive.list(query("namespaces/shop/functions/cart", 1_000)).await), cart);
        let first = ids(archive.list(query("namespaces/shop/functions/cart", 7)).await);
        let next = Query { before: first.last().copied(), ..query("namespaces/shop/functions/cart", 7) };
        let next = ids(archive.list(next).await);
        assert_eq!([first, next].concat(), cart[..14]);
        assert_eq!(archive.list(query("namespaces/shop", 1_000)).await.len(), 100);
        assert!(archive.list(query("namespaces/bank", 9)).await.is_empty());
        let one = Wanted { id: Some(all[5].id), request_id: all[5].id.to_string(), ..Wanted::default() };
        assert_eq!(ids(archive.list(Query { wanted: one, ..query("namespaces/shop", 9) }).await), [all[5].id]);
        let failed = Wanted { failed_only: true, ..Wanted::default() };
        assert!(archive.list(Query { wanted: failed, ..query("namespaces/shop", 9) }).await.is_empty());
        let old = SystemTime::now() + Duration::from_secs(60);
        let later = Wanted { since: Some(old), ..Wanted::default() };
        assert!(archive.list(Query { wanted: later, ..query("namespaces/shop", 9) }).await.is_empty());
    }

    #[tokio::test]
    async fn a_long_call_that_began_early_is_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let config = RecordsConfig { file_bytes: 1, files: 100, ..RecordsConfig::default() };
        let mut files = Files::open(folder.path().join("shop"), &config, |_| {}).unwrap();
        let records: Vec<_> = (0..4).map(|_| record("shop", "pay")).collect();
        // The newer of two ended first.
        for place in [0, 2, 1, 3] {
            files.append([&records[place]], config.max_age, &mut Vec::new()).unwrap();
        }
        let found = Archive::new(folder.path().to_owned()).list(query("namespaces/shop/functions/pay", 2)).await;
        assert_eq!([found[0].id, found[1].id], [records[3].id, records[2].id]);
    }
}
