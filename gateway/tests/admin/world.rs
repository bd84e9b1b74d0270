//! A gateway with everything around it: a scheduler, a worker's log and another gateway's records, all simulated here.

mod aliases;
mod audit;
mod data;
mod idempotency;
mod issuer;
mod peers;
mod plans;
mod releases;
mod routes;
mod scheduler;
mod tokens;
mod usage;
mod webhooks;

use std::{net::SocketAddr, os::unix::fs::PermissionsExt, time::Duration};

use dunlin_gateway::{Config, Gateway, OidcConfig};
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::metadata::ClusterSecret;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};

pub(crate) use data::EVIL;
use data::State;
pub(crate) use issuer::{Behaviour, CLIENT, Issuer, SECRET as CLIENT_SECRET};
pub(crate) use peers::{Peers, line};
pub(crate) use scheduler::Scheduler;
pub(crate) use tokens::Tokens;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The world; dropping it ends everything in it.
pub(crate) struct World {
    pub(crate) admin: SocketAddr,
    pub(crate) functions: SocketAddr,
    pub(crate) scheduler: Scheduler,
    pub(crate) peers: Peers,
    pub(crate) tokens: Tokens,
    client: Client,
    shutdown: Shutdown,
    _folder: TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

async fn listen() -> (TcpListenerStream, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (TcpListenerStream::new(listener), address)
}

impl World {
    /// A world with the sample data.
    pub(crate) async fn new() -> Self {
        Self::on(0).await
    }

    /// A world whose administration has a certain port.
    pub(crate) async fn on(port: u16) -> Self {
        Self::with(port, Vec::new()).await
    }

    /// A world whose administration has a certain port, and which trusts these issuers.
    pub(crate) async fn with(port: u16, oidc: Vec<OidcConfig>) -> Self {
        let shutdown = Shutdown::default();
        let secret = ClusterSecret::from_text(SECRET).unwrap();
        let tokens = Tokens::new();
        let peers = Peers::default();
        let (incoming, beside) = listen().await;
        let server = peers.clone().add_to(Server::builder(), &secret);
        let ended = shutdown.clone();
        shutdown.spawn(async move { server.serve_with_incoming_shutdown(incoming, ended.begun()).await.unwrap() });
        let (incoming, idle) = listen().await;
        let server = Peers::idle().add_to(Server::builder(), &secret);
        let ended = shutdown.clone();
        shutdown.spawn(async move { server.serve_with_incoming_shutdown(incoming, ended.begun()).await.unwrap() });
        let scheduler = Scheduler::new(State::sample(beside, idle), tokens.public_key(), beside);
        let (incoming, address) = listen().await;
        let server = scheduler.clone().add_to(Server::builder(), &secret);
        let ended = shutdown.clone();
        shutdown.spawn(async move { server.serve_with_incoming_shutdown(incoming, ended.begun()).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let secret_file = folder.path().join("secret");
        std::fs::write(&secret_file, SECRET).unwrap();
        std::fs::set_permissions(&secret_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = Config {
            functions: "127.0.0.1:0".parse().unwrap(),
            admin: SocketAddr::from(([127, 0, 0, 1], port)),
            peer: "127.0.0.1:0".parse().unwrap(),
            scheduler: format!("http://{address}"),
            data_dir: folder.path().join("gateway"),
            cluster_secret: secret_file,
            // So that admins may have domains, although paths are served.
            shared_hosts: vec!["faas.example.com".parse().unwrap()],
            oidc,
            ..Config::default()
        };
        let gateway = Gateway::bind(config).await.unwrap();
        let addresses = gateway.addresses();
        let ended = shutdown.clone();
        shutdown.spawn(async move { gateway.serve(ended).await.unwrap() });
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        let (admin, functions) = (addresses.admin, addresses.functions);
        let world = Self { admin, functions, scheduler, peers, tokens, client, shutdown, _folder: folder };
        world.ready().await;
        world
    }

    /// Waits until the gateway knows the keys of tokens.
    async fn ready(&self) {
        let token = self.tokens.operator();
        for _ in 0..500 {
            let answer = self.get("/api/v1/identity").bearer_auth(&token).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the gateway did not become ready");
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), self.url(path))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request("GET", path)
    }

    /// What everybody who is there says. Others have a second to answer; a machine that stands still for it looks as if they were
    /// away, but not every time. Those numbered 3 are always away.
    pub(crate) async fn said_by_all(&self, path: &str, token: &str) -> Value {
        let is_there = |name: &Value| name.as_str().is_some_and(|name| !name.ends_with("-3"));
        for _ in 0..5 {
            let answer: Value = self.get(path).bearer_auth(token).send().await.unwrap().json().await.unwrap();
            if !answer["unreachable"].as_array().into_iter().flatten().any(is_there) {
                return answer;
            }
        }
        panic!("{path}: somebody who is there does not answer");
    }

    /// A page, as the browser of somebody who is signed in asks for it.
    pub(crate) async fn page(&self, path: &str, token: &str) -> Response {
        self.get(path).header("cookie", format!("dunlin-session={token}")).send().await.unwrap()
    }

    /// A form, as the browser of somebody who is signed in sends it.
    pub(crate) fn form(&self, path: &str, token: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        self.request("POST", path)
            .header("cookie", format!("dunlin-session={token}"))
            .header("origin", self.url(""))
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"))
    }

    /// A gRPC connection.
    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.url("")).unwrap().connect().await.unwrap()
    }
}
