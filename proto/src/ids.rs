//! Ids as types, in one place: a value of one of these has been checked where it entered the process.
//!
//! Names that people choose are [`Namespace`], [`FunctionName`], [`AliasId`], [`RouteId`], [`AppId`], [`PlanId`], [`DomainName`],
//! [`WorkerId`], [`GatewayId`];
//! everything else is assigned by the platform. Resource names made of them are in `names.rs`.

mod domain;

use std::{
    fmt,
    num::NonZeroU32,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use domain::DomainName;

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {rule}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    rule: String,
}

impl IdError {
    fn new(kind: &'static str, text: &str, rule: impl Into<String>) -> Self {
        // What a caller sent is quoted, but never more of it than helps.
        Self { kind, text: text.chars().take(80).collect(), rule: rule.into() }
    }
}

/// The rule of every name that people choose, so that `v7--{function}--{namespace}` stays a DNS label (RFC 1035 2.3.1).
fn is_slug(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && !text.contains("--")
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

macro_rules! slug {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest one, in characters.
            pub const MAX_LEN: usize = $max;

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_slug(text) && text.len() <= $max {
                    return Ok(Self(text.into()));
                }
                Err(IdError::new(
                    $kind,
                    text,
                    concat!(
                        "it must have 1 to ", stringify!($max), " lower-case letters, digits and single hyphens, begin with ",
                        "a letter and end in a letter or digit"
                    ),
                ))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

slug! {
    /// A tenant's name.
    Namespace, "namespace", 22
}
slug! {
    /// A function's name within its namespace.
    FunctionName, "function", 32
}
slug! {
    /// A route's name within its namespace.
    RouteId, "route", 63
}
slug! {
    /// An app's name within its namespace.
    AppId, "app", 63
}
slug! {
    /// The name of an alias within its function.
    AliasId, "alias", 32
}
slug! {
    /// The name of a usage plan within its namespace.
    PlanId, "plan", 63
}
slug! {
    /// A worker process's name within the cluster.
    WorkerId, "worker", 63
}
slug! {
    /// A gateway process's name within the cluster.
    GatewayId, "gateway", 63
}

impl AliasId {
    /// The alias that every function has: its own traffic.
    pub const LIVE: &str = "live";

    /// Whether it is the function's own traffic.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.as_str() == Self::LIVE
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one; later ones sort after earlier ones (UUIDv7, RFC 9562 5.7).
            #[must_use]
            #[allow(clippy::new_without_default, reason = "a default that differs each time would surprise")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID.
            #[must_use]
            pub fn uuid(self) -> Uuid {
                self.0
            }

            /// The id with exactly these 16 bytes.
            ///
            /// # Errors
            /// Another number of bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| IdError::new($kind, "", "it must have 16 bytes"))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                // Only the usual spelling, so that one id has one text.
                let id = Uuid::try_parse(text).ok().filter(|id| text.len() == 36 && !id.is_nil());
                id.map(Self).ok_or_else(|| IdError::new($kind, text, "it must be a UUID such as 0198c5b2-7a43-7000-8000-3f1f6d1c1a2b"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// A function beyond deletion and renaming: caches, artifacts, receipts and fencing use it.
    FunctionUid, "function uid"
}
uuid_id! {
    /// One call of a function.
    InvocationId, "invocation id"
}

impl InvocationId {
    /// An id that no call has, and that sorts before those of calls which begin at this time or later.
    #[must_use]
    pub fn first_at(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // It has 48 bits for them.
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).min((1 << 48) - 1);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
    }

    /// When its call began, to the millisecond (RFC 9562 5.7).
    #[must_use]
    pub fn time(self) -> SystemTime {
        let millis = u64::try_from(self.0.as_u128() >> 80).unwrap_or_default();
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

uuid_id! {
    /// One rollout of a function, or of several that move together.
    RolloutId, "rollout id"
}
uuid_id! {
    /// What a client sends to make a repeated request harmless.
    RequestId, "request id"
}

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(NonZeroU32);

        impl $name {
            /// The number.
            #[must_use]
            pub fn get(self) -> u32 {
                self.0.get()
            }
        }

        impl TryFrom<u32> for $name {
            type Error = IdError;

            fn try_from(number: u32) -> Result<Self, IdError> {
                NonZeroU32::new(number).map(Self).ok_or_else(|| IdError::new($kind, "0", $rule))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
                let number = digits.then(|| text.parse().ok()).flatten();
                number.map(Self).ok_or_else(|| IdError::new($kind, text, "it must be a number from 1 on"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counted! {
    /// The number of a version: 1, 2, 3...
    VersionNumber, "version", "versions count from 1"
}
counted! {
    /// The number of a release of a namespace: 1, 2, 3...
    ReleaseNumber, "release", "releases count from 1"
}

impl VersionNumber {
    /// The first version of a function.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Which version of which function, beyond deletion and renaming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionKey {
    /// The function.
    pub function: FunctionUid,
    /// The number of its version.
    pub number: VersionNumber,
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function, self.number)
    }
}

/// A SHA-256 digest, which names an artifact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of nothing that there is.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }

    /// The digest whose 32 bytes are known.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits alone, as in file names.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let mut out = [0; 32];
        let lower = digits.bytes().all(|b| !b.is_ascii_uppercase());
        if lower && hex::decode_to_slice(digits, &mut out).is_ok() {
            return Ok(Self(out));
        }
        Err(IdError::new("digest", text, "it must be sha256: and 64 lower-case hexadecimal digits"))
    }
}

impl TryFrom<String> for Digest {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "shop", "a1", "check-out", "a-1-b"] {
            assert_eq!(good.parse::<Namespace>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        let long = "a".repeat(23);
        for bad in ["", "1a", "-a", "a-", "a--b", "A", "ä", "a_b", "a.b", "../a", "a/b", "a\0", "a b", &long] {
            assert!(bad.parse::<Namespace>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(32).parse::<FunctionName>().is_ok());
        assert!("a".repeat(33).parse::<FunctionName>().is_err());
    }

    #[test]
    fn an_error_quotes_no_more_than_helps() {
        let error = "x/".repeat(10_000).parse::<Namespace>().unwrap_err().to_string();
        assert!(error.len() < 300, "{error}");
    }

    #[test]
    fn versions_count_from_one_and_have_one_spelling() {
        assert_eq!("7".parse::<VersionNumber>().unwrap().get(), 7);
        for bad in ["", "0", "07", "+7", "-1", "1.0", "4294967296"] {
            assert!(bad.parse::<VersionNumber>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn digests_round_trip_in_one_spelling() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.hex().parse(), Ok(digest));
        assert!(digest.hex().to_uppercase().parse::<Digest>().is_err());
        assert!("sha256:00".parse::<Digest>().is_err());
    }

    #[test]
    fn uuids_have_one_spelling() {
        let id = InvocationId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(InvocationId::from_slice(id.uuid().as_bytes()), Ok(id));
        assert!(id.uuid().simple().to_string().parse::<InvocationId>().is_err());
        assert!("00000000-0000-0000-0000-000000000000".parse::<InvocationId>().is_err());
    }

    #[test]
    fn an_invocation_id_has_its_time_and_sorts_by_it() {
        let before = SystemTime::now();
        let id = InvocationId::new();
        let millis = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        assert!(millis(id.time()) >= millis(before) && id.time() <= SystemTime::now());
        assert!(InvocationId::first_at(before) < id);
        assert!(InvocationId::first_at(before + Duration::from_secs(1)) > id);
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123);
        assert_eq!(InvocationId::first_at(at).time(), at);
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50);
        assert!(InvocationId::first_at(far) > InvocationId::first_at(at), "it does not begin anew");
    }
}
