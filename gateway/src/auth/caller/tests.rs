//! Tokens and keys as callers and attackers send them; tokens are put together by hand here.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::{
    auth::{
        Role, Verifier,
        key::tests::{key_text, known},
    },
    routes::{Keys, RouteTable, Table},
};

struct Cluster {
    pair: Ed25519KeyPair,
    verifier: Verifier,
    table: RouteTable,
    key: String,
    now: SystemTime,
}

fn encode(json: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json.to_string())
}

impl Cluster {
    fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let table = RouteTable::default();
        let key = key_text("abcdefghijkl", 's');
        let verifier = Verifier::new(table.clone(), &[]).unwrap();
        let cluster = Self { pair, verifier, table, key, now: SystemTime::now() };
        cluster.trust(&[("kid-1", cluster.pair.public_key().as_ref())], &[]);
        cluster
    }

    fn trust(&self, token_keys: &[(&str, &[u8])], functions: &[&str]) {
        let by_id = [("abcdefghijkl".to_owned(), Arc::new(known(&self.key, functions)))].into_iter().collect();
        let mut table = Table { version: 1, keys: Keys { by_id, ..Keys::default() }, ..Table::default() };
        table.token_keys = token_keys.iter().map(|(id, key)| ((*id).to_owned(), key.to_vec())).collect();
        self.table.replace(table);
    }

    fn claims(&self, audience: &str, changes: &[(&str, Value)]) -> Value {
        let now = self.now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": "dunlin", "aud": audience, "sub": "zoe", "iat": now, "nbf": now, "exp": now + 600, "jti": "x",
            "grants": [{"namespace": "shop", "role": "developer"}],
        });
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        claims
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn token(&self, audience: &str, changes: &[(&str, Value)]) -> String {
        self.sign(&json!({"alg": "EdDSA", "typ": "JWT", "kid": "kid-1"}), &self.claims(audience, changes))
    }

    async fn admin(&self, token: &str) -> Result<Arc<Principal>, ApiError> {
        self.verifier.administration(token).await
    }

    async fn call(&self, namespace: &str, headers: &[(&str, &str)]) -> Result<Caller, ErrorCode> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let (namespace, function) = (namespace.parse().unwrap(), "pay".parse().unwrap());
        self.verifier.caller(&map, (&namespace, &function), &Takes::Function).await.map_err(|error| error.code)
    }
}

#[tokio::test]
async fn a_good_token_says_who_and_what() {
    let cluster = Cluster::new();
    let token = cluster.token("dunlin-admin", &[]);
    let principal = cluster.admin(&token).await.unwrap();
    assert_eq!((principal.subject.as_str(), principal.issuer.as_str()), ("zoe", "dunlin"));
    let (shop, bank) = ("shop".parse().unwrap(), "bank".parse().unwrap());
    assert_eq!((principal.role_in(&shop), principal.role_in(&bank)), (Some(Role::Developer), None));
    assert!(principal.require(&shop, Role::Viewer).is_ok() && !principal.is_operator());
    // T46: too small a role is said, a foreign namespace is not even there.
    assert_eq!(principal.require(&shop, Role::Admin).unwrap_err().code, ErrorCode::PermissionDenied);
    assert_eq!(principal.require(&bank, Role::Viewer).unwrap_err().code, ErrorCode::NotFound);
    assert!(Arc::ptr_eq(&principal, &cluster.admin(&token).await.unwrap()), "it is remembered");
    let operator = cluster.token("dunlin-admin", &[("grants", json!([{"role": "operator"}]))]);
    assert_eq!(cluster.admin(&operator).await.unwrap().role_in(&bank), Some(Role::Operator));
}

#[tokio::test]
async fn t40_no_other_algorithm_signature_or_shape_opens() {
    let cluster = Cluster::new();
    let claims = cluster.claims("dunlin-admin", &[]);
    let good = cluster.token("dunlin-admin", &[]);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut bad = Vec::new();
    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS256", "HS512", "RS256", "PS256", "ES256", "ES384", "eddsa", "EDDSA",
        "Ed25519",
    ] {
        let header = json!({"alg": alg, "kid": "kid-1"});
        bad.push(cluster.sign(&header, &claims));
        bad.push(format!("{}.{}.", encode(&header), encode(&claims)));
        // The public key as a shared secret.
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, cluster.pair.public_key().as_ref());
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        bad.push(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref())));
    }
    for kid in [
        json!("kid-2"),
        json!(""),
        json!("../../dev/null"),
        json!("' OR 1=1"),
        json!("k".repeat(10_000)),
        json!("\0"),
        json!(1),
        json!(["kid-1"]),
    ] {
        bad.push(cluster.sign(&json!({"alg": "EdDSA", "kid": kid}), &claims));
    }
    bad.push(cluster.sign(&json!({"alg": "EdDSA"}), &claims));
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("jwk", json!({})),
        ("jku", json!("https://x")),
        ("x5u", json!("https://x")),
        ("x5c", json!([])),
    ] {
        bad.push(cluster.sign(&json!({"alg": "EdDSA", "kid": "kid-1", member: value}), &claims));
    }
    for length in [0, 1, 43, 85] {
        bad.push(format!("{signed}.{}", &signature[..length]));
    }
    let mut flipped = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[10] ^= 1;
    bad.push(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(&flipped)));
    bad.push(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode([0; 64])));
    let stranger = Ed25519KeyPair::generate().unwrap().sign(signed.as_bytes());
    bad.push(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(stranger.as_ref())));
    // Another token's signature over these claims, and the other way round.
    let other = cluster.token("dunlin-admin", &[("sub", json!("root"))]);
    bad.push(format!("{signed}.{}", other.rsplit_once('.').unwrap().1));
    bad.extend([
        signed.to_owned(),
        format!("{good}.{signature}"),
        format!("Bearer {good}"),
        format!("{good} "),
        "a.b.c".to_owned(),
        String::new(),
    ]);
    bad.push("x".repeat(9_000));
    for token in &bad {
        assert_eq!(cluster.admin(token).await.unwrap_err().code, ErrorCode::Unauthenticated, "{token:.120}");
    }
    assert!(bad.len() > 60 && cluster.admin(&good).await.is_ok());
}

#[tokio::test]
async fn t42_changing_one_claim_closes() {
    let cluster = Cluster::new();
    let now = cluster.now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (name, value) in [
        ("iss", json!("dunlin ")),
        ("iss", json!("https://evil.example")),
        ("iss", json!(null)),
        ("aud", json!("dunlin")),
        ("aud", json!("dunlin-admin2")),
        ("aud", json!("dunlin:shop")),
        ("aud", json!(["dunlin-admin", "dunlin:shop"])),
        ("aud", json!([])),
        ("exp", json!(now - 31)),
        ("exp", json!((now + 600).to_string())),
        ("exp", json!(now + 25 * 3600)),
        ("exp", json!(-1)),
        ("exp", json!(now as f64 + 600.5)),
        ("nbf", json!(now + 60)),
        ("iat", json!(now + 60)),
        ("sub", json!("")),
        ("sub", json!({})),
        ("grants", json!([{"namespace": "shop", "role": "operator"}])),
        ("grants", json!("operator")),
    ] {
        let token = cluster.token("dunlin-admin", &[(name, value.clone())]);
        assert_eq!(cluster.admin(&token).await.unwrap_err().code, ErrorCode::Unauthenticated, "{name} {value}");
    }
}

#[tokio::test]
async fn t41_a_link_is_good_for_one_version_and_for_nothing_else() {
    let cluster = Cluster::new();
    let version = |number: u32| format!("namespaces/shop/functions/pay/versions/{number}").parse().unwrap();
    let link = cluster.token("dunlin-preview:shop/pay@7", &[]);
    let code = |token: &str, number| cluster.verifier.link(token, &version(number)).err().map(|error| error.code);
    assert_eq!(code(&link, 7), None);
    assert_eq!(code(&link, 8), Some(ErrorCode::PermissionDenied));
    let late = cluster.token("dunlin-preview:shop/pay@7", &[("exp", json!(1)), ("iat", json!(0)), ("nbf", json!(0))]);
    let foreign = cluster.token("dunlin-preview:shop/pay@7", &[("iss", json!("https://id.example"))]);
    for bad in [late.as_str(), &foreign, "x", &format!("{link}x"), &cluster.key] {
        assert_eq!(code(bad, 7), Some(ErrorCode::Unauthenticated), "{bad}");
    }
    // Nor is any other token good as a link.
    for audience in ["dunlin-admin", "dunlin:shop", "dunlin-preview:shop/pay", "dunlin-preview:shop/pay@77"] {
        assert_eq!(code(&cluster.token(audience, &[]), 7), Some(ErrorCode::PermissionDenied), "{audience}");
    }
    assert_eq!(cluster.admin(&link).await.unwrap_err().code, ErrorCode::Unauthenticated);
    let bearer = format!("Bearer {link}");
    assert_eq!(cluster.call("shop", &[("authorization", &bearer)]).await.unwrap_err(), ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn administration_and_calls_are_kept_apart() {
    let cluster = Cluster::new();
    let (admin, call) = (cluster.token("dunlin-admin", &[]), cluster.token("dunlin:shop", &[]));
    assert_eq!(cluster.admin(&call).await.unwrap_err().code, ErrorCode::Unauthenticated);
    assert_eq!(cluster.admin(&cluster.key).await.unwrap_err().code, ErrorCode::Unauthenticated);
    let bearer = |token: &str| format!("Bearer {token}");
    let caller = cluster.call("shop", &[("authorization", &bearer(&call))]).await.unwrap();
    let CallerIdentity::Token(token) = &caller.identity else { panic!("{caller:?}") };
    assert_eq!((token.principal.issuer.as_str(), token.principal.subject.as_str()), ("dunlin", "zoe"));
    let told: HashMap<_, _> =
        caller.introduction.handed_on.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let claims: Value = serde_json::from_slice(told["dunlin-claims"].as_bytes()).unwrap();
    assert_eq!((told["dunlin-principal"].to_str().unwrap(), &claims["aud"]), ("zoe", &json!("dunlin:shop")));
    assert_eq!(
        cluster.call("shop", &[("authorization", &bearer(&admin))]).await.unwrap_err(),
        ErrorCode::Unauthenticated
    );
    assert_eq!(
        cluster.call("bank", &[("authorization", &bearer(&call))]).await.unwrap_err(),
        ErrorCode::PermissionDenied
    );
}

#[tokio::test]
async fn a_caller_proves_itself_once_and_no_credential_passes() {
    let cluster = Cluster::new();
    let token = format!("Bearer {}", cluster.token("dunlin:shop", &[]));
    let key = format!("bEaReR {}", cluster.key);
    let (auth, api) = (header::AUTHORIZATION, API_KEY);
    for (headers, consumed) in [
        (vec![("authorization", token.as_str())], vec![auth.clone()]),
        (vec![("authorization", &*key)], vec![auth.clone()]),
        (vec![("x-api-key", &*cluster.key)], vec![api.clone()]),
        (vec![("x-api-key", &*cluster.key), ("authorization", &*token)], vec![api.clone(), auth]),
        (vec![("x-api-key", &*cluster.key), ("authorization", "Basic eDp5")], vec![api]),
    ] {
        assert_eq!(
            cluster.call("shop", &headers).await.map(|caller| caller.introduction.consumed.into_vec()),
            Ok(consumed),
            "{headers:?}"
        );
    }
    for headers in [
        vec![],
        vec![("authorization", "Basic eDp5")],
        vec![("authorization", "Bearer")],
        vec![("authorization", "Bearer ")],
        vec![("authorization", token.as_str()), ("authorization", token.as_str())],
        vec![("x-api-key", ""), ("authorization", token.as_str())],
        vec![("x-api-key", "dk_wrong"), ("authorization", token.as_str())],
        vec![("x-api-key", token.as_str())],
        vec![("cookie", "authorization=x")],
    ] {
        assert_eq!(cluster.call("shop", &headers).await.unwrap_err(), ErrorCode::Unauthenticated, "{headers:?}");
    }
    assert_eq!(cluster.call("bank", &[("x-api-key", &cluster.key)]).await.unwrap_err(), ErrorCode::PermissionDenied);
    cluster.trust(&[], &["cart"]);
    assert_eq!(cluster.call("shop", &[("x-api-key", &cluster.key)]).await.unwrap_err(), ErrorCode::PermissionDenied);
    cluster.trust(&[], &["cart", "pay"]);
    assert!(cluster.call("shop", &[("x-api-key", &cluster.key)]).await.is_ok());
}

#[tokio::test]
async fn t43_two_keys_count_and_a_withdrawn_one_does_not() {
    let cluster = Cluster::new();
    let token = cluster.token("dunlin-admin", &[]);
    assert!(cluster.admin(&token).await.is_ok());
    let next = Ed25519KeyPair::generate().unwrap();
    let keys = [("kid-1", cluster.pair.public_key().as_ref()), ("kid-2", next.public_key().as_ref())];
    cluster.trust(&keys, &[]);
    cluster.verifier.forget();
    assert!(cluster.admin(&token).await.is_ok());
    cluster.trust(&keys[1..], &[]);
    cluster.verifier.forget();
    assert_eq!(cluster.admin(&token).await.unwrap_err().code, ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_ends() {
    let cluster = Cluster::new();
    let token = cluster.token("dunlin-admin", &[]);
    let inner = &cluster.verifier.0;
    assert!(inner.administration(&token, cluster.now).await.is_ok());
    assert!(inner.administration(&token, cluster.now + Duration::from_secs(631)).await.is_err());
}

#[tokio::test]
async fn t45_a_key_opens_by_its_newest_secret_or_a_previous_one_that_counts_in_either_header() {
    let cluster = Cluster::new();
    let (newest, previous) = (cluster.key.clone(), key_text("abcdefghijkl", 'p'));
    let (wrong, unknown) = (key_text("abcdefghijkl", 'w'), key_text("lkjihgfedcba", 's'));
    let trust = |until: Option<SystemTime>| {
        let hash = *dunlin_proto::ids::Digest::of(previous.as_bytes()).as_bytes();
        let key = crate::routes::Key { old: until.map(|until| (hash, until)), ..known(&newest, &[]) };
        let by_id = [("abcdefghijkl".to_owned(), Arc::new(key))].into_iter().collect();
        cluster.table.replace(Table { version: 1, keys: Keys { by_id, ..Keys::default() }, ..Table::default() });
    };
    let (over, later) = (Some(cluster.now), Some(cluster.now + Duration::from_secs(600)));
    for (text, until, opens) in [
        (&newest, None, true),
        (&newest, over, true),
        (&newest, later, true),
        (&previous, None, false),
        (&previous, over, false),
        (&previous, later, true),
        (&wrong, None, false),
        (&wrong, later, false),
        (&unknown, None, false),
        (&unknown, later, false),
    ] {
        trust(until);
        let bearer = format!("Bearer {text}");
        for header in [("x-api-key", text.as_str()), ("authorization", bearer.as_str())] {
            let answer = cluster.call("shop", &[header]).await;
            assert_eq!(answer.is_ok(), opens, "{header:?} {until:?}");
            assert!(opens || answer.unwrap_err() == ErrorCode::Unauthenticated);
        }
    }
}
