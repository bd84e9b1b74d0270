//! What a worker remembers over a restart, so that it serves from its cache while the scheduler is away: the keys that seal
//! code, and the last assignment. Both are written whole, or not at all.

use std::{
    io,
    path::{Path, PathBuf},
};

use dunlin_process::data::write_private;
use dunlin_proto::internal::v1::{Assignment, WorkerWelcome};
use prost::Message;

/// The two files.
#[derive(Debug, Clone)]
pub(crate) struct Remembered {
    welcome: PathBuf,
    assignment: PathBuf,
}

impl Remembered {
    /// In a data folder.
    pub(crate) fn new(data: &Path) -> Self {
        Self { welcome: data.join("welcome.binpb"), assignment: data.join("assignment.binpb") }
    }

    /// The scheduler's last welcome.
    pub(crate) fn welcome(&self) -> Option<WorkerWelcome> {
        read(&self.welcome)
    }

    /// The last assignment.
    pub(crate) fn assignment(&self) -> Option<Assignment> {
        read(&self.assignment)
    }

    /// Keeps a welcome.
    pub(crate) async fn keep_welcome(&self, welcome: &WorkerWelcome) {
        write(&self.welcome, welcome.encode_to_vec()).await;
    }

    /// Keeps an assignment.
    pub(crate) async fn keep_assignment(&self, assignment: &Assignment) {
        write(&self.assignment, assignment.encode_to_vec()).await;
    }
}

/// Nothing where there is nothing that can be read: the scheduler will say it again.
fn read<M: Message + Default>(path: &Path) -> Option<M> {
    let message = std::fs::read(path).and_then(|bytes| M::decode(&bytes[..]).map_err(io::Error::other));
    match message {
        Ok(message) => Some(message),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "forgetting what can't be read");
            None
        }
    }
}

async fn write(path: &Path, bytes: Vec<u8>) {
    let file = path.to_owned();
    let written = tokio::task::spawn_blocking(move || write_private(&file, &bytes)).await;
    if let Err(error) = written.map_err(io::Error::other).flatten() {
        // It works on without; only a restart would know less.
        tracing::error!(path = %path.display(), error = &error as &dyn std::error::Error, "could not remember");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_kept_is_there_and_damage_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let remembered = Remembered::new(folder.path());
        assert_eq!(remembered.assignment(), None);
        let assignment = Assignment { drain: true, ..Assignment::default() };
        remembered.keep_assignment(&assignment).await;
        assert_eq!(Remembered::new(folder.path()).assignment(), Some(assignment));
        std::fs::write(&remembered.assignment, [0xff; 9]).unwrap();
        assert_eq!(remembered.assignment(), None);
    }
}
