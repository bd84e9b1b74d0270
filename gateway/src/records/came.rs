//! How a call came in and where it went, as its record has it. On the path of a call nothing of it is formatted: texts that live
//! elsewhere are shared, and written out when the record is.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use dunlin_proto::{
    ids::FunctionName,
    names::{KeyId, NameError},
};
use serde::{Deserialize, Serialize};

use super::Phases;
use crate::auth::{CallerIdentity, Principal};

/// How a call came in and where it went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Came {
    /// The route that led to the function; nothing where its automatic address did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<Arc<str>>,
    /// Who called.
    #[serde(skip_serializing_if = "Caller::is_anybody")]
    pub(crate) caller: Caller,
    /// The address that it called from.
    pub(crate) address: Option<IpAddr>,
    /// The trace that it belongs to; 0 where none is known.
    #[serde(with = "hex")]
    pub(crate) trace: u128,
    /// Where it was sent, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<Arc<str>>,
    /// Why it was sent there.
    pub(crate) choice: Choice,
    /// How often it was sent.
    pub(crate) tries: u32,
    /// What its spans need.
    #[serde(skip_serializing_if = "Traced::is_nothing")]
    pub(crate) traced: Traced,
}

/// What the spans of a call need beside the rest of its record. Nothing where the gateway traces nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Traced {
    /// The span that answers the caller, which the function sees as its parent.
    pub(crate) span: u64,
    /// The caller's span; 0 where it has none.
    pub(crate) parent: u64,
    /// It was decided at the beginning that the trace is taken.
    pub(crate) sampled: bool,
    /// Its spans were given to the exporter.
    #[serde(skip)]
    pub(crate) exported: bool,
    /// The caller used TLS.
    pub(crate) secure: bool,
    /// HTTP/2 is 2, HTTP/1.1 is 1, HTTP/1.0 is 0.
    pub(crate) protocol: u8,
    /// The path of the route that led to the function.
    pub(crate) route: Option<Arc<str>>,
    /// From acceptance to the end, where no receipt says so.
    pub(crate) lasted: Duration,
    /// What the caller's tracing systems say of the trace (W3C Trace Context 3.3), which its spans repeat.
    #[serde(skip)]
    pub(crate) state: Option<Arc<str>>,
    /// What the gateway did before. No file has it: spans are made before there is one.
    #[serde(skip)]
    pub(crate) phases: Option<Box<Phases>>,
}

impl Traced {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an endpoint is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Choice {
    /// None is.
    #[default]
    Nobody,
    /// It has the version ready.
    Ready,
    /// It has the version on its disk, if the gateway is right.
    Standby,
}

/// Who called, by what it proved; never a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Words", try_from = "Words")]
pub(crate) enum Caller {
    /// Nobody had to prove anything.
    #[default]
    Anybody,
    /// Whoever has this key.
    Key(KeyId),
    /// Whom a token names.
    Token(Arc<Principal>),
    /// Whom an authorizer let in.
    Authorized {
        /// The function.
        by: FunctionName,
        /// Whom it took the caller for; nothing where it did not say.
        subject: Option<String>,
    },
}

impl Caller {
    /// Whoever proved this.
    pub(crate) fn of(identity: Option<&CallerIdentity>) -> Self {
        match identity {
            None => Self::Anybody,
            Some(CallerIdentity::Key(key)) => Self::Key(key.clone()),
            Some(CallerIdentity::Token(token)) => Self::Token(token.principal.clone()),
            Some(CallerIdentity::Authorized { by, subject }) => {
                Self::Authorized { by: by.clone(), subject: subject.clone() }
            }
        }
    }

    /// Whether nobody had to prove anything.
    pub(crate) fn is_anybody(&self) -> bool {
        *self == Self::Anybody
    }

    /// Whether it has the key with this id.
    pub(crate) fn has_key(&self, id: &str) -> bool {
        matches!(self, Self::Key(key) if key.as_str() == id)
    }
}

/// A caller as files and messages have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Words {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) issuer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) authorizer: String,
}

impl From<Caller> for Words {
    fn from(caller: Caller) -> Self {
        match caller {
            Caller::Anybody => Self::default(),
            Caller::Key(key) => Self { key: key.to_string(), ..Self::default() },
            Caller::Token(who) => Self { issuer: who.issuer.clone(), subject: who.subject.clone(), ..Self::default() },
            Caller::Authorized { by, subject } => {
                Self { authorizer: by.to_string(), subject: subject.unwrap_or_default(), ..Self::default() }
            }
        }
    }
}

impl TryFrom<Words> for Caller {
    type Error = NameError;

    fn try_from(words: Words) -> Result<Self, NameError> {
        let Words { key, issuer, subject, authorizer } = words;
        if !key.is_empty() {
            return Ok(Self::Key(key.parse()?));
        }
        if !authorizer.is_empty() {
            return Ok(Self::Authorized { by: authorizer.parse()?, subject: Some(subject).filter(|s| !s.is_empty()) });
        }
        if issuer.is_empty() {
            return Ok(Self::Anybody);
        }
        // What its token let it do is not kept, and is not asked of a record.
        let (expires, issued, grants) = (SystemTime::UNIX_EPOCH, None, Vec::new());
        let (token_id, origin) = (String::new(), crate::auth::Origin::default());
        Ok(Self::Token(Arc::new(Principal { subject, issuer, expires, issued, grants, token_id, origin })))
    }
}

/// A trace's id as text, in files.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(trace: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{trace:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Caller {
        let (subject, issuer) = ("zoe".to_owned(), "https://id.example".to_owned());
        let (expires, issued, grants, token_id) = (SystemTime::UNIX_EPOCH, None, Vec::new(), String::new());
        let origin = crate::auth::Origin::default();
        Caller::Token(Arc::new(Principal { subject, issuer, expires, issued, grants, token_id, origin }))
    }

    #[test]
    fn what_is_written_is_read_back_whoever_called() {
        let callers = [
            Caller::Anybody,
            Caller::Key("abcDEF123456".parse().unwrap()),
            token(),
            Caller::Authorized { by: "guard".parse().unwrap(), subject: None },
            Caller::Authorized { by: "guard".parse().unwrap(), subject: Some("zoe".into()) },
        ];
        for caller in callers {
            let came = Came { route: Some("users".into()), caller, trace: 7, tries: 2, ..Came::default() };
            let text = serde_json::to_string(&came).unwrap();
            assert_eq!(serde_json::from_str::<Came>(&text).unwrap(), came, "{text}");
        }
        assert_eq!(serde_json::from_str::<Came>("{}").unwrap(), Came::default());
    }

    #[test]
    fn a_key_is_known_by_its_id_alone() {
        assert!(Caller::Key("abcDEF123456".parse().unwrap()).has_key("abcDEF123456"));
        assert!(!token().has_key("zoe") && !Caller::Anybody.has_key(""));
    }
}
