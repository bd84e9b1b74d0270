//! An issuer of its own on a local port: what is fetched, how often, and what becomes of it.

mod unfetched;

use std::sync::{
    Mutex as StdMutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use dunlin_process::shutdown::Shutdown;
use serde_json::{Value, json};

use super::*;
use crate::{
    auth::{Takes, Verifier},
    config::OidcPurpose,
    routes::RouteTable,
};

/// A local issuer that can be told what to answer.
#[derive(Clone)]
struct Server {
    url: String,
    fetches: Arc<AtomicUsize>,
    keys: Arc<StdMutex<Option<Value>>>,
    _shutdown: Shutdown,
}

impl Server {
    async fn start(keys: Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::default();
        let server = Self {
            url,
            fetches: Arc::default(),
            keys: Arc::new(StdMutex::new(Some(keys))),
            _shutdown: shutdown.clone(),
        };
        let router = Router::new()
            .route("/keys", get(Self::answer))
            .route("/.well-known/openid-configuration", get(Self::discover))
            .with_state(server.clone());
        shutdown.spawn(async move { axum::serve(listener, router).await });
        server
    }

    async fn answer(State(server): State<Self>) -> Result<Json<Value>, StatusCode> {
        server.fetches.fetch_add(1, Ordering::SeqCst);
        server.keys.lock().unwrap().clone().map(Json).ok_or(StatusCode::BAD_GATEWAY)
    }

    async fn discover(State(server): State<Self>) -> Json<Value> {
        Json(json!({"issuer": server.url, "jwks_uri": format!("{}/keys", server.url)}))
    }

    fn say(&self, keys: Option<Value>) {
        *self.keys.lock().unwrap() = keys;
    }

    fn config(&self) -> OidcConfig {
        OidcConfig {
            issuer: self.url.clone(),
            audience: "faas".into(),
            algorithms: vec![OidcAlgorithm::EdDSA],
            allow_private: true,
            ..OidcConfig::default()
        }
    }

    fn fetched(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

fn jwk(kid: &str, pair: &Ed25519KeyPair) -> Value {
    let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": x})
}

/// Lets time pass without stopping it for the sockets.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn t41_unknown_keys_cause_one_fetch_in_half_a_minute() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let server = Server::start(json!({"keys": [jwk("a", &pair)]})).await;
    let issuer = Arc::new(Issuer::new(&server.config()).unwrap());
    let storm: Vec<_> = (0..200)
        .map(|n| {
            let issuer = issuer.clone();
            async move { issuer.key(Some(&format!("k{n}"))).await.key.is_none() }
        })
        .collect();
    assert!(futures::future::join_all(storm).await.into_iter().all(|unknown| unknown));
    assert!(issuer.key(Some("a")).await.key.is_some());
    assert_eq!(server.fetched(), 1);
    pass(PAUSE).await;
    assert!(issuer.key(Some("b")).await.key.is_none());
    assert_eq!(server.fetched(), 2);
}

#[tokio::test]
async fn keys_are_kept_when_fetching_fails_and_replaced_when_it_works() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let server = Server::start(json!({"keys": [jwk("a", &pair)]})).await;
    let issuer = Issuer::new(&server.config()).unwrap();
    assert!(issuer.key(Some("a")).await.key.is_some());
    server.say(None);
    pass(FRESH).await;
    assert!(issuer.key(Some("a")).await.key.is_some());
    assert_eq!(server.fetched(), 2);
    server.say(Some(json!({"keys": [jwk("b", &pair)]})));
    pass(PAUSE).await;
    let found = issuer.key(Some("a")).await;
    assert!(found.key.is_none() && found.changed, "a withdrawn key is trusted no longer");
    assert!(issuer.key(Some("b")).await.key.is_some());
}

#[tokio::test]
async fn only_public_keys_for_signatures_count() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let mut encryption = jwk("enc", &pair);
    encryption["use"] = json!("enc");
    let set = json!({"keys": [
        jwk("good", &pair), encryption,
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AAAA"},
        {"kty": "new", "kid": "unknown"},
    ]});
    let found = usable(&serde_json::from_value(set).unwrap());
    let mut ids: Vec<_> = found.keys().flatten().cloned().collect();
    ids.sort();
    assert_eq!(ids, ["good"]);
    assert!(found[&None].fits(OidcAlgorithm::EdDSA) && !found[&None].fits(OidcAlgorithm::RS256));
    let two = json!({"keys": [jwk("a", &pair), jwk("b", &pair)]});
    assert!(!usable(&serde_json::from_value(two).unwrap()).contains_key(&None), "without an id there must be one key");
}

#[tokio::test]
async fn tokens_of_an_issuer_are_good_for_their_purpose() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let server = Server::start(json!({"keys": [jwk("a", &pair)]})).await;
    let calls = OidcConfig {
        purpose: OidcPurpose::Call,
        audience: "calls".into(),
        namespace_claim: Some("tenant".into()),
        namespaces: vec!["open".into()],
        ..server.config()
    };
    let verifier = Verifier::new(RouteTable::default(), &[server.config(), calls]).unwrap();
    let now = jsonwebtoken::get_current_timestamp();
    let sign = |audience: &str, issuer: &str| {
        let claims = json!({
            "iss": issuer, "aud": [audience, "other"], "sub": "zoe", "exp": now + 60, "iat": now,
            "dunlin_grants": ["shop:admin"], "tenant": "shop",
        });
        let encode = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", encode(&json!({"alg": "EdDSA", "kid": "a"})), encode(&claims));
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()).as_ref()))
    };
    let principal = verifier.administration(&sign("faas", &server.url)).await.unwrap();
    assert_eq!(principal.role_in(&"shop".parse().unwrap()), Some(crate::auth::Role::Admin));
    for (audience, issuer) in
        [("calls", server.url.as_str()), ("dunlin-admin", &server.url), ("faas", "dunlin"), ("faas", "https://x")]
    {
        assert!(verifier.administration(&sign(audience, issuer)).await.is_err(), "{audience} {issuer}");
    }
    let call = |token: String, namespace: &'static str| {
        let verifier = verifier.clone();
        async move {
            let headers =
                [(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect();
            verifier
                .caller(&headers, (&namespace.parse().unwrap(), &"pay".parse().unwrap()), &Takes::Function)
                .await
                .is_ok()
        }
    };
    assert!(call(sign("calls", &server.url), "shop").await && call(sign("calls", &server.url), "open").await);
    assert!(!call(sign("calls", &server.url), "bank").await && !call(sign("faas", &server.url), "shop").await);
}

#[tokio::test]
async fn t40_an_issuer_has_the_algorithms_that_the_operator_lists() {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
    };
    let (random, curve) = (SystemRandom::new(), Ed25519KeyPair::generate().unwrap());
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    // An uncompressed point: 4, x, y (SEC 1 2.3.3).
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(x), BASE64_URL_SAFE_NO_PAD.encode(y));
    let point = json!({"kty": "EC", "crv": "P-256", "kid": "p", "x": x, "y": y});
    let server = Server::start(json!({"keys": [point, jwk("e", &curve)]})).await;
    let config = OidcConfig { algorithms: vec![OidcAlgorithm::ES256], ..server.config() };
    let verifier = Verifier::new(RouteTable::default(), &[config]).unwrap();
    let now = jsonwebtoken::get_current_timestamp();
    let claims = json!({"iss": server.url, "aud": "faas", "sub": "zoe", "exp": now + 60});
    let signed = |alg: &str, kid: &str| {
        let encode = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}", encode(&json!({"alg": alg, "kid": kid})), encode(&claims))
    };
    let by_point = |alg: &str, kid: &str| {
        let signed = signed(alg, kid);
        let signature = pair.sign(&random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    };
    assert!(verifier.administration(&by_point("ES256", "p")).await.is_ok());
    for (alg, kid) in [("ES384", "p"), ("RS256", "p"), ("EdDSA", "p"), ("none", "p"), ("ES256", "e"), ("ES256", "x")] {
        assert!(verifier.administration(&by_point(alg, kid)).await.is_err(), "{alg} {kid}");
    }
    let text = signed("EdDSA", "e");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(curve.sign(text.as_bytes()).as_ref());
    let good_elsewhere = format!("{text}.{signature}");
    assert!(
        verifier.administration(&good_elsewhere).await.is_err(),
        "a key of the issuer, but an algorithm not listed"
    );
}

#[tokio::test]
async fn an_issuer_at_a_private_address_is_not_asked_unless_allowed() {
    let server = Server::start(json!({"keys": []})).await;
    let config = OidcConfig { allow_private: false, ..server.config() };
    assert!(Issuer::new(&config).unwrap().key(Some("a")).await.key.is_none());
    assert_eq!(server.fetched(), 0);
}
