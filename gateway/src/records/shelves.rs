//! Records on disk, in a folder for each namespace and within bounds for each, so that nobody's flood pushes out what others
//! have. Where all are too much together, whoever has most gives up the oldest.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use dunlin_proto::{ids::Namespace, model::Retentions};

use super::{Record, file::Files};
use crate::config::RecordsConfig;

/// Files that stay open.
const OPEN_FILES: usize = 64;

/// The files of all namespaces.
#[derive(Debug)]
pub(super) struct Shelves {
    folder: PathBuf,
    config: RecordsConfig,
    retentions: Retentions,
    namespaces: HashMap<Namespace, Files>,
    /// Where records become text. It is kept: memory that is new each time has to be cleared first.
    text: Vec<u8>,
    /// The last attempt to write failed, and that has been said.
    failing: bool,
}

impl Shelves {
    /// Hands over what the files hold, of each namespace the oldest first.
    pub(super) fn open(
        folder: PathBuf,
        config: &RecordsConfig,
        retentions: Retentions,
        mut found: impl FnMut(Record),
    ) -> anyhow::Result<Self> {
        // What an older gateway left, of all namespaces together. It goes with its age.
        let mut older = Files::open(folder.clone(), config, &mut found)?;
        older.forget_old(config.max_age).context("remove old records")?;
        let mut namespaces = HashMap::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("read folder {}", folder.display()))? {
            let entry = entry?;
            // What is no namespace is not ours.
            let namespace = entry.file_name().to_str().and_then(|name| name.parse::<Namespace>().ok());
            if let Some(namespace) = namespace.filter(|_| entry.path().is_dir()) {
                namespaces.insert(namespace, Files::open(entry.path(), config, &mut found)?);
            }
        }
        let (text, failing) = (Vec::new(), false);
        let mut shelves = Self { folder, config: config.clone(), retentions, namespaces, text, failing };
        shelves.make_room().context("make room for records")?;
        Ok(shelves)
    }

    /// Appends records; a disk that refuses costs records, not invocations. Says how many were lost.
    pub(super) fn append(&mut self, records: &[Arc<Record>]) -> u64 {
        let mut by_namespace = BTreeMap::<_, Vec<&Record>>::new();
        for record in records {
            by_namespace.entry(&record.function.namespace).or_default().push(record);
        }
        let mut lost = 0;
        for (namespace, records) in by_namespace {
            let count = records.len() as u64;
            match self.write(namespace, records) {
                Ok(()) => self.failing = false,
                Err(error) => {
                    lost += count;
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(%error, "records of invocations are being lost");
                    }
                }
            }
        }
        lost
    }

    fn write(&mut self, namespace: &Namespace, records: Vec<&Record>) -> io::Result<()> {
        if self.namespaces.values().filter(|files| files.is_open()).count() >= OPEN_FILES {
            self.namespaces.values_mut().for_each(Files::close);
        }
        if !self.namespaces.contains_key(namespace) {
            // A validated name: it can't lead out of the folder.
            let files = Files::open(self.folder.join(namespace.as_str()), &self.config, |_| {});
            self.namespaces.insert(namespace.clone(), files.map_err(io::Error::other)?);
        }
        let age = self.age(namespace);
        let files = self.namespaces.get_mut(namespace);
        files.map_or(Ok(()), |files| files.append(records, age, &mut self.text))?;
        self.make_room()
    }

    /// How long records of a namespace are kept.
    fn age(&self, namespace: &Namespace) -> Duration {
        self.retentions.get(namespace).age.unwrap_or(self.config.max_age)
    }

    /// Removes what is too old, also of namespaces that nobody calls.
    pub(super) fn forget_old(&mut self) {
        let mut namespaces = std::mem::take(&mut self.namespaces);
        let kept = namespaces.iter_mut().try_for_each(|(namespace, files)| files.forget_old(self.age(namespace)));
        self.namespaces = namespaces;
        if let Err(error) = kept {
            tracing::warn!(%error, "old records of invocations could not be removed");
        }
    }

    fn make_room(&mut self) -> io::Result<()> {
        while self.namespaces.values().map(Files::bytes).sum::<u64>() > self.config.total_bytes {
            let largest = self.namespaces.values_mut().max_by_key(|files| files.bytes());
            if !largest.map_or(Ok(false), Files::remove_oldest)? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dunlin_proto::model::Retention;

    use super::*;
    use crate::records::file::{self, tests::record};

    fn read(folder: &Path, config: &RecordsConfig) -> BTreeMap<String, usize> {
        Shelves::open(folder.to_owned(), config, Retentions::default(), |_| {}).unwrap();
        let namespaces = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let of = |path: std::path::PathBuf| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), file::tests::read(&path, config).len())
        };
        namespaces.filter(|path| path.is_dir()).map(of).collect()
    }

    fn many(namespace: &str, count: usize) -> Vec<Arc<Record>> {
        (0..count).map(|_| Arc::new(record(namespace, "pay"))).collect()
    }

    #[test]
    fn a_flood_pushes_out_nobody_elses_records() {
        let folder = tempfile::tempdir().unwrap();
        let config = RecordsConfig { file_bytes: 2_000, files: 3, ..RecordsConfig::default() };
        let mut shelves = Shelves::open(folder.path().to_owned(), &config, Retentions::default(), |_| {}).unwrap();
        assert_eq!(shelves.append(&many("quiet", 2)), 0);
        for _ in 0..200 {
            assert_eq!(shelves.append(&many("loud", 1)), 0);
        }
        let found = read(folder.path(), &config);
        assert_eq!(found["quiet"], 2);
        assert!((1..40).contains(&found["loud"]), "{found:?}");
    }

    #[test]
    fn the_total_is_kept_by_whoever_has_most() {
        let folder = tempfile::tempdir().unwrap();
        let config = RecordsConfig { file_bytes: 2_000, files: 100, total_bytes: 10_000, ..RecordsConfig::default() };
        let mut shelves = Shelves::open(folder.path().to_owned(), &config, Retentions::default(), |_| {}).unwrap();
        shelves.append(&many("quiet", 2));
        for _ in 0..100 {
            shelves.append(&many("loud", 1));
            shelves.append(&many("louder", 2));
        }
        let found = read(folder.path(), &config);
        assert!(found["quiet"] == 2 && found.contains_key("loud") && found.contains_key("louder"), "{found:?}");
        assert!(shelves.namespaces.values().map(Files::bytes).sum::<u64>() <= 10_000);
    }

    #[test]
    fn a_namespace_keeps_its_records_for_a_time_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (config, retentions) = (RecordsConfig::default(), Retentions::default());
        let open = || Shelves::open(folder.path().to_owned(), &config, retentions.clone(), |_| {}).unwrap();
        let mut shelves = open();
        for namespace in ["brief", "usual", "long"] {
            shelves.append(&many(namespace, 1));
        }
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let two_days_ago = std::time::SystemTime::now() - days(2);
        for namespace in ["brief", "usual", "long"] {
            let file = fs::File::options().append(true).open(folder.path().join(namespace).join("00000001.jsonl"));
            file.unwrap().set_modified(two_days_ago).unwrap();
        }
        let own = |namespace: &str, age| Retention { age: Some(age), log_bytes: None }.of(&namespace.parse().unwrap());
        retentions.replace(&[own("brief", days(1)), own("long", days(30))]);
        shelves.forget_old();
        let there = |namespace: &str| shelves.namespaces[&namespace.parse::<Namespace>().unwrap()].bytes() > 0;
        assert_eq!(["brief", "usual", "long"].map(there), [false, true, true]);
        assert_eq!(shelves.append(&many("brief", 1)), 0, "and goes on");
        assert_eq!(read(folder.path(), &config).keys().collect::<Vec<_>>(), ["brief", "long", "usual"]);
    }

    #[test]
    fn what_an_older_gateway_wrote_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let line = serde_json::to_vec(&record("shop", "pay")).unwrap();
        fs::write(folder.path().join("00000001.jsonl"), line).unwrap();
        let mut found = Vec::new();
        Shelves::open(folder.path().to_owned(), &RecordsConfig::default(), Retentions::default(), |record| {
            found.push(record)
        })
        .unwrap();
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn what_a_disk_refuses_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelves =
            Shelves::open(folder.path().to_owned(), &RecordsConfig::default(), Retentions::default(), |_| {}).unwrap();
        // A file where the namespace's folder would be.
        fs::write(folder.path().join("shop"), "").unwrap();
        let both = [many("shop", 3), many("bank", 1)].concat();
        assert_eq!(shelves.append(&both), 3);
        fs::remove_file(folder.path().join("shop")).unwrap();
        assert_eq!(shelves.append(&both), 0);
    }

    #[test]
    fn records_go_into_a_new_file_where_somebody_removed_the_one_that_is_written() {
        let store = tempfile::tempdir().unwrap();
        let (folder, config) = (store.path().join("records"), RecordsConfig::default());
        fs::create_dir(&folder).unwrap();
        let mut shelves = Shelves::open(folder.clone(), &config, Retentions::default(), |_| {}).unwrap();
        for count in [1, 2, 3] {
            assert_eq!(shelves.append(&many("shop", count)), 0);
            assert_eq!(read(&folder, &config)["shop"], count);
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::write(&folder, "").unwrap();
        assert_eq!(shelves.append(&many("shop", 4)), 4, "what can't be written is counted");
    }
}
