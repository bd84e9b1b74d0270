//! Artifacts and code that no version needs, from the upload to the last byte; with objects in a folder.

use std::{path::Path, time::Duration};

use dunlin_process::data::DataDir;
use dunlin_proto::ids::Digest;

use super::{Bench, conformance, function, namespace, new_version};
use crate::{
    artifacts::Artifacts,
    garbage::{Freed, Sweep},
    model::{Code, Compiled, Kind, Time},
    store::Store,
};

conformance!(
    what_nothing_needs_goes_in_the_end,
    an_upload_or_a_deploy_begins_its_time_anew,
    what_others_have_stays,
    what_a_broken_upload_or_a_deleted_namespace_left_goes,
    a_deploy_and_a_deletion_at_once_leave_a_whole_artifact_or_none,
    an_upload_of_what_is_being_deleted_is_not_lost,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Place {
    store: Store,
    artifacts: Artifacts,
    freed: Freed,
    folder: tempfile::TempDir,
    _data: DataDir,
}

fn days(days: u32) -> Time {
    Time::now().after(DAY * days)
}

impl Place {
    async fn new(bench: &Bench) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("data")).unwrap();
        let artifacts = Artifacts::open(None, &data).unwrap();
        for name in ["shop", "bank"] {
            bench.store.namespace_create(&namespace(name), None).await.unwrap();
        }
        Self { store: bench.store.clone(), artifacts, freed: Freed::default(), folder, _data: data }
    }

    /// Stores bytes as an upload does.
    async fn put(&self, body: &'static [u8]) -> Digest {
        let digest = Digest::of(body);
        let mut upload = self.artifacts.upload(digest, body.len() as u64).await.unwrap();
        upload.write(&body.into()).await.unwrap();
        upload.finish(&self.artifacts).await.unwrap();
        digest
    }

    async fn upload(&self, tenant: &str, body: &'static [u8]) -> Digest {
        let _held = self.artifacts.hold().await;
        let digest = self.put(body).await;
        self.store.artifact_create(&tenant.parse().unwrap(), &digest, body.len() as u64).await.unwrap();
        digest
    }

    async fn compiled(&self, artifact: Digest, engine: &str) {
        let file = self.folder.path().join("code");
        std::fs::write(&file, b"native").unwrap();
        let key = Digest::of(format!("{artifact} {engine}").as_bytes()).hex();
        let _held = self.artifacts.hold().await;
        self.artifacts.code_put(&key, &file).await.unwrap();
        let code = Code {
            key,
            artifact,
            fingerprint: engine.into(),
            body: Digest::of(b"native"),
            size: 6,
            signature: vec![7],
        };
        self.store.code_put(&Compiled { code, kind: Kind::Http02, imports: vec![] }).await.unwrap();
    }

    async fn deploy(&self, tenant: &str, artifact: Digest) {
        let new = crate::store::NewVersion { artifact, ..new_version(&function(tenant, "till")) };
        self.store.version_create(&new, None).await.unwrap();
    }

    async fn sweep(&self, now: Time) {
        let Self { store, artifacts, freed, .. } = self;
        Sweep { store, artifacts, grace: DAY, now, freed }.run().await.unwrap();
    }

    fn files(&self, folder: &str) -> usize {
        let folder = self.folder.path().join("data/objects").join(folder);
        std::fs::read_dir(&folder).map_or(0, Iterator::count)
    }

    async fn is_whole(&self, digest: Digest) -> bool {
        let copy: &Path = &self.folder.path().join("copy");
        self.artifacts.artifact_copy(&digest, copy).await.is_ok()
    }
}

async fn what_nothing_needs_goes_in_the_end(bench: &Bench) {
    let place = Place::new(bench).await;
    let (one, other) = (place.upload("shop", b"one").await, place.upload("shop", b"other").await);
    for engine in ["old engine", "new engine"] {
        place.compiled(one, engine).await;
        place.compiled(other, engine).await;
    }
    place.deploy("shop", one).await;
    place.sweep(days(0)).await;
    place.sweep(days(5)).await;
    assert_eq!((place.files("artifacts"), place.files("code")), (1, 2), "what a version needs stays, for all engines");
    assert_eq!(place.freed.so_far(), (3, 5 + 6 + 6));
    assert!(place.is_whole(one).await);
    place.store.function_delete(&function("shop", "till"), "").await.unwrap();
    place.sweep(days(5)).await;
    assert_eq!(place.files("artifacts"), 1, "its time begins when nothing needs it any more");
    place.sweep(days(7)).await;
    assert_eq!((place.files("artifacts"), place.files("code")), (0, 0));
    assert_eq!(place.store.artifact_use(&"shop".parse().unwrap(), &one).await.unwrap(), None);
    assert_eq!(place.store.code_fetch(&one, "new engine").await.unwrap(), None);
    // It can be uploaded again.
    place.upload("shop", b"one").await;
    assert!(place.is_whole(one).await);
}

async fn an_upload_or_a_deploy_begins_its_time_anew(bench: &Bench) {
    let place = Place::new(bench).await;
    let one = place.upload("shop", b"one").await;
    place.sweep(days(0)).await;
    assert_eq!(place.store.artifact_use(&"shop".parse().unwrap(), &one).await.unwrap(), Some(3));
    place.sweep(days(2)).await;
    assert!(place.is_whole(one).await, "somebody was about to use it");
    place.deploy("shop", one).await;
    place.sweep(days(4)).await;
    place.sweep(days(8)).await;
    assert!(place.is_whole(one).await);
}

async fn what_others_have_stays(bench: &Bench) {
    let place = Place::new(bench).await;
    let one = place.upload("shop", b"one").await;
    place.compiled(one, "engine").await;
    place.upload("bank", b"one").await;
    place.deploy("bank", one).await;
    for day in [0, 2, 4] {
        place.sweep(days(day)).await;
    }
    assert_eq!(
        place.store.artifact_use(&"shop".parse().unwrap(), &one).await.unwrap(),
        None,
        "it is no longer the shop's"
    );
    assert_eq!((place.is_whole(one).await, place.files("code")), (true, 1));
    // What is lost is forgotten, and what a version is made of is still not thrown away.
    place.store.artifact_forget(&one).await.unwrap();
    place.sweep(days(9)).await;
    assert_eq!((place.is_whole(one).await, place.files("code")), (true, 1));
}

async fn what_a_broken_upload_or_a_deleted_namespace_left_goes(bench: &Bench) {
    let place = Place::new(bench).await;
    let (broken, deleted) = (place.put(b"broken").await, place.upload("bank", b"deleted").await);
    place.store.namespace_delete(&"bank".parse().unwrap()).await.unwrap();
    place.sweep(days(0)).await;
    assert!(place.is_whole(broken).await && place.is_whole(deleted).await, "they may just be arriving");
    std::fs::write(place.folder.path().join("data/objects/artifacts/README"), "not ours").unwrap();
    place.sweep(days(2)).await;
    assert_eq!((place.files("artifacts"), place.freed.so_far()), (1, (2, 13)), "what is not ours stays");
}

async fn a_deploy_and_a_deletion_at_once_leave_a_whole_artifact_or_none(bench: &Bench) {
    let place = Place::new(bench).await;
    for _ in 0..10 {
        let one = place.upload("shop", b"one").await;
        place.sweep(days(0)).await;
        let deploy = async {
            let there = place.store.artifact_use(&"shop".parse().unwrap(), &one).await.unwrap();
            if there.is_some() {
                place.deploy("shop", one).await;
            }
            there.is_some()
        };
        let (deployed, ()) = tokio::join!(deploy, place.sweep(days(2)));
        assert!(!deployed || place.is_whole(one).await, "a version without its artifact");
        if deployed {
            place.store.function_delete(&function("shop", "till"), "").await.unwrap();
        }
    }
}

async fn an_upload_of_what_is_being_deleted_is_not_lost(bench: &Bench) {
    let place = Place::new(bench).await;
    for _ in 0..10 {
        let one = place.upload("shop", b"one").await;
        place.sweep(days(0)).await;
        let upload = async {
            if place.store.artifact_use(&"shop".parse().unwrap(), &one).await.unwrap().is_none() {
                place.upload("shop", b"one").await;
            }
        };
        tokio::join!(upload, place.sweep(days(2)));
        assert!(place.is_whole(one).await, "an upload was lost");
    }
}
