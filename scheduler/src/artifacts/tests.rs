//! Uploads in any order of mistakes, and objects that were damaged behind our back.

use std::fs;

use super::*;

struct Place {
    folder: tempfile::TempDir,
    artifacts: Artifacts,
    _data: DataDir,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(&folder.path().join("data")).unwrap();
    Place { artifacts: Artifacts::open(None, &data).unwrap(), folder, _data: data }
}

impl Place {
    fn files(&self, folder: &str) -> usize {
        fs::read_dir(self.folder.path().join("data").join(folder)).map_or(0, Iterator::count)
    }

    async fn upload(&self, digest: Digest, size: u64, chunks: &[&[u8]]) -> Result<(), ApiError> {
        let mut upload = self.artifacts.upload(digest, size).await.map_err(Error::into_api)?;
        for chunk in chunks {
            upload.write(&Bytes::copy_from_slice(chunk)).await.map_err(Error::into_api)?;
        }
        upload.finish(&self.artifacts).await.map_err(Error::into_api)
    }
}

#[tokio::test]
async fn an_upload_is_stored_whole_and_read_back() {
    let place = place();
    let digest = Digest::of(b"hello");
    place.upload(digest, 5, &[b"he", b"", b"llo"]).await.unwrap();
    let copy = place.folder.path().join("copy");
    place.artifacts.artifact_copy(&digest, &copy).await.unwrap();
    assert_eq!(fs::read(copy).unwrap(), b"hello");
    assert_eq!(place.files("unfinished"), 0);
}

#[tokio::test]
async fn a_large_upload_goes_in_parts() {
    let place = place();
    let body: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = Digest::of(&body);
    let chunks: Vec<_> = body.chunks(MAX_CHUNK_BYTES).collect();
    place.upload(digest, body.len() as u64, &chunks).await.unwrap();
    let copy = place.folder.path().join("copy");
    place.artifacts.artifact_copy(&digest, &copy).await.unwrap();
    assert_eq!(fs::read(copy).unwrap(), body);
}

#[tokio::test]
async fn what_is_not_as_announced_is_refused_and_leaves_nothing() {
    let place = place();
    let digest = Digest::of(b"hello");
    for (size, chunks, says) in [
        (5, vec![&b"hellx"[..]], "digest"),
        (5, vec![b"hell"], "after 4 of 5"),
        (5, vec![b"hello", b"!"], "more than the 5 bytes"),
        (0, vec![], "empty"),
        (100_000_000, vec![], "64 MiB"),
        (300_000, vec![&[0; 262_145][..]], "a chunk has 262145 bytes"),
    ] {
        let error = place.upload(digest, size, &chunks).await.unwrap_err();
        assert!(error.message.contains(says), "{error}");
        assert_eq!((place.files("unfinished"), place.files("objects/artifacts")), (0, 0), "{says}");
    }
    let error = place.upload(digest, 100_000_000, &[]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::PayloadTooLarge);
}

#[tokio::test]
async fn t23_damaged_missing_and_grown_code_is_not_served() {
    let place = place();
    let file = place.folder.path().join("body");
    fs::write(&file, b"native").unwrap();
    let code = Code {
        key: "k".repeat(64),
        artifact: Digest::of(b"wasm"),
        fingerprint: "engine".into(),
        body: Digest::of(b"native"),
        size: 6,
        signature: vec![],
    };
    assert!(!place.artifacts.code_is_there(&code).await.unwrap());
    place.artifacts.code_put(&code.key, &file).await.unwrap();
    assert!(place.artifacts.code_is_there(&code).await.unwrap());
    let mut body = Vec::new();
    place.artifacts.code_open(&code).await.unwrap().read_to_end(&mut body).await.unwrap();
    assert_eq!(body, b"native");
    let stored = place.folder.path().join("data/objects/code").join(&code.key);
    for damage in [&b"nativE"[..], b"nativ", b"native+", b""] {
        fs::write(&stored, damage).unwrap();
        assert!(matches!(place.artifacts.code_open(&code).await, Err(Error::Lost(_))));
    }
    fs::remove_file(&stored).unwrap();
    assert!(matches!(place.artifacts.code_open(&code).await, Err(Error::Lost(_))));
}

#[tokio::test]
async fn a_start_removes_what_an_earlier_run_left_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(folder.path()).unwrap();
    let unfinished = data.folder("unfinished").unwrap();
    fs::write(unfinished.join("half"), b"x").unwrap();
    fs::create_dir(unfinished.join("work")).unwrap();
    Artifacts::open(None, &data).unwrap();
    assert_eq!(fs::read_dir(unfinished).unwrap().count(), 0);
    assert!(Artifacts::open(Some("gs://bucket"), &data).unwrap_err().to_string().contains("s3://"));
}
