//! Who may call, and that what proved it goes no further.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use dunlin_gateway::{OidcAlgorithm, OidcConfig, OidcPurpose};
use serde_json::json;

use crate::harness::{Answer, Cluster, KEYS, PRIVATE, Plan, key, send};

async fn call(cluster: &Cluster, headers: &[(&str, &str)]) -> Answer {
    send(cluster.functions(), "GET", &format!("/shop/{PRIVATE}/"), headers, "").await
}

#[tokio::test]
async fn a_private_function_wants_a_credential_of_its_namespace() {
    let cluster = Cluster::start().await;
    let bearer = |token: &str| format!("Bearer {token}");
    let good = bearer(&cluster.token("dunlin:shop"));
    let (admin, foreign) = (bearer(&cluster.token("dunlin-admin")), bearer(&cluster.token("dunlin:bank")));
    let [all, other, bank] = KEYS.map(key);
    let (as_bearer, tampered) = (bearer(&all), format!("{}x", &all[..all.len() - 1]));
    let none = format!("{}.", good.rsplit_once('.').unwrap().0);
    for (headers, status) in [
        (vec![("authorization", good.as_str())], 200),
        (vec![("authorization", &as_bearer)], 200),
        (vec![("x-api-key", &all)], 200),
        (vec![], 401),
        (vec![("authorization", "Basic eDp5")], 401),
        (vec![("authorization", &admin)], 401),
        (vec![("authorization", &none)], 401),
        (vec![("x-api-key", &tampered)], 401),
        (vec![("authorization", &good), ("authorization", &good)], 401),
        (vec![("authorization", &foreign)], 403),
        (vec![("x-api-key", &other)], 403),
        (vec![("x-api-key", &bank)], 403),
    ] {
        let answer = call(&cluster, &headers).await;
        assert_eq!(answer.status, status, "{headers:?} {answer:?}");
        match status {
            401 => {
                assert_eq!(answer.code(), "unauthenticated");
                assert!(answer.header("www-authenticate").starts_with("Bearer"));
            }
            403 => assert_eq!(answer.code(), "permission_denied"),
            _ => assert!(
                !answer.text().contains("authorization") && !answer.text().contains("x-api-key"),
                "{}",
                answer.text()
            ),
        }
    }
}

#[tokio::test]
async fn no_credential_of_the_platform_reaches_a_private_function() {
    let cluster = Cluster::start().await;
    let (key, token) = (key(KEYS[0]), format!("Bearer {}", cluster.token("dunlin:shop")));
    let answer = call(&cluster, &[("x-api-key", &key), ("authorization", &token)]).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("dk_") && !answer.text().contains("Bearer"), "{}", answer.text());
    // What is not ours passes.
    let answer = call(&cluster, &[("x-api-key", &key), ("authorization", "Basic eDp5"), ("cookie", "a=b")]).await;
    assert!(answer.text().contains("Basic eDp5") && answer.text().contains("a=b"));
}

#[tokio::test]
async fn a_public_function_gets_authorization_untouched_and_unread() {
    let cluster = Cluster::start().await;
    for value in ["Bearer not.a.token", "Basic eDp5", "dk_x"] {
        let answer = cluster.call("GET", "/", &[("authorization", value), ("x-api-key", "mine")], "").await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(value) && answer.text().contains("mine"), "{}", answer.text());
    }
}

#[tokio::test]
async fn tokens_for_calls_do_not_administer() {
    let cluster = Cluster::start().await;
    let get = async |audience: &str| {
        let authorization = format!("Bearer {}", cluster.token(audience));
        send(cluster.addresses.admin, "GET", "/api/v1/identity", &[("authorization", &authorization)], "").await.status
    };
    assert_eq!(get("dunlin:shop").await, 401);
    assert_ne!(get("dunlin-admin").await, 401);
}

/// An issuer whose keys nobody can fetch.
fn unreachable_issuer() -> OidcConfig {
    OidcConfig {
        issuer: "https://id.example.com".into(),
        audience: "faas".into(),
        purpose: OidcPurpose::Call,
        jwks_url: Some("http://127.0.0.1:1/keys".into()),
        algorithms: vec![OidcAlgorithm::ES256],
        namespaces: vec!["shop".into()],
        allow_private: true,
        ..OidcConfig::default()
    }
}

#[tokio::test]
async fn a_token_whose_issuer_cannot_be_asked_is_not_the_callers_fault() {
    let plan = Plan { configure: |config| config.oidc = vec![unreachable_issuer()], ..Plan::default() };
    let cluster = Cluster::with(plan).await;
    let encode = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let token = |issuer: &str| {
        let (header, claims) = (encode(json!({"alg": "ES256", "kid": "a"})), encode(json!({"iss": issuer})));
        format!("Bearer {header}.{claims}.AAAA")
    };
    let answer = call(&cluster, &[("authorization", &token("https://id.example.com"))]).await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable".into()), "{answer:?}");
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&after), "{answer:?}");
    let told = answer.text();
    assert!(told.contains("https://id.example.com can't be fetched now: it can't be reached"), "{told}");
    assert!(!told.contains("127.0.0.1"), "{told}");
    let answer = call(&cluster, &[("authorization", &token("https://other.example.com"))]).await;
    assert_eq!(answer.status, 401, "whom nobody trusts is not asked");
}
