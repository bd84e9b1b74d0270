//! What internal calls carry beside their messages: proof of being one of the cluster's processes, and for whom they act.
//!
//! Where processes have certificates, the connection is the proof (`trust.rs`). Otherwise it is a secret that all of them
//! read from one file of mode 0600, and internal listeners are loopback only. Callers' credentials never travel here: the
//! gateway consumes them.

use std::{collections::HashSet, fmt, fs, io, path::Path};

use tonic::{
    Request, Status,
    metadata::{Ascii, Binary, MetadataKey, MetadataValue},
    service::Interceptor,
};

use crate::{
    audit::Author,
    error::{ApiError, ErrorCode},
    idempotency::Hold,
};

const SECRET_KEY: &str = "dunlin-cluster-secret";
const ACTOR_KEY: &str = "dunlin-actor-bin";
const AUTHOR_KEY: &str = "dunlin-author-bin";
const UNCHANGED_KEY: &str = "dunlin-unchanged-since";
const HOLD_KEY: &str = "dunlin-idempotency";

/// A cluster secret that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("cannot read cluster secret {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Others could read it too.
    #[error("cluster secret {path} must have mode 0600 but has {mode:04o}; run: chmod 600 {path}")]
    Mode {
        /// Which file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// It could be guessed.
    #[error(
        "cluster secret {path} must have 32 to 256 printable characters, drawn at random; make one with: openssl rand -hex 32"
    )]
    Weak {
        /// Which file.
        path: String,
    },
}

/// Different characters that a secret has at the least: 32 random digits of base 16 have fewer once in billions of times.
const DIFFERENT: usize = 7;
/// The longest word that a secret must not be repetitions of, in bytes.
const WORD: usize = 12;

/// Whether a text is long enough only because something is written again and again (T44).
fn is_guessable(text: &str) -> bool {
    let bytes = text.as_bytes();
    let different: HashSet<_> = bytes.iter().collect();
    let repeats = |length: usize| bytes.iter().zip(bytes.iter().skip(length)).all(|(one, other)| one == other);
    different.len() < DIFFERENT || (1..=WORD).any(repeats)
}

/// What makes a process one of the cluster's. It never shows itself.
#[derive(Clone)]
pub struct ClusterSecret(MetadataValue<Ascii>);

impl ClusterSecret {
    /// Reads it from a file that nobody else may read.
    ///
    /// # Errors
    /// The file can't be read, is open to others, or holds something too weak.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        use std::os::unix::fs::PermissionsExt;
        let name = path.display().to_string();
        let read = |source| SecretError::Read { path: name.clone(), source };
        let mode = fs::metadata(path).map_err(read)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Mode { path: name, mode });
        }
        let text = fs::read_to_string(path).map_err(read)?;
        let text = Some(text.trim()).filter(|text| !is_guessable(text));
        text.and_then(Self::from_text).ok_or(SecretError::Weak { path: name })
    }

    /// The secret with this text; nothing where it is too weak.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let strong = (32..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        let mut value: MetadataValue<Ascii> = strong.then(|| text.parse().ok()).flatten()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// Whether a request comes from one of the cluster's processes; compared in constant time.
    ///
    /// # Errors
    /// `Unauthenticated` where it does not.
    pub fn check<T>(&self, request: &Request<T>) -> Result<(), ApiError> {
        let sent = request.metadata().get(SECRET_KEY).map(MetadataValue::as_encoded_bytes).unwrap_or_default();
        aws_lc_rs::constant_time::verify_slices_are_equal(sent, self.0.as_encoded_bytes())
            .map_err(|_| ApiError::new(ErrorCode::Unauthenticated, "the caller does not have this cluster's secret"))
    }

    /// What a client adds to each of its calls.
    #[must_use]
    pub fn attach(&self) -> AttachSecret {
        AttachSecret(Some(self.clone()))
    }

    /// What a server puts before its internal services.
    #[must_use]
    pub fn require(&self) -> RequireSecret {
        RequireSecret(self.clone())
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

/// Adds the cluster secret to a client's calls, where there is one.
#[derive(Debug, Clone)]
pub struct AttachSecret(Option<ClusterSecret>);

impl AttachSecret {
    /// Adds nothing: the connection itself is the proof.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }
}

impl Interceptor for AttachSecret {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(secret) = &self.0 {
            request.metadata_mut().insert(MetadataKey::from_static(SECRET_KEY), secret.0.clone());
        }
        Ok(request)
    }
}

/// Refuses calls without the cluster secret.
#[derive(Debug, Clone)]
pub struct RequireSecret(ClusterSecret);

impl Interceptor for RequireSecret {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.0.check(&request)?;
        Ok(request)
    }
}

/// Says for whom a gateway calls the scheduler: the subject of the token that it verified.
pub fn set_actor<T>(request: &mut Request<T>, subject: &str) {
    let value = MetadataValue::<Binary>::from_bytes(subject.as_bytes());
    request.metadata_mut().insert_bin(MetadataKey::from_static(ACTOR_KEY), value);
}

/// For whom a gateway calls; empty where it does not say.
#[must_use]
pub fn actor<T>(request: &Request<T>) -> String {
    let bytes = request.metadata().get_bin(ACTOR_KEY).and_then(|value| value.to_bytes().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Says more of for whom a gateway calls the scheduler, for the audit log.
pub fn set_author<T>(request: &mut Request<T>, author: &Author) {
    let value = MetadataValue::<Binary>::from_bytes(&author.to_bytes());
    request.metadata_mut().insert_bin(MetadataKey::from_static(AUTHOR_KEY), value);
}

/// For whom a gateway calls, and from where; a gateway that says only the subject is taken at its word.
#[must_use]
pub fn author<T>(request: &Request<T>) -> Author {
    let bytes = request.metadata().get_bin(AUTHOR_KEY).and_then(|value| value.to_bytes().ok());
    bytes.map_or_else(|| Author { subject: actor(request), ..Author::default() }, |bytes| Author::from_bytes(&bytes))
}

/// Has a change made only if the audit log has not grown beyond this entry meanwhile.
pub fn set_unchanged_since<T>(request: &mut Request<T>, sequence: u64) {
    request.metadata_mut().insert(MetadataKey::from_static(UNCHANGED_KEY), sequence.into());
}

/// The entry of the audit log that has to be the last one still; nothing where it does not matter.
#[must_use]
pub fn unchanged_since<T>(request: &Request<T>) -> Option<u64> {
    request.metadata().get(UNCHANGED_KEY)?.to_str().ok()?.parse().ok()
}

/// Says by which idempotency key a change is made, and by which attempt.
pub fn set_hold<T>(request: &mut Request<T>, hold: &Hold) {
    if let Ok(value) = hold.to_string().parse() {
        request.metadata_mut().insert(HOLD_KEY, value);
    }
}

/// The idempotency key by which a change is made; nothing where there is none.
///
/// # Errors
/// `InvalidArgument` for what can't be read: a change must not be made without its key.
pub fn hold<T>(request: &Request<T>) -> Result<Option<Hold>, ApiError> {
    let Some(value) = request.metadata().get(HOLD_KEY) else { return Ok(None) };
    let hold = value.to_str().ok().and_then(Hold::from_text);
    hold.map(Some).ok_or_else(|| ApiError::invalid(HOLD_KEY, "the idempotency key can't be read"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{
        idempotency::KeyId,
        ids::{Digest, RequestId},
    };

    const TEXT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn t47_a_call_without_the_secret_is_refused() {
        let secret = ClusterSecret::from_text(TEXT).unwrap();
        let other = ClusterSecret::from_text(&TEXT.to_uppercase()).unwrap();
        let mut require = secret.require();
        assert_eq!(require.call(Request::new(())).unwrap_err().code(), tonic::Code::Unauthenticated);
        let with_other = other.attach().call(Request::new(())).unwrap();
        assert!(require.call(with_other).is_err());
        let with_secret = secret.attach().call(Request::new(())).unwrap();
        assert!(!format!("{with_secret:?}{secret:?}").contains(TEXT));
        assert!(require.call(with_secret).is_ok());
    }

    #[test]
    fn a_secret_file_must_be_private_and_strong() {
        let path = std::env::temp_dir().join(format!("dunlin-secret-{}", uuid::Uuid::now_v7()));
        fs::write(&path, format!("{TEXT}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(ClusterSecret::from_file(&path), Err(SecretError::Mode { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(ClusterSecret::from_file(&path).is_ok());
        fs::write(&path, "short").unwrap();
        assert!(matches!(ClusterSecret::from_file(&path), Err(SecretError::Weak { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(ClusterSecret::from_file(&path), Err(SecretError::Read { .. })));
    }

    #[test]
    fn t44_a_secret_that_can_be_guessed_is_refused() {
        let path = std::env::temp_dir().join(format!("dunlin-weak-{}", uuid::Uuid::now_v7()));
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            ClusterSecret::from_file(&path)
        };
        let random = "b7f2c09a41d85e6370ac1f4be92d58c6";
        for text in [TEXT, random, &random.repeat(8)] {
            assert!(read(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "secret",
            &random[1..],
            &random.repeat(9),
            &"s".repeat(32),
            &"password".repeat(4),
            &"correcthorse".repeat(3),
            &format!("{}change", "changeme".repeat(4)),
            &"0123456".repeat(5),
            "111111111111111122222222222222223333",
            &format!("{random} {random}"),
            &format!("{random}\u{e4}"),
        ] {
            assert!(matches!(read(text), Err(SecretError::Weak { .. })), "{text}");
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_actor_of_any_alphabet_arrives() {
        let mut request = Request::new(());
        set_actor(&mut request, "Zoë <zoe@example.com>");
        assert_eq!(actor(&request), "Zoë <zoe@example.com>");
        assert_eq!(actor(&Request::new(())), "");
        assert_eq!(author(&request).subject, "Zoë <zoe@example.com>");
        let full = Author { subject: "Zoë".into(), address: "192.0.2.7".into(), ..Author::default() };
        set_author(&mut request, &full);
        assert_eq!(author(&request), full);
        assert_eq!(unchanged_since(&request), None);
        set_unchanged_since(&mut request, u64::MAX);
        assert_eq!(unchanged_since(&request), Some(u64::MAX));
        assert_eq!(hold(&request), Ok(None));
        let id = KeyId { scope: Digest::ZERO, key: Digest::of(b"key") };
        let held = Hold { id, attempt: RequestId::new() };
        set_hold(&mut request, &held);
        assert_eq!(hold(&request), Ok(Some(held)));
        request.metadata_mut().insert(HOLD_KEY, "mine".parse().unwrap());
        assert!(hold(&request).is_err());
    }
}
