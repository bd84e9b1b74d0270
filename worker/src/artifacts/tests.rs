use std::{
    os::unix::fs::{PermissionsExt, symlink},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use dunlin_proto::{
    internal::v1::{
        FetchCodeRequest, FetchCodeResponse,
        artifact_service_server::{ArtifactService, ArtifactServiceServer},
    },
    metadata::ClusterSecret,
    trust::Trust,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use super::*;

const ENGINE: &str = "engine-1";

/// A scheduler that gives whatever it was told to, and counts.
#[derive(Default)]
struct Store {
    bodies: Mutex<HashMap<String, Vec<u8>>>,
    fetches: AtomicUsize,
}

#[derive(Clone, Default)]
struct StoreService(Arc<Store>);

#[tonic::async_trait]
impl ArtifactService for StoreService {
    type FetchCodeStream = ReceiverStream<Result<FetchCodeResponse, Status>>;

    async fn fetch_code(&self, request: Request<FetchCodeRequest>) -> Result<Response<Self::FetchCodeStream>, Status> {
        self.0.fetches.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let body = self.0.bodies.lock().unwrap().get(&request.into_inner().key).cloned();
        let body = body.ok_or_else(|| Status::not_found("no such code"))?;
        let (sender, receiver) = tokio::sync::mpsc::channel(1 + body.len() / 1000);
        for chunk in body.chunks(1000) {
            sender.try_send(Ok(FetchCodeResponse { chunk: Bytes::copy_from_slice(chunk) })).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn version() -> VersionKey {
    let function = uuid::Uuid::from_u128(1).to_string().parse().unwrap();
    VersionKey { function, number: 1.try_into().unwrap() }
}

fn peers(secret: &ClusterSecret) -> Peers {
    Peers::new(&"w1".parse().unwrap(), Trust::Secret(secret.clone()))
}

struct Fixture {
    store: Arc<Store>,
    key: Ed25519KeyPair,
    folder: tempfile::TempDir,
    artifacts: Artifacts,
    _server: JoinSet<()>,
}

async fn fixture() -> Fixture {
    let secret = ClusterSecret::from_text(&"s".repeat(32)).unwrap();
    let store = StoreService::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = InterceptedService::new(ArtifactServiceServer::new(store.clone()), secret.require());
    let mut server = JoinSet::new();
    server.spawn(async move {
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let client = ArtifactServiceClient::with_interceptor(channel, secret.attach());
    let folder = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(folder.path().to_owned(), 10_000, ENGINE, client, peers(&secret)).unwrap();
    let key = Ed25519KeyPair::generate().unwrap();
    artifacts.set_keys(vec![key.public_key().as_ref().to_vec()]);
    Fixture { store: store.0, key, folder, artifacts, _server: server }
}

impl Fixture {
    /// Code that the scheduler has, sealed.
    fn code(&self, name: &str, body: &[u8]) -> CompiledCode {
        let artifact = Digest::of(name.as_bytes());
        let key = seal::code_key(&artifact, ENGINE);
        self.store.bodies.lock().unwrap().insert(key.clone(), body.to_vec());
        let code = CompiledCode {
            key,
            artifact: artifact.hex(),
            fingerprint: ENGINE.to_owned(),
            body_sha256: Digest::of(body).hex(),
            size_bytes: body.len() as u64,
            signature: Bytes::new(),
        };
        seal::sign(code, &self.key)
    }

    fn path(&self, code: &CompiledCode) -> PathBuf {
        self.folder.path().join(&code.key)
    }

    fn fetches(&self) -> usize {
        self.store.fetches.load(Ordering::SeqCst)
    }

    /// A process that starts anew on the same folder.
    fn restarted(self) -> Self {
        let Self { store, key, folder, artifacts, _server } = self;
        let secret = ClusterSecret::from_text(&"s".repeat(32)).unwrap();
        let Artifacts { client, .. } = artifacts;
        let artifacts = Artifacts::open(folder.path().to_owned(), 10_000, ENGINE, client, peers(&secret)).unwrap();
        artifacts.set_keys(vec![key.public_key().as_ref().to_vec()]);
        Self { store, key, folder, artifacts, _server }
    }
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn code_is_fetched_once_however_many_ask() {
    let fixture = fixture().await;
    let body = vec![7; 5500];
    let code = fixture.code("a", &body);
    let version = version();
    let asked = (0..20).map(|_| fixture.artifacts.obtain(&version, &code));
    for path in futures::future::join_all(asked).await {
        assert_eq!(fs::read(path.unwrap()).unwrap(), body);
    }
    assert_eq!(fixture.fetches(), 1);
    assert_eq!(fs::metadata(fixture.path(&code)).unwrap().permissions().mode() & 0o777, 0o400);
    let fixture = fixture.restarted();
    fixture.artifacts.obtain(&version, &code).await.unwrap();
    assert_eq!(fixture.fetches(), 1, "a restarted worker uses what it has");
}

#[tokio::test]
async fn t23_a_changed_byte_anywhere_is_noticed_and_fetched_again() {
    let fixture = fixture().await;
    let body: Vec<u8> = (0..4096).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let code = fixture.code("a", &body);
    let path = fixture.artifacts.obtain(&version(), &code).await.unwrap();
    let random = (0..900).map(|_| rand::random_range(100..body.len()));
    for (round, position) in (0..100).chain(random).enumerate() {
        let mut damaged = body.clone();
        damaged[position] ^= 1 << (round % 8);
        overwrite(&path, &damaged);
        assert_eq!(
            fs::read(fixture.artifacts.obtain(&version(), &code).await.unwrap()).unwrap(),
            body,
            "byte {position}"
        );
        assert_eq!(fixture.fetches(), round + 2);
    }
}

#[tokio::test]
async fn t23_a_file_that_is_not_the_one_is_never_used() {
    let fixture = fixture().await;
    let (body, other) = (vec![1; 3000], vec![2; 3000]);
    let (code, foreign) = (fixture.code("a", &body), fixture.code("b", &other));
    let path = fixture.artifacts.obtain(&version(), &code).await.unwrap();
    let foreign_path = fixture.artifacts.obtain(&version(), &foreign).await.unwrap();
    let outside = fixture.folder.path().with_extension("outside");
    fs::write(&outside, &body).unwrap();
    type Change<'a> = &'a dyn Fn();
    let changes: [(&str, Change<'_>); 8] = [
        ("truncated", &|| overwrite(&path, &body[..2999])),
        ("longer", &|| overwrite(&path, &[1; 3001])),
        ("empty", &|| overwrite(&path, b"")),
        ("another tenant's", &|| fs::rename(&foreign_path, &path).unwrap()),
        ("a link to the very same bytes", &|| {
            fs::remove_file(&path).unwrap();
            symlink(&outside, &path).unwrap();
        }),
        ("a folder", &|| {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }),
        ("writable by others", &|| fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap()),
        ("gone", &|| fs::remove_file(&path).unwrap()),
    ];
    for (name, change) in changes {
        let before = fixture.fetches();
        change();
        fixture.artifacts.obtain(&version(), &code).await.unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{name}");
        assert_eq!((fs::read(&path).unwrap(), fixture.fetches()), (body.clone(), before + 1), "{name}");
    }
    assert_eq!(fs::read(&outside).unwrap(), body, "what a link points to is not touched");
    fs::remove_file(outside).unwrap();
    assert_eq!(fs::read(fixture.artifacts.obtain(&version(), &foreign).await.unwrap()).unwrap(), other);
}

#[tokio::test]
async fn t23_two_swapped_files_are_both_fetched_again() {
    let fixture = fixture().await;
    let (one, two) = (fixture.code("a", &[1; 3000]), fixture.code("b", &[2; 3000]));
    let (one_path, two_path) = (
        fixture.artifacts.obtain(&version(), &one).await.unwrap(),
        fixture.artifacts.obtain(&version(), &two).await.unwrap(),
    );
    let aside = fixture.folder.path().join("aside");
    fs::rename(&one_path, &aside).unwrap();
    fs::rename(&two_path, &one_path).unwrap();
    fs::rename(&aside, &two_path).unwrap();
    assert_eq!(fs::read(fixture.artifacts.obtain(&version(), &one).await.unwrap()).unwrap(), [1; 3000]);
    assert_eq!(fs::read(fixture.artifacts.obtain(&version(), &two).await.unwrap()).unwrap(), [2; 3000]);
    assert_eq!(fixture.fetches(), 4);
}

#[tokio::test]
async fn t23_code_of_another_engine_or_signer_is_refused_unread() {
    let fixture = fixture().await;
    let good = fixture.code("a", b"native");
    let stranger = Ed25519KeyPair::generate().unwrap();
    let artifact: Digest = good.artifact.parse().unwrap();
    let elsewhere =
        CompiledCode { fingerprint: "engine-2".into(), key: seal::code_key(&artifact, "engine-2"), ..good.clone() };
    let error = fixture.artifacts.obtain(&version(), &seal::sign(elsewhere, &fixture.key)).await.unwrap_err();
    assert!(matches!(&error, ArtifactError::Fingerprint { theirs, .. } if theirs == "engine-2"), "{error}");
    for (name, code) in [
        ("stranger", seal::sign(good.clone(), &stranger)),
        ("unsigned", CompiledCode { signature: Bytes::new(), ..good.clone() }),
        ("other body", CompiledCode { body_sha256: Digest::of(b"x").hex(), ..good.clone() }),
        ("other key", seal::sign(CompiledCode { key: "../../etc/passwd".into(), ..good.clone() }, &fixture.key)),
        ("too large", seal::sign(CompiledCode { size_bytes: 2 << 30, ..good.clone() }, &fixture.key)),
    ] {
        assert!(fixture.artifacts.obtain(&version(), &code).await.is_err(), "{name}");
    }
    assert_eq!(fixture.fetches(), 0);
    assert_eq!(fs::read_dir(fixture.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn t23_wrong_bytes_from_the_store_leave_nothing_behind() {
    let fixture = fixture().await;
    let code = fixture.code("a", &[1; 3000]);
    for wrong in [vec![1; 2999], vec![1; 3001], vec![2; 3000], Vec::new(), vec![1; 100_000]] {
        fixture.store.bodies.lock().unwrap().insert(code.key.clone(), wrong);
        assert!(matches!(
            fixture.artifacts.obtain(&version(), &code).await,
            Err(ArtifactError::Seal(seal::SealError::Body))
        ));
    }
    fixture.store.bodies.lock().unwrap().clear();
    assert!(matches!(fixture.artifacts.obtain(&version(), &code).await, Err(ArtifactError::Fetch(_))));
    assert_eq!(fs::read_dir(fixture.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_not_used_for_longest_goes_but_nothing_assigned() {
    let fixture = fixture().await;
    let codes: Vec<_> = ["a", "b", "c", "d"].map(|name| fixture.code(name, &[0; 4000])).into();
    for code in &codes {
        fixture.artifacts.obtain(&version(), code).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let assigned = HashSet::from([codes[0].key.clone()]);
    fixture.artifacts.evict(&assigned).unwrap();
    let left: Vec<bool> = codes.iter().map(|code| fixture.path(code).exists()).collect();
    assert_eq!(left, [true, false, false, true], "10,000 bytes hold two of them");
    let all = codes.iter().map(|code| code.key.clone()).collect();
    fixture.artifacts.obtain(&version(), &codes[1]).await.unwrap();
    fixture.artifacts.evict(&all).unwrap();
    assert!(fixture.path(&codes[1]).exists());
}

#[tokio::test]
async fn what_can_be_no_code_is_cleared_at_the_start() {
    let fixture = fixture().await;
    fs::write(fixture.folder.path().join(".fetch-abc"), b"half").unwrap();
    symlink("/etc/passwd", fixture.folder.path().join("notes.txt")).unwrap();
    let fixture = fixture.restarted();
    assert_eq!(fs::read_dir(fixture.folder.path()).unwrap().count(), 0);
    assert!(Path::new("/etc/passwd").exists());
}
