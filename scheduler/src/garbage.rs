//! Which artifacts and which compiled code are deleted: those that no version is made of, some time after the last one was, or after
//! they were uploaded. Both are decided by pure functions; `Sweep` does it.
//!
//! An upload comes before the version that is made of it, and a deploy may take long: whoever uploads an artifact, or begins to
//! deploy it, starts its time anew. Objects that nobody knows (an upload or a deletion that was broken off, a deleted namespace) go by
//! the time when they were written.

use std::time::Duration;

use dunlin_process::metrics::{Page, count::Counters};

use crate::{
    artifacts::{Artifacts, Object},
    error::Error,
    model::Time,
    store::Store,
};

/// What becomes of an artifact of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays as it is.
    Keep,
    /// It is used again.
    Used,
    /// From now on, nobody uses it.
    Unused,
    /// It goes.
    Gone,
}

/// What becomes of an artifact of which versions are made or not, and of which it was noticed some time ago that none are.
pub(crate) fn fate(is_used: bool, unused_since: Option<Time>, now: Time, grace: Duration) -> Fate {
    match (is_used, unused_since) {
        (true, None) => Fate::Keep,
        (true, Some(_)) => Fate::Used,
        (false, None) => Fate::Unused,
        (false, Some(since)) if since.after(grace) < now => Fate::Gone,
        (false, Some(_)) => Fate::Keep,
    }
}

/// Whether an object goes that was written at this time.
pub(crate) fn is_garbage(is_known: bool, written: Time, now: Time, grace: Duration) -> bool {
    !is_known && written.after(grace) < now
}

/// What has been deleted.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    /// Objects, then bytes.
    counts: Counters<2>,
}

impl Freed {
    /// Objects and bytes so far.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.counts.get(0), self.counts.get(1))
    }

    fn add(&self, object: &Object) {
        self.counts.add(0, 1);
        self.counts.add(1, object.size);
    }

    /// Tells Prometheus.
    pub(crate) fn write(&self, page: &mut Page) {
        let (objects, bytes) = self.so_far();
        let help = "Artifacts and pieces of compiled code that were deleted because no version needed them.";
        page.counter("dunlin_scheduler_artifacts_deleted_total", help, objects);
        let help = "Bytes of these.";
        page.counter("dunlin_scheduler_artifacts_deleted_bytes_total", help, bytes);
    }
}

/// One look at everything.
#[derive(Debug)]
pub(crate) struct Sweep<'a> {
    pub(crate) store: &'a Store,
    pub(crate) artifacts: &'a Artifacts,
    /// For how long what nobody uses is kept.
    pub(crate) grace: Duration,
    pub(crate) now: Time,
    pub(crate) freed: &'a Freed,
}

impl Sweep<'_> {
    /// Deletes what no version has needed for long enough: first what the database says of it, then the bytes.
    pub(crate) async fn run(&self) -> Result<(), Error> {
        self.store.artifacts_collect(self.grace, self.now).await?;
        // Listed first: what is written later is not in the list, and what is in it may have become known meanwhile.
        let objects = self.artifacts.list().await?;
        let known = self.store.objects_known().await?;
        for object in objects {
            if is_garbage(known.contains(&object.what), object.written, self.now, self.grace) {
                self.delete(&object).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, object: &Object) -> Result<(), Error> {
        // Nobody writes an object and then makes it known, as long as this is held.
        let _alone = self.artifacts.alone().await;
        if !self.store.object_is_known(&object.what).await? && self.artifacts.delete_unchanged(object).await? {
            self.freed.add(object);
            tracing::info!(object = %object.key, bytes = object.size, "an object that nothing needs has been deleted");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
