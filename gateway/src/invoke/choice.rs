//! Which version a call goes to, and by what its caller is told apart: by key or token, else by a header, else by a cookie.
//!
//! Where one version has all calls, nothing of this is looked at. How callers are spread is in `routes/split.rs`.

use std::sync::Arc;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{AliasId, InvocationId, VersionNumber},
};
use http::{HeaderMap, HeaderValue, header};

use crate::{
    auth::CallerIdentity,
    routes::{
        Function, Version,
        split::{Split, Who},
    },
};

/// The cookie that tells callers apart.
const COOKIE: &str = "dunlin-caller";
/// The length of its value: 128 random bits in hexadecimal digits.
const COOKIE_LEN: usize = 32;
/// How long browsers keep it, in seconds.
const COOKIE_AGE: u32 = 30 * 24 * 3600;

/// Which version, or how to find out.
#[derive(Debug)]
pub(super) enum Choice {
    /// The one that has all calls.
    One(Arc<Version>),
    /// One that a developer looks at; whether it is there is told to developers alone.
    Preview(VersionNumber),
    /// It depends on who calls.
    Divided(Arc<Split>),
}

/// The version that a call goes to.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) version: Arc<Version>,
    /// What the caller is given to be known by.
    pub(super) cookie: Option<HeaderValue>,
}

/// What is known of a caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// How it proved itself; nothing where it had not to.
    pub(super) identity: Option<&'a CallerIdentity>,
    /// What it sent.
    pub(super) headers: &'a HeaderMap,
    /// Whether it came by HTTPS.
    pub(super) secure: bool,
    /// The call.
    pub(super) id: InvocationId,
}

impl Choice {
    /// The choice among the versions of an alias, or of the function itself.
    pub(super) fn of(function: &Function, alias: Option<&AliasId>) -> Result<Self, ApiError> {
        let split = function.split(alias).ok_or_else(|| {
            ApiError::new(ErrorCode::NotFound, "the function does not have the alias that the route names")
        })?;
        if let Some(only) = split.only() {
            return function.version(only).cloned().map(Self::One).ok_or_else(nobody);
        }
        if split.is_empty() { Err(nobody()) } else { Ok(Self::Divided(split.clone())) }
    }

    /// The version that a developer looks at.
    pub(super) fn previewed(&self) -> Option<VersionNumber> {
        match self {
            Self::Preview(number) => Some(*number),
            Self::One(_) | Self::Divided(_) => None,
        }
    }

    /// Whether only developers may call.
    pub(super) fn is_preview(&self) -> bool {
        matches!(self, Self::Preview(_))
    }

    /// The version for a caller.
    pub(super) fn settle(self, function: &Function, caller: Known<'_>) -> Result<Chosen, ApiError> {
        let (number, cookie) = match self {
            Self::One(version) => return Ok(Chosen { version, cookie: None }),
            Self::Preview(number) => (Some(number), None),
            Self::Divided(split) => choose(&split, caller),
        };
        let number = number.ok_or_else(nobody)?;
        let missing = || {
            let error = ApiError::not_found(format!("version {number} of function {}", function.name.function));
            error.hint("versions that are old and have no calls are deleted; those that there are: dunlin versions")
        };
        Ok(Chosen { version: function.version(number).cloned().ok_or_else(missing)?, cookie })
    }
}

/// The version of a division that a caller gets, with the cookie that it gets where it has nothing else.
fn choose(split: &Split, caller: Known<'_>) -> (Option<VersionNumber>, Option<HeaderValue>) {
    if let Some(who) = proved(caller.identity).or_else(|| sent(split, caller.headers)) {
        return (split.choose(who), None);
    }
    if !split.sticky.cookie {
        return (split.choose(Who::Request(caller.id)), None);
    }
    let value = format!("{:032x}", rand::random::<u128>());
    let secure = if caller.secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; Max-Age={COOKIE_AGE}; HttpOnly; SameSite=Lax{secure}");
    (split.choose(Who::Cookie(value.as_bytes())), HeaderValue::from_str(&cookie).ok())
}

fn proved(identity: Option<&CallerIdentity>) -> Option<Who<'_>> {
    match identity? {
        CallerIdentity::Key(id) => Some(Who::Key(id)),
        CallerIdentity::Token(token) => {
            Some(Who::Token { issuer: &token.principal.issuer, subject: &token.principal.subject })
        }
        CallerIdentity::Authorized { by, subject } => {
            subject.as_deref().map(|subject| Who::Token { issuer: by.as_str(), subject })
        }
    }
}

fn sent<'a>(split: &Split, headers: &'a HeaderMap) -> Option<Who<'a>> {
    let header = split.sticky.header.as_ref().and_then(|name| headers.get(name));
    let header = header.map(HeaderValue::as_bytes).filter(|value| !value.is_empty());
    header.map(Who::Header).or_else(|| cookie(headers).filter(|_| split.sticky.cookie).map(Who::Cookie))
}

/// Whether a request has a cookie beside the one that tells callers apart.
pub(super) fn has_other_cookie(headers: &HeaderMap) -> bool {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let mut names = pairs.map(|pair| pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii());
    names.any(|name| !name.is_empty() && name != COOKIE.as_bytes())
}

/// The value of the cookie, where it is one that a gateway has given (RFC 6265 4.2.1).
fn cookie(headers: &HeaderMap) -> Option<&[u8]> {
    let mut pairs =
        headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(given)
}

/// The value of a pair that a gateway has given.
fn given(pair: &[u8]) -> Option<&[u8]> {
    let value = pair.trim_ascii().strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"=")?;
    (value.len() == COOKIE_LEN && value.iter().all(u8::is_ascii_hexdigit)).then_some(value)
}

fn nobody() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "the function has no version that takes calls").hint("deploy one")
}

#[cfg(test)]
mod tests {
    use dunlin_proto::ids::FunctionUid;

    use super::*;
    use crate::routes::split::Sticky;

    fn split(header: Option<&str>, cookie: bool) -> Split {
        let sticky = Sticky { header: header.map(|name| name.parse().unwrap()), cookie };
        Split::new(FunctionUid::new(), "", 1, [1, 2].map(|number: u32| (number.try_into().unwrap(), 50)), sticky)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn chosen(split: &Split, identity: Option<&CallerIdentity>, headers: &HeaderMap) -> (u32, Option<String>) {
        let caller = Known { identity, headers, secure: false, id: InvocationId::new() };
        let (version, cookie) = choose(split, caller);
        (version.unwrap().get(), cookie.map(|cookie| cookie.to_str().unwrap().to_owned()))
    }

    fn versions(split: &Split, identity: Option<&CallerIdentity>, headers: &HeaderMap) -> usize {
        let versions: std::collections::HashSet<_> = (0..64).map(|_| chosen(split, identity, headers).0).collect();
        versions.len()
    }

    #[test]
    fn the_best_that_is_known_of_a_caller_decides() {
        let zoe = CallerIdentity::Authorized { by: "ask".parse().unwrap(), subject: Some("zoe".into()) };
        let sent = headers(&[("x-user", "zoe"), ("cookie", "a=b; dunlin-caller=0123456789abcdef0123456789abcdef")]);
        let (by_header, by_cookie, by_nothing) = (split(Some("x-user"), false), split(None, true), split(None, false));
        assert_eq!(versions(&by_nothing, None, &sent), 2, "each request is somebody else");
        assert_eq!(versions(&by_nothing, Some(&zoe), &HeaderMap::new()), 1);
        assert_eq!(versions(&by_header, None, &sent), 1);
        assert_eq!(versions(&by_header, None, &headers(&[("x-user", "")])), 2);
        assert_eq!(versions(&by_cookie, None, &sent), 1);
        // A header without a meaning here changes nothing for who has proved who it is.
        let other = headers(&[("x-user", "somebody")]);
        assert_eq!(chosen(&by_header, Some(&zoe), &other), chosen(&by_header, Some(&zoe), &sent));
    }

    #[test]
    fn who_has_no_cookie_gets_one_that_is_kept_to() {
        let split = split(None, true);
        for bad in [
            "",
            "dunlin-caller=1",
            "xdunlin-caller=0123456789abcdef0123456789abcdef",
            "dunlin-caller=0123456789abcdef0123456789abcdeg",
        ] {
            assert!(chosen(&split, None, &headers(&[("cookie", bad)])).1.is_some(), "{bad:?}");
        }
        for _ in 0..32 {
            let (version, cookie) = chosen(&split, None, &HeaderMap::new());
            let cookie = cookie.unwrap();
            assert!(cookie.ends_with("; HttpOnly; SameSite=Lax"), "{cookie}");
            let kept = headers(&[("cookie", cookie.split(';').next().unwrap())]);
            assert_eq!(chosen(&split, None, &kept), (version, None));
        }
    }
}
