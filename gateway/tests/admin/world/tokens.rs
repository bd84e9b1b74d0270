//! Tokens of a cluster that exists in this test alone: its key is made anew for each.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// Signs tokens.
pub(crate) struct Tokens {
    id: String,
    public: Vec<u8>,
    key: EncodingKey,
}

/// What a token grants: namespace and role.
type Grants<'a> = &'a [(&'a str, &'a str)];

impl Tokens {
    pub(crate) fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let id: String = dunlin_proto::ids::Digest::of(&public).hex().chars().take(16).collect();
        Self { id, public, key: EncodingKey::from_ed_der(pair.to_pkcs8().unwrap().as_ref()) }
    }

    pub(crate) fn public_key(&self) -> (String, Vec<u8>) {
        (self.id.clone(), self.public.clone())
    }

    /// A token with these claims over the usual ones.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut all = json!({
            "iss": "dunlin", "aud": "dunlin-admin", "sub": "ada", "jti": uuid::Uuid::now_v7().to_string(),
            "iat": now, "nbf": now - 1, "exp": now + 3_600,
        });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &all, &self.key).unwrap()
    }

    /// An administration token.
    pub(crate) fn with(&self, grants: Grants<'_>) -> String {
        let grant = |(namespace, role): &(&str, &str)| match *namespace {
            "" => json!({ "role": role }),
            namespace => json!({ "namespace": namespace, "role": role }),
        };
        self.sign(&json!({ "grants": grants.iter().map(grant).collect::<Vec<_>>() }))
    }

    pub(crate) fn operator(&self) -> String {
        self.with(&[("", "operator")])
    }

    /// A token for calling functions, which administration must refuse.
    pub(crate) fn caller(&self, namespace: &str) -> String {
        self.sign(&json!({ "aud": format!("dunlin:{namespace}"), "scope": "" }))
    }
}
