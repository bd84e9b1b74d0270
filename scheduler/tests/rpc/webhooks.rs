//! Webhooks over the wire, with a receiver that answers as it is told: what arrives there, and what is said of what does not.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use dunlin_proto::{ErrorCode, v1};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::harness::{Cluster, refused};

const NAME: &str = "namespaces/default/webhook";

/// A request that came.
#[derive(Debug, Clone)]
struct Seen {
    head: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Takes what is posted, and answers with what is next, or 204.
struct Receiver {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
    _serving: JoinSet<()>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
        let (seen, answers) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Mutex<VecDeque<&str>>>::default());
        let (all, next) = (seen.clone(), answers.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read(&mut stream).await;
                all.lock().unwrap().push(request);
                let answer = next.lock().unwrap().pop_front().unwrap_or("204 No Content");
                let text = format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        Self { url, seen, answers, _serving: serving }
    }

    fn will_answer(&self, answer: &'static str) {
        self.answers.lock().unwrap().push_back(answer);
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let (first, headers) = head.split_once("\r\n").unwrap();
        let headers = headers.lines().filter_map(|line| line.split_once(": "));
        let headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        if body.len() >= headers["content-length"].parse().unwrap() {
            return Seen { head: first.to_owned(), headers, body: body.to_owned() };
        }
    }
}

async fn cluster() -> Cluster {
    Cluster::start_with(|config| config.webhooks.allow_private = true).await
}

async fn set(cluster: &Cluster, url: &str) -> v1::SetWebhookResponse {
    let request = v1::SetWebhookRequest { name: NAME.into(), url: url.into() };
    cluster.namespaces().set_webhook(request).await.unwrap().into_inner()
}

async fn test(cluster: &Cluster) -> String {
    cluster.namespaces().test_webhook(v1::TestWebhookRequest { name: NAME.into() }).await.unwrap().into_inner().id
}

async fn shown(cluster: &Cluster) -> v1::GetWebhookResponse {
    cluster.namespaces().get_webhook(v1::GetWebhookRequest { name: NAME.into() }).await.unwrap().into_inner()
}

/// What became of an event after so many attempts.
async fn tried(cluster: &Cluster, id: &str, tries: u32) -> v1::WebhookDelivery {
    let of = |shown: v1::GetWebhookResponse| shown.deliveries.into_iter().find(|delivery| delivery.id == id).unwrap();
    cluster.eventually("the event was sent", async |cluster| of(shown(cluster).await).tries >= tries).await;
    of(shown(cluster).await)
}

/// How the specification has it, written down a second time.
fn is_signed(seen: &Seen, secret: &str) -> bool {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let text = format!("{}.{}.{}", seen.headers["webhook-id"], seen.headers["webhook-timestamp"], seen.body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
    let expected = format!("v1,{}", BASE64_STANDARD.encode(tag));
    seen.headers["webhook-signature"].split(' ').any(|signature| signature == expected)
}

#[tokio::test]
async fn an_event_arrives_signed_by_both_secrets_while_one_is_changed() {
    let (cluster, receiver) = (cluster().await, Receiver::start().await);
    let set_up = set(&cluster, &receiver.url).await;
    let id = test(&cluster).await;
    let delivery = tried(&cluster, &id, 1).await;
    assert_eq!((delivery.state(), delivery.status, delivery.next_time), (v1::DeliveryState::Delivered, 204, None));
    let seen = receiver.seen().pop().unwrap();
    assert_eq!(seen.head, "POST /hook?a=b HTTP/1.1");
    assert_eq!(seen.headers["content-type"], "application/cloudevents+json; charset=utf-8");
    assert_eq!(seen.headers["webhook-id"], id);
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!((&body["id"], &body["type"]), (&id.clone().into(), &"dev.dunlin.test".into()));
    assert!(is_signed(&seen, &set_up.secret));
    let rotate = v1::RotateWebhookSecretRequest { name: NAME.into() };
    let rotated = cluster.namespaces().rotate_webhook_secret(rotate).await.unwrap().into_inner();
    tried(&cluster, &test(&cluster).await, 1).await;
    let seen = receiver.seen().pop().unwrap();
    assert!(is_signed(&seen, &set_up.secret) && is_signed(&seen, &rotated.secret));
    assert_eq!(set(&cluster, &receiver.url).await.secret, "", "it keeps its secret");
    let secret = &rotated.secret["whsec_".len()..];
    assert!(!format!("{:?}", shown(&cluster).await).contains(secret));
}

#[tokio::test]
async fn what_is_not_taken_is_shown_and_sent_again_after_a_restart() {
    let (mut cluster, receiver) = (cluster().await, Receiver::start().await);
    set(&cluster, &receiver.url).await;
    for answer in ["500 Internal Server Error", "302 Found\r\nlocation: http://127.0.0.1:1/", "410 Gone"] {
        receiver.will_answer(answer);
    }
    let first = test(&cluster).await;
    let delivery = tried(&cluster, &first, 1).await;
    assert_eq!((delivery.state(), delivery.status), (v1::DeliveryState::Pending, 500));
    assert!(delivery.next_time.is_some() && delivery.error.contains("500"), "{delivery:?}");
    let second = test(&cluster).await;
    let delivery = tried(&cluster, &second, 1).await;
    assert!(delivery.error.contains("redirects are not followed"), "{delivery:?}");
    // The next attempt, of whichever of them, finds the receiver gone.
    cluster.stop().await;
    cluster.restart_stopped().await;
    let gone = async |cluster: &Cluster| shown(cluster).await.webhook.unwrap().gone_time.is_some();
    cluster.eventually("the receiver is gone", gone).await;
    let ids: Vec<_> = receiver.seen().iter().map(|seen| seen.headers["webhook-id"].clone()).collect();
    assert!(ids.len() == 3 && ids[..2] == [first.clone(), second.clone()] && ids[..2].contains(&ids[2]), "{ids:?}");
    let states: Vec<_> = shown(&cluster).await.deliveries.iter().map(v1::WebhookDelivery::state).collect();
    assert_eq!(states, [v1::DeliveryState::GivenUp; 2]);
    let again = v1::TestWebhookRequest { name: NAME.into() };
    refused(cluster.namespaces().test_webhook(again).await, ErrorCode::FailedPrecondition);
}

#[tokio::test]
async fn private_addresses_are_refused_unless_the_operator_allows_them() {
    let cluster = Cluster::start().await;
    let try_set = async |url: &str| {
        let request = v1::SetWebhookRequest { name: NAME.into(), url: url.into() };
        cluster.namespaces().set_webhook(request).await
    };
    for url in ["http://example.com/", "https://127.0.0.1/", "https://a:b@example.com/", "nonsense"] {
        refused(try_set(url).await, ErrorCode::InvalidArgument);
    }
    try_set("https://localhost:1/").await.unwrap();
    let delivery = tried(&cluster, &test(&cluster).await, 1).await;
    assert!(delivery.error.contains("no public address"), "{delivery:?}");
    let none = v1::SetWebhookRequest { name: "namespaces/none/webhook".into(), url: "https://example.com/".into() };
    refused(cluster.namespaces().set_webhook(none).await, ErrorCode::NotFound);
}
