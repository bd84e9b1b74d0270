//! An issuer to sign in at: strict about codes, PKCE and the client's secret, and told by tests what else to answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::{
    Form, Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use dunlin_gateway::{OidcAlgorithm, OidcConfig, SignInConfig};
use dunlin_process::shutdown::Shutdown;
use http::{HeaderMap, StatusCode};
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const CLIENT: &str = "dashboard";
pub(crate) const SECRET: &str = "a-secret:of-32-bytes%,or-so+more&x=y";

/// What a browser was sent with.
pub(crate) type Sent = HashMap<String, String>;

/// What it does otherwise than it should.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// Claims that its ID tokens have instead; null ones they don't have.
    pub(crate) claims: Value,
    /// What its token endpoint answers instead.
    pub(crate) answer: Option<(u16, String)>,
    /// What becomes of a token before it is sent.
    pub(crate) forge: Option<fn(String) -> String>,
    /// Whether it does not look at PKCE.
    pub(crate) no_pkce: bool,
    /// Whether it says that it names itself in its answers.
    pub(crate) names_itself: bool,
    /// What its discovery document has instead.
    pub(crate) metadata: Value,
}

/// The issuer. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    codes: Arc<Mutex<HashMap<String, Sent>>>,
    behaviour: Arc<Mutex<Behaviour>>,
    key: Arc<Ed25519KeyPair>,
    shutdown: Shutdown,
}

impl Issuer {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            codes: Arc::default(),
            behaviour: Arc::new(Mutex::new(behaviour)),
            key: Arc::new(Ed25519KeyPair::generate().unwrap()),
            shutdown: Shutdown::default(),
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(Self::discovery))
            .route("/keys", get(Self::keys))
            .route("/token", post(Self::token))
            .with_state(issuer.clone());
        issuer.shutdown.spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    /// As an operator configures it.
    pub(crate) fn config(&self, secret: Option<std::path::PathBuf>) -> OidcConfig {
        OidcConfig {
            issuer: self.url.clone(),
            audience: "other-tools".into(),
            algorithms: vec![OidcAlgorithm::EdDSA],
            allow_private: true,
            sign_in: Some(SignInConfig {
                name: Some("Example <b>".into()),
                client_id: Some(CLIENT.into()),
                client_secret_file: secret,
                scopes: vec!["groups".into()],
                public_url: None,
            }),
            ..OidcConfig::default()
        }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn behaviour(&self) -> Behaviour {
        self.behaviour.lock().unwrap().clone()
    }

    /// Somebody signs in here: the code that the browser is sent back with, and what it came with.
    pub(crate) fn sign_in(&self, location: &str) -> (String, Sent) {
        let url = Url::parse(location).unwrap();
        assert_eq!(url.as_str().split('?').next().unwrap(), format!("{}/authorize", self.url));
        let sent: Sent = url.query_pairs().into_owned().collect();
        assert_eq!((sent["response_type"].as_str(), sent["client_id"].as_str()), ("code", CLIENT));
        assert_eq!((sent["scope"].as_str(), sent["code_challenge_method"].as_str()), ("openid groups", "S256"));
        let code = format!("code-{}", uuid::Uuid::new_v4());
        self.codes.lock().unwrap().insert(code.clone(), sent.clone());
        (code, sent)
    }

    async fn discovery(State(issuer): State<Self>) -> Json<Value> {
        let (url, behaviour) = (&issuer.url, issuer.behaviour());
        let document = json!({
            "issuer": url, "jwks_uri": format!("{url}/keys"), "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"), "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": behaviour.names_itself,
        });
        Json(changed(document, &behaviour.metadata))
    }

    async fn keys(State(issuer): State<Self>) -> Json<Value> {
        let x = BASE64_URL_SAFE_NO_PAD.encode(issuer.key.public_key().as_ref());
        Json(json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "x": x}]}))
    }

    async fn token(State(issuer): State<Self>, headers: HeaderMap, Form(form): Form<Sent>) -> Response {
        let behaviour = issuer.behaviour();
        if let Some((status, body)) = behaviour.answer {
            return (StatusCode::from_u16(status).unwrap(), body).into_response();
        }
        let refuse = |error| (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response();
        if !is_client(&headers, &form) {
            return refuse("invalid_client");
        }
        let Some(sent) = issuer.codes.lock().unwrap().remove(&form["code"]) else { return refuse("invalid_grant") };
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(form["code_verifier"].as_bytes()));
        let proven = challenge == sent["code_challenge"] || behaviour.no_pkce;
        if !proven || form["redirect_uri"] != sent["redirect_uri"] || form["grant_type"] != "authorization_code" {
            return refuse("invalid_grant");
        }
        let token = issuer.id_token(&sent["nonce"], &behaviour.claims);
        let token = behaviour.forge.map_or(token.clone(), |forge| forge(token));
        Json(json!({"access_token": "opaque", "token_type": "Bearer", "id_token": token})).into_response()
    }

    /// A token of this issuer.
    fn id_token(&self, nonce: &str, changes: &Value) -> String {
        let now = jsonwebtoken::get_current_timestamp();
        let claims = json!({
            "iss": self.url, "aud": CLIENT, "sub": "zoe", "iat": now, "exp": now + 600, "nonce": nonce,
            "dunlin_grants": ["shop:developer"],
        });
        let encode = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let header = encode(&json!({"alg": "EdDSA", "kid": "k", "typ": "JWT"}));
        let signed = format!("{header}.{}", encode(&changed(claims, changes)));
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()).as_ref()))
    }
}

/// A client proves itself by the header alone, or is public and names itself in the form.
fn is_client(headers: &HeaderMap, form: &Sent) -> bool {
    let Some(header) = headers.get("authorization") else {
        return form.get("client_id").is_some_and(|id| id == CLIENT);
    };
    let pair = header.to_str().unwrap().strip_prefix("Basic ").and_then(|pair| BASE64_STANDARD.decode(pair).ok());
    let pair = String::from_utf8(pair.unwrap()).unwrap();
    // Both are encoded as in a form (RFC 6749 2.3.1).
    let sent: Vec<(String, String)> =
        Url::parse(&format!("x:?{}", pair.replacen(':', "=", 1))).unwrap().query_pairs().into_owned().collect();
    sent == [(CLIENT.to_owned(), SECRET.to_owned())] && !form.contains_key("client_secret")
}

fn changed(mut value: Value, changes: &Value) -> Value {
    let members = value.as_object_mut().unwrap();
    for (name, change) in changes.as_object().into_iter().flatten() {
        members.insert(name.clone(), change.clone());
    }
    members.retain(|_, value| !value.is_null());
    value
}
