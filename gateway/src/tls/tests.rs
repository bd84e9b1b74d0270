//! Which files are good, which certificate is shown, and what becomes of files that change.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use dunlin_proto::internal::v1::{AcmeChallenge, AcmeChallengeKind, Certificates as Told, DomainCertificate};
use rcgen::{CertificateParams, KeyPair};
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::{
    watch::{Look, Watcher},
    *,
};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        path
    }

    /// A certificate that nobody but its own key has signed.
    fn pair(&self, name: &str, hosts: &[&str]) -> CertificateConfig {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let certificate = CertificateParams::new(hosts).unwrap().self_signed(&key).unwrap();
        CertificateConfig {
            certificate: self.write(&format!("{name}.pem"), &certificate.pem()),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
            passphrase: None,
        }
    }
}

fn opened(files: &[CertificateConfig]) -> Result<Option<Tls>, TlsError> {
    Tls::open(&TlsConfig { certificates: files.to_vec(), ..TlsConfig::default() }, Issued::default())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn without_certificates_there_is_no_tls() {
    assert!(opened(&[]).unwrap().is_none());
}

#[test]
fn t34_what_is_wrong_with_a_file_is_said_with_its_name() {
    let folder = Folder::new();
    let (a, b, nameless) = (folder.pair("a", &["a.example"]), folder.pair("b", &["b.example"]), folder.pair("n", &[]));
    let nothing = folder.write("nothing", "no PEM at all");
    let damaged = folder.write("damaged", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let open = folder.write("open", &fs::read_to_string(&a.key).unwrap());
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let missing = folder.0.path().join("missing");
    for (certificate, key, words) in [
        (&a.certificate, &b.key, ["is not that of the certificate in", &shown(&a.certificate)]),
        (&missing, &a.key, ["cannot read", &shown(&missing)]),
        (&a.certificate, &missing, ["cannot read", &shown(&missing)]),
        (&nothing, &a.key, ["no certificate that can be read", &shown(&nothing)]),
        (&damaged, &a.key, ["no certificate that can be read", &shown(&damaged)]),
        (&a.certificate, &nothing, ["no private key that can be used", &shown(&nothing)]),
        (&a.certificate, &a.certificate, ["no private key that can be used", &shown(&a.certificate)]),
        (&a.certificate, &open, ["chmod o=", &shown(&open)]),
        (&nameless.certificate, &nameless.key, ["names no host", &shown(&nameless.certificate)]),
    ] {
        let bad = CertificateConfig { certificate: certificate.clone(), key: key.clone(), passphrase: None };
        let error = opened(&[b.clone(), bad]).unwrap_err().to_string();
        assert!(words.iter().all(|words| error.contains(words)), "{error}");
    }
}

#[test]
fn people_are_told_of_the_certificates_of_files() {
    let folder = Folder::new();
    let tls = opened(&[folder.pair("a", &["a.example"]), folder.pair("b", &["b.example", "*.fn.example"])]);
    let tls = tls.unwrap().unwrap();
    let all = tls.of_files(|_| true);
    let names: Vec<_> = all.iter().map(|told| told.names.join(" ")).collect();
    assert_eq!(names, ["a.example", "b.example *.fn.example"]);
    let told = all.first().unwrap();
    assert!(told.issuer.contains("self signed") && told.start < told.expire, "{told:?}");
    assert_eq!(tls.of_files(|names| names.serve("fn.example")).as_slice(), &all[1..]);
    for (name, expected) in [("a.example", all.first()), ("x.fn.example", all.get(1)), ("c.example", None)] {
        assert_eq!(tls.of_file(name).as_ref(), expected, "{name}");
    }
}

#[test]
fn t34_a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let folder = Folder::new();
    let files = [
        folder.pair("first", &["first.example"]),
        folder.pair("wild", &["*.example", "fn.example"]),
        folder.pair("exact", &["a.example"]),
        folder.pair("again", &["a.example"]),
    ];
    let tls = opened(&files).unwrap().unwrap();
    let current = tls.0.current.load();
    let index = |asked: Option<&str>| {
        let found = current.certificates.choose(asked).unwrap().names();
        let names = |file: &CertificateConfig| {
            let alone = opened(std::slice::from_ref(file)).unwrap().unwrap();
            alone.0.current.load().certificates.choose(None).unwrap().names()
        };
        files.iter().position(|file| names(file) == found)
    };
    for (asked, expected) in [
        (Some("a.example"), 2),
        (Some("b.example"), 1),
        (Some("fn.example"), 1),
        (Some("first.example"), 0),
        (Some("example"), 0),
        (Some("x.a.example"), 0),
        (None, 0),
    ] {
        assert_eq!(index(asked), Some(expected), "{asked:?}");
    }
}

#[test]
fn t34_a_connection_is_for_what_was_asked_and_what_was_shown() {
    let folder = Folder::new();
    let tls = opened(&[folder.pair("a", &["a.example", "*.fn.example", "192.0.2.7"])]).unwrap().unwrap();
    let names = tls.0.current.load().certificates.choose(None).unwrap().names();
    for (asked, host, expected) in [
        (Some("a.example"), "a.example", true),
        (Some("a.example"), "x.fn.example", true),
        (Some("a.example"), "192.0.2.7", true),
        (Some("a.example"), "b.example", false),
        (Some("a.example"), "192.0.2.8", false),
        // The certificate is not its own, which it has seen.
        (Some("b.example"), "b.example", true),
        (Some("b.example"), "c.example", false),
        (None, "c.example", true),
    ] {
        let session = Session { asked: asked.map(str::to_owned), names: names.clone() };
        assert_eq!(session.is_for(host), expected, "{asked:?} {host}");
    }
}

#[test]
fn files_that_change_replace_what_is_shown_and_broken_ones_do_not() {
    let folder = Folder::new();
    let files = folder.pair("a", &["a.example"]);
    let tls = opened(std::slice::from_ref(&files)).unwrap().unwrap();
    let has = |name: &str| tls.0.current.load().certificates.choose(None).unwrap().names().has(name);
    let mut watcher = Watcher::new(tls.clone());
    assert_eq!(watcher.look(), Look::Unchanged);
    // One file of two: the other belongs to the old one.
    let next = folder.pair("b", &["b.example"]);
    fs::copy(&next.certificate, &files.certificate).unwrap();
    assert_eq!((watcher.look(), watcher.look()), (Look::Refused, Look::Unchanged), "told once");
    assert!(has("a.example"));
    fs::copy(&next.key, &files.key).unwrap();
    assert_eq!((watcher.look(), watcher.look()), (Look::Replaced, Look::Unchanged));
    assert!(has("b.example"));
    fs::remove_file(&files.key).unwrap();
    assert_eq!((watcher.look(), watcher.look()), (Look::Refused, Look::Unchanged), "told once");
    fs::copy(&next.key, &files.key).unwrap();
    assert_eq!(watcher.look(), Look::Replaced);
    assert!(has("b.example"));
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_now_and_then() {
    let folder = Folder::new();
    let files = folder.pair("a", &["a.example"]);
    let tls = opened(std::slice::from_ref(&files)).unwrap().unwrap();
    let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
    let shutdown = dunlin_process::shutdown::Shutdown::default();
    let interval = std::time::Duration::from_secs(10);
    shutdown.spawn(tls.clone().watch(signal, interval, shutdown.clone()));
    let next = folder.pair("b", &["b.example"]);
    fs::copy(&next.certificate, &files.certificate).unwrap();
    fs::copy(&next.key, &files.key).unwrap();
    let has = |name: &str| tls.0.current.load().certificates.choose(None).unwrap().names().has(name);
    assert!(has("a.example"));
    let begun = tokio::time::Instant::now();
    while !has("b.example") {
        assert!(begun.elapsed() < interval * 3, "nobody looked");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    shutdown.begin();
    assert!(shutdown.finish(interval).await);
}

/// The first flight of a client that asks for a name.
fn hello(name: Option<&str>, protocol: Option<&[u8]>) -> Vec<u8> {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
    let name = name.unwrap_or("192.0.2.7").to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut flight = Vec::new();
    client.write_tls(&mut flight).unwrap();
    flight
}

#[tokio::test]
async fn without_files_who_asks_for_a_name_without_certificate_is_told_so() {
    let issued = Issued::default();
    let key = KeyPair::generate().unwrap();
    let chain = CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let certificate = DomainCertificate { domain: "a.example".into(), chain, key: key.serialize_der().into() };
    let challenge = AcmeChallenge {
        domain: "b.example".into(),
        kind: AcmeChallengeKind::TlsAlpn01.into(),
        token: "token".into(),
        key_authorization: "token.thumb".into(),
    };
    let tls = Tls::open(&TlsConfig { acme: true, ..TlsConfig::default() }, issued.clone()).unwrap().unwrap();
    assert_eq!(tls.name(), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // The type and the body of the first record of the answer.
    let asked = async |name: Option<&str>, protocol: Option<&[u8]>| {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(&hello(name, protocol)).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let answer = async {
            let mut head = [0; 5];
            client.read_exact(&mut head).await.unwrap();
            let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
            client.read_exact(&mut body).await.unwrap();
            drop(client);
            (head[0], body)
        };
        let (accepted, answer) = tokio::join!(tls.accept(server), answer);
        assert!(accepted.is_err(), "nobody goes on");
        answer
    };
    let (alert, unrecognized) = (21, vec![2, 112]);
    assert_eq!(asked(Some("a.example"), None).await, (alert, unrecognized.clone()), "nothing is there yet");
    issued.apply(&Told {
        whole: true,
        certificates: vec![certificate],
        challenges: vec![challenge],
        ..Told::default()
    });
    for (name, protocol) in [
        (Some("c.example"), None),
        (Some("b.example"), None),
        (None, None),
        (Some("c.example"), Some(ACME)),
        (Some("a.example"), Some(ACME)),
    ] {
        assert_eq!(asked(name, protocol).await, (alert, unrecognized.clone()), "{name:?} {protocol:?}");
    }
    // A handshake begins with a record of type 22.
    assert_eq!(asked(Some("a.example"), None).await.0, 22);
    assert_eq!(asked(Some("b.example"), Some(ACME)).await.0, 22);
}
