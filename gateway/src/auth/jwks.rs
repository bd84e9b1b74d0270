//! The keys of a configured issuer (RFC 7517, OpenID Connect Discovery 1.0): fetched once for all that wait, half a minute
//! apart at the least, and kept when fetching fails.

pub(super) mod fetch;

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwap;
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use tokio::{sync::Mutex, time::Instant};

use crate::config::{OidcAlgorithm, OidcConfig};

/// The least time between two fetches, however many tokens name unknown keys (T41).
const PAUSE: Duration = Duration::from_secs(30);
/// How old keys may be before they are fetched again: this long a withdrawn key is still trusted.
const FRESH: Duration = Duration::from_secs(300);
/// Keys of one issuer that are looked at.
const MAX_KEYS: usize = 100;

/// An issuer and its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) config: OidcConfig,
    client: reqwest::Client,
    keys: ArcSwap<Keys>,
    /// When keys were last asked for; the lock makes one fetch of many.
    asked: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Keys {
    by_id: HashMap<Option<String>, Arc<PublicKey>>,
    fetched: Option<Instant>,
}

/// A key, and what kind of algorithm it fits.
#[derive(Debug)]
pub(super) struct PublicKey {
    pub(super) key: DecodingKey,
    /// As in [`OidcAlgorithm::family`].
    family: &'static str,
    /// Keys on a curve fit one algorithm only.
    only: Option<OidcAlgorithm>,
}

impl PublicKey {
    /// Whether a signature of this algorithm can be this key's.
    pub(super) fn fits(&self, algorithm: OidcAlgorithm) -> bool {
        self.family == algorithm.family() && self.only.is_none_or(|only| only == algorithm)
    }
}

/// What looking for a key brought.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: Option<Arc<PublicKey>>,
    /// Keys are not those that they were.
    pub(super) changed: bool,
}

impl Issuer {
    /// Nothing is fetched until the first token comes.
    pub(super) fn new(config: &OidcConfig) -> anyhow::Result<Self> {
        let client = fetch::client(config.allow_private).context("prepare to fetch keys of issuers")?;
        Ok(Self { config: config.clone(), client, keys: ArcSwap::default(), asked: Mutex::default() })
    }

    /// The key with this id; where it is not known, or keys are old, they are fetched first.
    pub(super) async fn key(&self, id: Option<&str>) -> Found {
        let id = id.map(str::to_owned);
        let keys = self.keys.load_full();
        let known = keys.by_id.get(&id).cloned();
        let fresh = keys.fetched.is_some_and(|fetched| fetched.elapsed() < FRESH);
        if known.is_some() && fresh {
            return Found { key: known, changed: false };
        }
        let changed = self.refresh(&keys).await;
        Found { key: self.keys.load().by_id.get(&id).cloned(), changed }
    }

    /// Fetches keys, unless somebody has since `seen` or not long ago; says whether they changed.
    async fn refresh(&self, seen: &Arc<Keys>) -> bool {
        let mut asked = self.asked.lock().await;
        let someone_did = !Arc::ptr_eq(seen, &self.keys.load());
        if someone_did || asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
            return false;
        }
        *asked = Some(Instant::now());
        match fetch::keys(&self.client, &self.config).await {
            Ok(set) => {
                let by_id = usable(&set);
                let changed = by_id.keys().ne(seen.by_id.keys()) || seen.fetched.is_none();
                self.keys.store(Arc::new(Keys { by_id, fetched: Some(Instant::now()) }));
                changed
            }
            Err(error) => {
                tracing::warn!(
                    issuer = self.config.issuer,
                    error = format!("{error:#}"),
                    "cannot fetch keys of an issuer"
                );
                false
            }
        }
    }
}

/// The keys of a set that verify signatures. A key without an id counts where it is the only one.
fn usable(set: &JwkSet) -> HashMap<Option<String>, Arc<PublicKey>> {
    let keys = set.keys.iter().take(MAX_KEYS);
    let mut by_id: HashMap<_, _> =
        keys.filter_map(|jwk| Some((jwk.common.key_id.clone(), Arc::new(public_key(jwk)?)))).collect();
    if by_id.len() == 1
        && let Some(only) = by_id.values().next().cloned()
    {
        by_id.insert(None, only);
    } else {
        by_id.remove(&None);
    }
    by_id
}

fn public_key(jwk: &Jwk) -> Option<PublicKey> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let (family, only) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => ("RSA", None),
        AlgorithmParameters::EllipticCurve(params) => match params.curve {
            EllipticCurve::P256 => ("EC", Some(OidcAlgorithm::ES256)),
            EllipticCurve::P384 => ("EC", Some(OidcAlgorithm::ES384)),
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(params) if params.curve == EllipticCurve::Ed25519 => ("Ed25519", None),
        // A shared secret must never verify anything (T40).
        _ => return None,
    };
    Some(PublicKey { key: DecodingKey::from_jwk(jwk).ok()?, family, only })
}

#[cfg(test)]
mod tests;
