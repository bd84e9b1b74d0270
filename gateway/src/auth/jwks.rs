//! The keys of a configured issuer (RFC 7517, OpenID Connect Discovery 1.0): fetched once for all that wait, half a minute
//! apart at the least, and kept when fetching fails. Why it fails is `jwks/trouble.rs`'s.

pub(super) mod fetch;
mod trouble;

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::{ArcSwap, ArcSwapOption};
use dunlin_process::metrics::count::Counters;
use dunlin_proto::ApiError;
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use tokio::{sync::Mutex, time::Instant};

use crate::config::{OidcAlgorithm, OidcConfig};
use trouble::Trouble;

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
    /// What was in the way the last time; nothing where there are keys.
    trouble: ArcSwapOption<Trouble>,
    /// Fetches that brought keys, then those that did not, in the order of [`Trouble::ALL`].
    fetches: Counters<{ Trouble::ALL.len() + 1 }>,
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
    /// Why nobody can say whether the issuer has such a key: it could not be asked.
    pub(super) failure: Option<ApiError>,
}

/// What asking an issuer brought, or would have.
struct Asked {
    changed: bool,
    /// When it may be asked again.
    pause: Duration,
}

impl Issuer {
    /// Nothing is fetched until the first token comes.
    pub(super) fn new(config: &OidcConfig) -> anyhow::Result<Self> {
        let client = fetch::client(config.allow_private).context("prepare to fetch keys of issuers")?;
        let (keys, asked, trouble, fetches) = Default::default();
        Ok(Self { config: config.clone(), client, keys, asked, trouble, fetches })
    }

    /// The key with this id; where it is not known, or keys are old, they are fetched first.
    pub(super) async fn key(&self, id: Option<&str>) -> Found {
        let id = id.map(str::to_owned);
        let keys = self.keys.load_full();
        let known = keys.by_id.get(&id).cloned();
        let fresh = keys.fetched.is_some_and(|fetched| fetched.elapsed() < FRESH);
        if known.is_some() && fresh {
            return Found { key: known, changed: false, failure: None };
        }
        let Asked { changed, pause } = self.refresh(&keys).await;
        let key = self.keys.load().by_id.get(&id).cloned();
        let trouble = if key.is_none() { self.trouble.load_full() } else { None };
        let failure = trouble.map(|trouble| trouble.refusal(&self.config.issuer, pause));
        Found { key, changed, failure }
    }

    /// Fetches keys, unless somebody has since `seen` or not long ago.
    async fn refresh(&self, seen: &Arc<Keys>) -> Asked {
        let mut asked = self.asked.lock().await;
        let pause = asked.map_or(Duration::ZERO, |asked| PAUSE.saturating_sub(asked.elapsed()));
        let someone_did = !Arc::ptr_eq(seen, &self.keys.load());
        if someone_did || !pause.is_zero() {
            return Asked { changed: false, pause };
        }
        *asked = Some(Instant::now());
        let changed = match fetch::keys(&self.client, &self.config).await {
            Ok(set) => self.learn(&set, seen),
            Err(error) => self.fail(&error),
        };
        Asked { changed, pause: PAUSE }
    }

    /// Takes keys over; says whether they are others than before.
    fn learn(&self, set: &JwkSet, seen: &Keys) -> bool {
        let by_id = usable(set);
        let changed = by_id.keys().ne(seen.by_id.keys()) || seen.fetched.is_none();
        self.keys.store(Arc::new(Keys { by_id, fetched: Some(Instant::now()) }));
        self.trouble.store(None);
        self.fetches.add(0, 1);
        changed
    }

    /// The keys stay as they are.
    fn fail(&self, error: &anyhow::Error) -> bool {
        let trouble = Trouble::of(error);
        let (issuer, cause) = (&self.config.issuer, format!("{error:#}"));
        tracing::warn!(issuer, reason = trouble.as_str(), error = cause, "cannot fetch keys of an issuer");
        self.trouble.store(Some(Arc::new(trouble)));
        self.fetches.add(1 + trouble as usize, 1);
        false
    }

    /// Whether the last fetch of keys failed.
    pub(super) fn is_failing(&self) -> bool {
        self.trouble.load().is_some()
    }

    /// How many fetches of keys had which result.
    pub(super) fn fetches(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let results = std::iter::once("ok").chain(Trouble::ALL.map(Trouble::as_str));
        results.enumerate().map(|(index, result)| (result, self.fetches.get(index)))
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
