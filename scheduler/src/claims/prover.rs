//! The record by which a namespace proves that a domain is its own, and the look for it in the DNS: `_dunlin-challenge.DOMAIN`, a
//! TXT record (RFC 1035 3.3.14) with a text that only this cluster makes, for this namespace and domain. Aliases (CNAME) on the
//! way are followed by the DNS server that is asked.

use std::{fmt, net::SocketAddr, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use dunlin_process::dns;
use dunlin_proto::{ids::DomainName, names::DomainRef};
use hickory_resolver::{
    TokioResolver,
    config::ResolveHosts,
    net::NetError,
    proto::rr::{RData, RecordType},
};

use crate::config::{DomainsConfig, ProofRule};

/// A look takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Records that are looked at.
const MOST: usize = 64;
/// Characters of a wrong record that are repeated.
const SHOWN: usize = 64;

/// Knows the records, and looks for them.
pub(crate) struct Prover {
    rule: ProofRule,
    key: hmac::Key,
    /// Nothing on a machine without DNS servers.
    dns: Option<TokioResolver>,
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prover").field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// Why a look proved nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error: String,
    pub(super) hint: String,
}

impl Failure {
    fn new(error: impl Into<String>, hint: &str) -> Self {
        Self { error: error.into(), hint: hint.to_owned() }
    }

    /// Another namespace was faster.
    pub(super) fn taken() -> Self {
        let error = "the domain, a part of it, or what it is a part of belongs to another namespace";
        Self::new(error, "an operator can take it away from there")
    }
}

impl Prover {
    /// With a key that is the cluster's alone.
    ///
    /// # Errors
    /// The DNS client can't be made.
    pub(crate) fn new(config: &DomainsConfig, key: &[u8]) -> anyhow::Result<Self> {
        Ok(Self { rule: config.proof, key: hmac::Key::new(hmac::HMAC_SHA256, key), dns: client(&config.dns_servers)? })
    }

    /// Whether domains have to be proved.
    pub(crate) fn is_on(&self) -> bool {
        self.rule == ProofRule::Dns
    }

    /// The name of a domain's record.
    pub(crate) fn record_name(domain: &DomainName) -> String {
        format!("_dunlin-challenge.{domain}")
    }

    /// The text of the record by which a namespace proves a domain.
    pub(crate) fn record_text(&self, name: &DomainRef) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, name.to_string().as_bytes()))
    }

    /// Looks for the record.
    pub(super) async fn look(&self, name: &DomainRef) -> Result<(), Failure> {
        let servers = "see domains.dns_servers in the scheduler's configuration";
        let dns = self.dns.as_ref().ok_or_else(|| Failure::new("this machine has no DNS server", servers))?;
        let record = Self::record_name(&name.domain);
        // The final dot keeps the system's search domains out.
        let asked = tokio::time::timeout(PATIENCE, dns.lookup(format!("{record}."), RecordType::TXT)).await;
        let answer = asked
            .map_err(|_| Failure::new(format!("the DNS did not tell the TXT record {record} in time"), servers))?;
        let answer = answer.map_err(|error| unanswered(&record, &error))?;
        let texts = answer.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        });
        judge(&record, texts, &self.record_text(name))
    }
}

fn unanswered(record: &str, error: &NetError) -> Failure {
    if error.is_no_records_found() {
        return Failure::new(
            format!("there is no TXT record {record}"),
            "make it; it may take a while until it is seen",
        );
    }
    Failure::new(
        format!("the DNS does not tell the TXT record {record}: {error}"),
        "see whether the domain's name servers answer",
    )
}

/// Whether the text is among those that were found.
fn judge(record: &str, texts: impl Iterator<Item = Vec<u8>>, wanted: &str) -> Result<(), Failure> {
    let texts: Vec<_> = texts.take(MOST).collect();
    if texts.iter().any(|text| text.trim_ascii() == wanted.as_bytes()) {
        return Ok(());
    }
    let Some(other) = texts.first() else {
        return Err(Failure::new(
            format!("there is no TXT record {record}"),
            "make it; it may take a while until it is seen",
        ));
    };
    let shown: String = String::from_utf8_lossy(other).chars().take(SHOWN).collect();
    let error = format!("the TXT record {record} has another text: {shown:?}");
    Err(Failure::new(
        error,
        "its text must be the one of this namespace; there may be several records beside each other",
    ))
}

/// The client of the configured servers, else of the system's.
fn client(servers: &[SocketAddr]) -> anyhow::Result<Option<TokioResolver>> {
    dns::client(servers, PATIENCE / 2, "domains can only be vouched for", |options| {
        // Who has just made a record wants it to be seen.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
    })
}

#[cfg(test)]
mod tests {
    use tokio::{
        net::{TcpListener, UdpSocket},
        task::JoinSet,
    };

    use super::*;

    fn prover(key: &[u8]) -> Prover {
        let dns_servers = vec!["127.0.0.1:9".parse().unwrap()];
        Prover::new(&DomainsConfig { dns_servers, ..DomainsConfig::default() }, key).unwrap()
    }

    /// A DNS server in this process. It answers a question by UDP after a while, as often as it is asked; by TCP it takes connections
    /// and says nothing.
    struct FakeServer {
        address: SocketAddr,
        _tasks: JoinSet<()>,
    }

    impl FakeServer {
        async fn answering(after: Duration, answer: fn(&[u8]) -> Option<Vec<u8>>) -> Self {
            let (udp, tcp) = sockets().await;
            let address = udp.local_addr().unwrap();
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                let mut question = [0; 512];
                loop {
                    let (length, from) = udp.recv_from(&mut question).await.unwrap();
                    tokio::time::sleep(after).await;
                    if let Some(answer) = answer(&question[..length]) {
                        udp.send_to(&answer, from).await.unwrap();
                    }
                }
            });
            tasks.spawn(async move {
                let mut open = Vec::new();
                while let Ok((connection, _)) = tcp.accept().await {
                    open.push(connection);
                }
            });
            Self { address, _tasks: tasks }
        }
    }

    /// Both on one port, which the system gives to one of them and somebody else may have for the other.
    async fn sockets() -> (UdpSocket, TcpListener) {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                return (udp, tcp);
            }
        }
    }

    /// A question as its own answer, with these flags (RFC 1035 4.1.1).
    fn flagged(question: &[u8], flags: [u8; 2]) -> Vec<u8> {
        [&question[..2], &flags, &question[4..]].concat()
    }

    /// What a look comes to, and how long it takes.
    async fn looked(after: Duration, answer: fn(&[u8]) -> Option<Vec<u8>>) -> (Result<(), Failure>, Duration) {
        let server = FakeServer::answering(after, answer).await;
        let config = DomainsConfig { dns_servers: vec![server.address], ..DomainsConfig::default() };
        let prover = Prover::new(&config, b"key").unwrap();
        let began = tokio::time::Instant::now();
        let found = prover.look(&"namespaces/shop/domains/a.example".parse().unwrap()).await;
        (found, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_late_or_talks_nonsense_is_not_waited_for_long() {
        type Answer = fn(&[u8]) -> Option<Vec<u8>>;
        let late = PATIENCE * 4;
        let cases: [(&str, Duration, Answer); 6] = [
            ("silent", Duration::ZERO, |_| None),
            ("late", late, |question| Some(flagged(question, [0x81, 0x83]))),
            ("garbage", Duration::ZERO, |_| Some(vec![0xff; 300])),
            ("nothing", Duration::ZERO, |_| Some(Vec::new())),
            ("an echo", Duration::ZERO, |question| Some(question.to_vec())),
            ("ask by TCP, which is silent", Duration::ZERO, |question| Some(flagged(question, [0x83, 0x80]))),
        ];
        for (what, after, answer) in cases {
            let (found, took) = looked(after, answer).await;
            let failure = found.expect_err(what);
            assert!(took <= PATIENCE, "{what} took {took:?}");
            assert!(failure.error.contains("_dunlin-challenge.a.example") && failure.error.len() < 300, "{failure:?}");
            assert!(
                !failure.error.contains("there is no TXT record"),
                "{what} proves nothing, neither way: {failure:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_knows_of_no_record_is_believed() {
        let (found, _) = looked(Duration::ZERO, |question| Some(flagged(question, [0x81, 0x83]))).await;
        assert_eq!(found.unwrap_err().error, "there is no TXT record _dunlin-challenge.a.example");
    }

    #[tokio::test]
    async fn a_record_is_of_one_cluster_one_namespace_and_one_domain() {
        let name = |namespace: &str, domain: &str| format!("namespaces/{namespace}/domains/{domain}").parse().unwrap();
        let (one, other) = (prover(b"one"), prover(b"other"));
        let text = one.record_text(&name("shop", "a.example"));
        assert_eq!((text.len(), one.record_text(&name("shop", "a.example"))), (43, text.clone()), "it may stay");
        for different in [
            one.record_text(&name("bank", "a.example")),
            one.record_text(&name("shop", "b.example")),
            other.record_text(&name("shop", "a.example")),
        ] {
            assert_ne!(different, text);
        }
        assert_eq!(Prover::record_name(&"a.example".parse().unwrap()), "_dunlin-challenge.a.example");
    }

    #[test]
    fn the_text_must_be_there_to_the_letter() {
        let judged = |texts: &[&[u8]]| {
            judge("r", texts.iter().map(|text| text.to_vec()), "abc").map_err(|failure| failure.error)
        };
        for good in [&[&b"abc"[..]][..], &[b"x", b"abc"], &[b" abc\n"]] {
            assert_eq!(judged(good), Ok(()));
        }
        for (bad, words) in [
            (&[][..], "there is no TXT record r"),
            (&[&b"ABC"[..]][..], r#"another text: "ABC""#),
            (&[b"abcd"], r#"another text: "abcd""#),
            (&[b"\x1b[2J\xff"], r#"another text: "\u{1b}[2J"#),
        ] {
            let error = judged(bad).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let long = vec![b'x'; 65_000];
        assert!(judged(&[&long]).unwrap_err().len() < 200, "no answer fills the database");
        let many = vec![&b"x"[..]; MOST];
        assert!(judged(&[many, vec![&b"abc"[..]]].concat()).is_err());
    }
}
