//! An issuer that can't be asked for its keys: what callers are told, how often it is asked, and what metrics say.

use axum::{body::Body, response::Redirect};
use dunlin_process::metrics::{Format, Page};
use dunlin_proto::ErrorCode;
use futures::stream;

use super::*;

const TEN_MEGABYTES: usize = 10 << 20;

/// A server with everything that can be wrong with a set of keys, and how often it was asked.
struct Wrong {
    address: std::net::SocketAddr,
    fetches: Arc<AtomicUsize>,
    _shutdown: Shutdown,
}

impl Wrong {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::default());
        let fetches = Arc::new(AtomicUsize::new(0));
        let counted = fetches.clone();
        let router = Router::new()
            .route("/hangs", get(std::future::pending::<String>))
            .route("/trickles", get(async || Body::from_stream(stream::pending::<Result<String, std::io::Error>>())))
            .route("/huge", get(async || vec![b' '; TEN_MEGABYTES]))
            .route("/garbage", get(async || "<html>internal-host</html>"))
            .route("/other", get(async || Json(json!({"keys": "none"}))))
            .route("/failing", get(async || StatusCode::INTERNAL_SERVER_ERROR))
            .route("/moved", get(async || Redirect::temporary("/garbage")))
            .route("/.well-known/openid-configuration", get(async || Json(json!({"issuer": "x", "jwks_uri": "x"}))))
            .layer(axum::middleware::map_request(move |request: axum::extract::Request| {
                counted.fetch_add(1, Ordering::SeqCst);
                std::future::ready(request)
            }));
        shutdown.spawn(async move { axum::serve(listener, router).await });
        Self { address, fetches, _shutdown: shutdown }
    }

    /// An issuer with keys at this URL.
    fn config(url: &str) -> OidcConfig {
        OidcConfig {
            issuer: "https://id.example.com".to_owned(),
            audience: "faas".to_owned(),
            jwks_url: Some(url.to_owned()),
            algorithms: vec![OidcAlgorithm::EdDSA],
            allow_private: true,
            ..OidcConfig::default()
        }
    }
}

/// A token of the issuer whose signature nobody could check.
fn token(kid: &str) -> String {
    let encode = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let now = jsonwebtoken::get_current_timestamp();
    let claims = json!({"iss": "https://id.example.com", "aud": "faas", "sub": "zoe", "exp": now + 60});
    format!("{}.{}.AAAA", encode(&json!({"alg": "EdDSA", "kid": kid})), encode(&claims))
}

async fn refusal(config: OidcConfig) -> ApiError {
    let verifier = Verifier::new(RouteTable::default(), &[config]).unwrap();
    verifier.administration(&token("a")).await.unwrap_err()
}

#[tokio::test]
async fn callers_are_told_why_keys_cannot_be_fetched_and_no_more() {
    let wrong = Wrong::start().await;
    let at = |path: &str| Wrong::config(&format!("http://{}{path}", wrong.address));
    let private = |url: &str| OidcConfig { allow_private: false, ..Wrong::config(url) };
    for (config, why) in [
        (Wrong::config("http://127.0.0.1:1/keys"), "can't be reached"),
        (Wrong::config("http://no-such-host.invalid/keys"), "can't be reached"),
        (at("/huge"), "more than 1048576 bytes"),
        (at("/garbage"), "no set of keys"),
        (at("/other"), "no set of keys"),
        (at("/failing"), "an error or a redirect"),
        (at("/moved"), "an error or a redirect"),
        (private("https://127.0.0.1:1/keys"), "private address"),
        (private("https://localhost:1/keys"), "private address"),
        (private("http://id.example.com/keys"), "not one of HTTPS"),
    ] {
        let url = config.jwks_url.clone().unwrap();
        let error = refusal(config).await;
        assert_eq!(error.code, ErrorCode::Unavailable, "{url} {error}");
        assert!(
            error.message.contains("issuer https://id.example.com ") && error.message.contains(why),
            "{url} {error}"
        );
        assert_eq!(error.retry_after, Some(PAUSE), "{url}");
        let told = format!("{} {}", error.message, error.hint.unwrap_or_default());
        assert!(
            !told.contains("127.0.0.1") && !told.contains("localhost") && !told.contains("internal-host"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn an_issuer_that_hangs_is_not_waited_for() {
    let wrong = Wrong::start().await;
    for path in ["/hangs", "/trickles"] {
        let config = Wrong::config(&format!("http://{}{path}", wrong.address));
        let verifier = Verifier::new(RouteTable::default(), &[config]).unwrap();
        let (text, fetches) = (token("a"), wrong.fetches.load(Ordering::SeqCst));
        let asked = async {
            while wrong.fetches.load(Ordering::SeqCst) == fetches {
                tokio::task::yield_now().await;
            }
            // The clock goes on while the answer stays away.
            pass(Duration::from_secs(6)).await;
        };
        let (error, ()) = tokio::join!(verifier.administration(&text), asked);
        let error = error.unwrap_err();
        assert!(error.code == ErrorCode::Unavailable && error.message.contains("in time"), "{path} {error}");
    }
}

#[tokio::test]
async fn t41_callers_cause_no_more_fetches_of_an_issuer_that_fails() {
    let wrong = Wrong::start().await;
    let config = Wrong::config(&format!("http://{}/failing", wrong.address));
    let verifier = Verifier::new(RouteTable::default(), &[config]).unwrap();
    let storm = (0..100).map(|n| {
        let (verifier, text) = (verifier.clone(), token(&format!("k{n}")));
        async move { verifier.administration(&text).await.unwrap_err() }
    });
    let errors = futures::future::join_all(storm).await;
    assert!(errors.iter().all(|error| error.code == ErrorCode::Unavailable && error.retry_after <= Some(PAUSE)));
    assert_eq!(wrong.fetches.load(Ordering::SeqCst), 1);
    let mut page = Page::new(Format::Prometheus);
    verifier.write_metrics(&mut page);
    let text = page.finish();
    let labels = r#"issuer="https://id.example.com",purpose="administration""#;
    assert!(text.contains(&format!("dunlin_gateway_issuer_keys_failing{{{labels}}} 1\n")), "{text}");
    for (result, count) in [("refused", 1), ("ok", 0), ("slow", 0)] {
        let line = format!("dunlin_gateway_issuer_key_fetches_total{{{labels},result=\"{result}\"}} {count}\n");
        assert!(text.contains(&line), "{text}");
    }
}

#[tokio::test]
async fn a_key_that_is_unknown_is_the_tokens_fault_only_where_the_issuer_could_be_asked() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let server = Server::start(json!({"keys": [jwk("a", &pair)]})).await;
    let issuer = Issuer::new(&server.config()).unwrap();
    let found = issuer.key(Some("b")).await;
    assert!(found.key.is_none() && found.failure.is_none(), "it has no such key");
    server.say(None);
    pass(PAUSE).await;
    assert!(issuer.key(Some("b")).await.failure.is_some(), "it may have such a key by now");
    let known = issuer.key(Some("a")).await;
    assert!(known.key.is_some() && known.failure.is_none(), "what is known needs no asking");
    server.say(Some(json!({"keys": [jwk("a", &pair)]})));
    pass(PAUSE).await;
    assert!(issuer.key(Some("b")).await.failure.is_none() && !issuer.is_failing(), "it answers again");
}
