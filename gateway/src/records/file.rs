//! Records of one namespace on disk: JSON lines in a few files of bounded size, the oldest of which makes room. A damaged line
//! is skipped.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use tokio::time::Instant;

use super::Record;
use crate::config::RecordsConfig;

/// A file is written for no longer than this part of the time for which records are kept.
const FILES_OF_AN_AGE: u32 = 8;

/// Bytes that are kept of the text of records between two times that some are written.
const TEXT: usize = 1 << 20;

/// The files, and the one that is written.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    file_bytes: u64,
    /// How many are kept.
    kept: usize,
    /// The number of the one that is written.
    number: u64,
    current: Option<File>,
    /// When it was begun.
    begun: Option<Instant>,
    written: u64,
    /// Bytes of each file.
    sizes: BTreeMap<u64, u64>,
}

impl Files {
    /// Hands over what the newest file holds, the oldest first, and begins a new one. What is in the others is found by `archive.rs`:
    /// a start does not wait for it.
    pub(super) fn open(folder: PathBuf, config: &RecordsConfig, mut found: impl FnMut(Record)) -> anyhow::Result<Self> {
        let mut files = Self {
            folder,
            file_bytes: config.file_bytes,
            kept: config.files,
            number: 0,
            current: None,
            begun: None,
            written: 0,
            sizes: BTreeMap::new(),
        };
        for number in numbers(&files.folder).with_context(|| format!("read folder {}", files.folder.display()))? {
            files.sizes.insert(number, fs::metadata(files.path(number))?.len());
        }
        let newest = files.sizes.last_key_value().map(|(newest, _)| *newest);
        if let Some(newest) = newest {
            files.read(newest, &mut found).with_context(|| format!("read {}", files.path(newest).display()))?;
        }
        files.number = newest.unwrap_or_default() + 1;
        Ok(files)
    }

    /// Size of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.sizes.values().sum()
    }

    pub(super) fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Closes the file until there is something to write again.
    pub(super) fn close(&mut self) {
        self.current = None;
    }

    /// Appends records, which are kept for so long, by way of `text`.
    ///
    /// # Errors
    /// The disk refuses. None of them counts as written.
    pub(super) fn append<'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r Record>,
        max_age: Duration,
        text: &mut Vec<u8>,
    ) -> io::Result<()> {
        text.clear();
        for record in records {
            serde_json::to_writer(&mut *text, record)?;
            text.push(b'\n');
        }
        // A file goes as a whole, once its last record is too old: so it must not be written for long.
        if self.begun.is_some_and(|begun| begun.elapsed() >= max_age / FILES_OF_AN_AGE) {
            self.next();
        }
        let written = self.write_where_it_stays(text, max_age);
        text.shrink_to(TEXT);
        if written.is_err() {
            self.current = None;
        }
        written
    }

    /// Writes into a new file where somebody has removed the one that is written: nobody could read it there.
    fn write_where_it_stays(&mut self, text: &[u8], max_age: Duration) -> io::Result<()> {
        self.leave_removed()?;
        self.write(text, max_age)?;
        if self.leave_removed()? {
            self.write(text, max_age)?;
            if self.leave_removed()? {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed while it was written"));
            }
        }
        Ok(())
    }

    /// Leaves a file that somebody has removed; says whether that was so.
    fn leave_removed(&mut self) -> io::Result<bool> {
        let Some(file) = &self.current else { return Ok(false) };
        let removed = file.metadata()?.nlink() == 0;
        if removed {
            self.sizes.remove(&self.number);
            self.next();
        }
        Ok(removed)
    }

    fn write(&mut self, text: &[u8], max_age: Duration) -> io::Result<()> {
        if self.written > 0 && self.written + text.len() as u64 > self.file_bytes {
            self.next();
        }
        let mut file = match self.current.take() {
            Some(file) => file,
            None => self.begin(max_age)?,
        };
        file.write_all(text)?;
        self.written += text.len() as u64;
        self.sizes.insert(self.number, self.written);
        self.current = Some(file);
        Ok(())
    }

    fn next(&mut self) {
        self.number += 1;
        (self.current, self.begun, self.written) = (None, None, 0);
    }

    /// Removes the oldest file; says whether there was one.
    pub(super) fn remove_oldest(&mut self) -> io::Result<bool> {
        let Some((oldest, _)) = self.sizes.pop_first() else { return Ok(false) };
        if oldest == self.number {
            self.next();
        }
        match fs::remove_file(self.path(oldest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    }

    fn begin(&mut self, max_age: Duration) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let others = |files: &Self| files.sizes.keys().filter(|number| **number != files.number).count();
        while others(self) > self.kept.saturating_sub(1) {
            self.remove_oldest()?;
        }
        self.forget_old(max_age)?;
        self.begun.get_or_insert_with(Instant::now);
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.path(self.number))
    }

    /// Removes files that were last written too long ago.
    pub(super) fn forget_old(&mut self, max_age: Duration) -> io::Result<()> {
        for number in numbers(&self.folder)? {
            let path = self.path(number);
            // A clock that was set back makes nothing old.
            if fs::metadata(&path)?.modified()?.elapsed().is_ok_and(|age| age > max_age) {
                fs::remove_file(path)?;
                if number == self.number {
                    self.next();
                }
            }
        }
        let there = numbers(&self.folder)?;
        self.sizes.retain(|number, _| there.contains(number));
        Ok(())
    }

    fn read(&self, number: u64, found: &mut impl FnMut(Record)) -> io::Result<()> {
        let mut lines = BufReader::new(File::open(self.path(number))?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            // The last line of a process that was killed may be half a line.
            if let Ok(record) = serde_json::from_slice(&line) {
                found(record);
            }
            line.clear();
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        path(&self.folder, number)
    }
}

/// The numbers of the files there are, ascending.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The file with a number.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.jsonl"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use dunlin_proto::ids::{InvocationId, VersionNumber};

    use super::*;
    use crate::records::{Came, Receipt};

    pub(crate) fn record(namespace: &str, function: &str) -> Record {
        Record {
            id: InvocationId::new(),
            function: format!("namespaces/{namespace}/functions/{function}").parse().unwrap(),
            version: VersionNumber::FIRST,
            start_time: SystemTime::now(),
            method: "GET".into(),
            path: "/".into(),
            status: 200,
            gateway: "gateway".parse().unwrap(),
            worker: "w".into(),
            outcome: "ok".into(),
            error: String::new(),
            receipt: Receipt { peak_memory_bytes: 7, ..Receipt::default() },
            request_id: String::new(),
            weight: 1,
            hint: String::new(),
            came: Came::default(),
        }
    }

    /// All that is on disk.
    pub(in crate::records) fn read(folder: &Path, config: &RecordsConfig) -> Vec<Record> {
        let (mut found, files) = (Vec::new(), Files::open(folder.to_owned(), config, |_| {}).unwrap());
        numbers(folder).unwrap().into_iter().for_each(|number| files.read(number, &mut |it| found.push(it)).unwrap());
        found
    }

    #[test]
    fn records_are_there_after_a_restart_and_a_torn_line_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let config = RecordsConfig::default();
        let records = [record("shop", "pay"), record("shop", "cart")];
        let mut files = Files::open(folder.path().to_owned(), &config, |_| {}).unwrap();
        files.append(&records, config.max_age, &mut Vec::new()).unwrap();
        let mut file = OpenOptions::new().append(true).open(folder.path().join("00000001.jsonl")).unwrap();
        file.write_all(b"{\"id\":\"01").unwrap();
        assert_eq!(read(folder.path(), &config), records);
        let mut newest = Vec::new();
        Files::open(folder.path().to_owned(), &config, |record| newest.push(record)).unwrap();
        assert_eq!(newest, records);
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let config = RecordsConfig::default();
        let write = |number: u64, days: u64| {
            let file = File::create(folder.path().join(format!("{number:08}.jsonl"))).unwrap();
            serde_json::to_writer(&file, &record("shop", "pay")).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
        };
        for (number, days) in [(1, 8), (2, 6), (3, 0)] {
            write(number, days);
        }
        assert_eq!(read(folder.path(), &config).len(), 3, "who reads them knows how old they may be");
        let mut files = Files::open(folder.path().to_owned(), &config, |_| {}).unwrap();
        files.forget_old(config.max_age).unwrap();
        assert_eq!(read(folder.path(), &config).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_not_written_for_so_long_that_old_records_stay() {
        let folder = tempfile::tempdir().unwrap();
        let age = Duration::from_secs(800);
        let mut files = Files::open(folder.path().to_owned(), &RecordsConfig::default(), |_| {}).unwrap();
        for seconds in [0, 99, 99] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            files.append(&[record("shop", "pay")], age, &mut Vec::new()).unwrap();
        }
        assert_eq!(files.sizes.len(), 2);
    }

    #[test]
    fn a_record_of_an_older_gateway_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let line = br#"{"id":"0198c5b2-7a43-7000-8000-3f1f6d1c1a2b","function":"namespaces/shop/functions/pay","version":1,"start_time":{"secs_since_epoch":1,"nanos_since_epoch":0},"method":"GET","path":"/","status":200,"gateway":"g","worker":"w","outcome":"ok","error":"","receipt":{"queue":{"secs":0,"nanos":1},"start":{"secs":0,"nanos":2},"run":{"secs":0,"nanos":3},"cpu":{"secs":0,"nanos":4},"peak_memory_bytes":5,"bytes_in":6,"bytes_out":7},"request_id":""}"#;
        fs::write(folder.path().join("00000001.jsonl"), line).unwrap();
        let [old] = read(folder.path(), &RecordsConfig::default()).try_into().unwrap();
        assert_eq!((old.receipt.bytes_out, old.came), (7, Came::default()));
    }

    #[test]
    fn files_are_bounded_in_size_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let config = RecordsConfig { file_bytes: 1_000, files: 3, ..RecordsConfig::default() };
        let mut files = Files::open(folder.path().to_owned(), &config, |_| {}).unwrap();
        for _ in 0..100 {
            files.append(&[record("shop", "pay")], config.max_age, &mut Vec::new()).unwrap();
        }
        let sizes: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        assert!(sizes.len() == 3 && sizes.iter().all(|size| *size <= 1_000), "{sizes:?}");
        assert_eq!(files.bytes(), sizes.iter().sum::<u64>());
        assert!(!read(folder.path(), &config).is_empty());
        while files.remove_oldest().unwrap() {}
        assert_eq!((files.bytes(), fs::read_dir(folder.path()).unwrap().count()), (0, 0));
        files.append(&[record("shop", "pay")], config.max_age, &mut Vec::new()).unwrap();
        assert_eq!(read(folder.path(), &config).len(), 1);
    }
}
