//! Reports that have not been answered, in a file: a gateway that is killed while the scheduler is away has its next process send them.
//! The file is there only while something waits. Which reports these are is `outbox`'s business, when they are written `report`'s.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use dunlin_process::data::write_private;
use dunlin_proto::internal::v1::{KeptUsage, ReportUsageRequest};
use prost::Message;
use tokio::task::JoinHandle;

use crate::checked;

/// Lines of all reports in the file. What comes beyond that is in memory alone.
const MOST_LINES: usize = 100_000;
/// Bytes of a file that are read: a line takes some 200 of them.
const MOST_BYTES: u64 = 64 << 20;

/// The file.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    /// What is being done to it. A caller that stops waiting stops nothing, so that the next one waits first.
    doing: Option<JoinHandle<std::io::Result<()>>>,
    /// It may be there.
    there: bool,
    /// The last change of it failed, which has been said.
    failing: bool,
}

impl Kept {
    /// Reads the file. A damaged one is set aside, since nobody else has what it held.
    pub(super) fn open(path: PathBuf) -> (Self, Vec<ReportUsageRequest>) {
        let reports = read(&path).unwrap_or_else(|error| {
            set_aside(&path, &error);
            Vec::new()
        });
        (Self { there: !reports.is_empty(), path, doing: None, failing: false }, reports)
    }

    /// Whether the file may be there.
    pub(super) fn is_there(&self) -> bool {
        self.there
    }

    /// Has the file hold these reports; says whether it does.
    pub(super) async fn write(&mut self, reports: Vec<ReportUsageRequest>) -> bool {
        let (path, reports) = (self.path.clone(), bounded(reports));
        self.there = true;
        self.change(move || {
            let kept = KeptUsage { reports };
            let bytes = checked::wrapped(|bytes| {
                // A vector takes everything.
                let _ = kept.encode(bytes);
            });
            write_private(&path, &bytes)
        })
        .await
    }

    /// Removes the file; there is nothing to keep.
    pub(super) async fn remove(&mut self) {
        let path = self.path.clone();
        let removed = move || match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        self.there = !self.change(removed).await;
    }

    async fn change(&mut self, how: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> bool {
        self.done().await;
        self.doing = Some(tokio::task::spawn_blocking(how));
        self.done().await
    }

    /// Waits for what is being done; says whether it was.
    async fn done(&mut self) -> bool {
        let Some(doing) = &mut self.doing else { return true };
        let done = doing.await;
        self.doing = None;
        let error = match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            // Only a shutdown of the runtime ends it.
            Err(error) => Some(std::io::Error::other(error)),
        };
        let said = std::mem::replace(&mut self.failing, error.is_some());
        if let (Some(error), false) = (&error, said) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "usage that can't be reported can't be kept on disk either; it is in memory alone");
        }
        error.is_none()
    }
}

/// As many reports, from the first on, as the file may have lines.
fn bounded(mut reports: Vec<ReportUsageRequest>) -> Vec<ReportUsageRequest> {
    let mut lines = 0;
    let fits = |report: &ReportUsageRequest| {
        lines += report.deltas.len();
        lines <= MOST_LINES
    };
    let fitting = reports.iter().map(fits).take_while(|fits| *fits).count();
    reports.truncate(fitting);
    reports
}

fn read(path: &Path) -> std::io::Result<Vec<ReportUsageRequest>> {
    let found = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    if !found.is_file() || found.len() > MOST_BYTES {
        return Err(std::io::Error::other("it is no file of a gateway's"));
    }
    let bytes = std::fs::read(path)?;
    let damaged = || std::io::Error::other("it is damaged");
    let kept = checked::unwrapped(&bytes).and_then(|body| KeptUsage::decode(body).ok()).ok_or_else(damaged)?;
    Ok(kept.reports)
}

fn set_aside(path: &Path, error: &std::io::Error) {
    let aside = path.with_extension("damaged");
    let moved = std::fs::rename(path, &aside);
    let (path, aside) = (path.display(), aside.display());
    match moved {
        Ok(()) => tracing::warn!(%error, %path, %aside, "set aside a file of unreported usage; it is not counted"),
        Err(and) => tracing::warn!(%error, %and, %path, "ignored a file of unreported usage; it is not counted"),
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::internal::v1::UsageDelta;

    use super::*;

    fn report(sequence: u64, lines: usize) -> ReportUsageRequest {
        let deltas = vec![UsageDelta { invocations: 3, ..UsageDelta::default() }; lines];
        ReportUsageRequest { gateway: "g".into(), boot: 7, sequence, deltas }
    }

    #[tokio::test]
    async fn reports_are_there_again_until_they_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.unsent");
        let (mut kept, none) = Kept::open(path.clone());
        assert!(none.is_empty() && !kept.is_there());
        assert!(kept.write(vec![report(1, 1)]).await);
        assert!(kept.write(vec![report(1, 1), report(2, 2)]).await && kept.is_there());
        let (mut kept, found) = Kept::open(path.clone());
        assert_eq!((found, kept.is_there()), (vec![report(1, 1), report(2, 2)], true));
        kept.remove().await;
        assert!(!kept.is_there() && !path.exists());
        kept.remove().await;
    }

    #[tokio::test]
    async fn a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.unsent");
        let (mut kept, _) = Kept::open(path.clone());
        assert!(kept.write(vec![report(1, 1)]).await);
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for damaged in [&changed[..], &whole[..whole.len() - 1], &whole[..20], &[]] {
            std::fs::write(&path, damaged).unwrap();
            let (mut kept, found) = Kept::open(path.clone());
            assert!(found.is_empty() && !path.exists());
            assert_eq!(std::fs::read(path.with_extension("damaged")).unwrap(), damaged);
            assert!(kept.write(vec![report(1, 1)]).await, "it goes on");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::remove_file(path.with_extension("damaged")).unwrap();
        assert!(Kept::open(path).1.is_empty());
    }

    #[tokio::test]
    async fn a_disk_that_refuses_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("usage.unsent");
        let (mut kept, _) = Kept::open(path.clone());
        assert!(!kept.write(vec![report(1, 1)]).await && !kept.write(vec![report(1, 1)]).await);
        std::fs::create_dir(folder.path().join("missing")).unwrap();
        assert!(kept.write(vec![report(1, 1)]).await);
        assert_eq!(Kept::open(path).1.len(), 1);
    }

    #[test]
    fn the_first_reports_are_kept_where_there_are_too_many() {
        let reports = |count: u64| (1..=count).map(|sequence| report(sequence, 1_000)).collect::<Vec<_>>();
        for (given, expected) in [(0, 0), (100, 100), (101, 100), (150, 100)] {
            assert_eq!(bounded(reports(given)), reports(expected), "{given}");
        }
    }
}
