//! What an authorizer may answer: a status that refuses, or JSON that says yes or no. Whatever else it says is no verdict.

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::auth::introduction::{self, MAX_CLAIMS};

/// The longest name of a caller.
const MAX_PRINCIPAL: usize = 256;

/// What becomes of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may call.
    Admitted {
        /// Whom the authorizer took it for.
        principal: Option<HeaderValue>,
        /// What else it says, as a JSON object in ASCII.
        claims: Option<HeaderValue>,
    },
    /// It may not.
    Refused,
    /// Nobody knows it.
    Unknown,
}

/// A verdict, and how long it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) verdict: Verdict,
    pub(super) ttl: Duration,
}

impl Ruling {
    /// The bytes of its texts.
    pub(super) fn size(&self) -> u32 {
        let Verdict::Admitted { principal, claims } = &self.verdict else { return 0 };
        let bytes = [principal, claims].into_iter().flatten().map(HeaderValue::len).sum::<usize>();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The JSON. A name that it does not have is a mistake, and a mistake lets nobody in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    allow: bool,
    #[serde(default)]
    principal: String,
    #[serde(default)]
    claims: Map<String, Value>,
    ttl_seconds: Option<u64>,
}

/// Reads an answer; a verdict counts for `most` at the longest.
pub(super) fn read(status: u16, body: &[u8], most: Duration) -> Result<Ruling, String> {
    let ruling = |verdict| Ruling { verdict, ttl: most };
    match status {
        200 => {}
        401 => return Ok(ruling(Verdict::Unknown)),
        403 => return Ok(ruling(Verdict::Refused)),
        other => {
            return Err(format!("an authorizer answers with status 200, 401 or 403, and this one did with {other}"));
        }
    }
    let said: Said =
        serde_json::from_slice(body).map_err(|error| format!("its answer is not the JSON it must be: {error}"))?;
    let ttl = said.ttl_seconds.map_or(most, |seconds| Duration::from_secs(seconds).min(most));
    if !said.allow {
        return Ok(Ruling { verdict: Verdict::Refused, ttl });
    }
    Ok(Ruling {
        verdict: Verdict::Admitted { principal: principal(&said.principal)?, claims: claims(&said.claims)? },
        ttl,
    })
}

fn principal(text: &str) -> Result<Option<HeaderValue>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let plain =
        text.len() <= MAX_PRINCIPAL && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    let value = HeaderValue::from_str(text).ok().filter(|_| plain);
    let error = || format!("principal must have printable ASCII characters, {MAX_PRINCIPAL} at most");
    value.map(Some).ok_or_else(error)
}

fn claims(claims: &Map<String, Value>) -> Result<Option<HeaderValue>, String> {
    if claims.is_empty() {
        return Ok(None);
    }
    let value = introduction::claims(claims);
    value.map(Some).ok_or_else(|| format!("claims may have {MAX_CLAIMS} bytes of JSON at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(60);

    fn admitted(principal: &str, claims: &str, ttl: u64) -> Result<Ruling, String> {
        let value = |text: &str| (!text.is_empty()).then(|| HeaderValue::from_str(text).unwrap());
        let verdict = Verdict::Admitted { principal: value(principal), claims: value(claims) };
        Ok(Ruling { verdict, ttl: Duration::from_secs(ttl) })
    }

    #[test]
    fn an_answer_admits_or_refuses() {
        let refused = |verdict, ttl| Ok(Ruling { verdict, ttl: Duration::from_secs(ttl) });
        for (status, body, expected) in [
            (200, r#"{"allow": true}"#, admitted("", "", 60)),
            (200, r#"{"allow": true, "principal": "zoe", "ttl_seconds": 5}"#, admitted("zoe", "", 5)),
            (200, r#"{"allow": true, "ttl_seconds": 3600}"#, admitted("", "", 60)),
            (
                200,
                r#"{"allow": true, "claims": {"name": ["Zoë\n🦤", 1]}}"#,
                admitted("", r#"{"name":["Zo\u00eb\n\ud83e\udda4",1]}"#, 60),
            ),
            (200, r#"{"allow": false, "ttl_seconds": 0}"#, refused(Verdict::Refused, 0)),
            (401, "whatever", refused(Verdict::Unknown, 60)),
            (403, "", refused(Verdict::Refused, 60)),
        ] {
            assert_eq!(read(status, body.as_bytes(), MOST), expected, "{status} {body}");
        }
    }

    #[test]
    fn whatever_else_it_says_lets_nobody_in() {
        let long = format!(r#"{{"allow": true, "claims": {{"a": "{}"}}}}"#, "x".repeat(MAX_CLAIMS));
        for (status, body) in [
            (200, ""),
            (200, "true"),
            (200, "{}"),
            (200, r#"{"allow": "true"}"#),
            (200, r#"{"allow": 1}"#),
            (200, r#"{"allow": null}"#),
            (200, r#"{"allow": false, "allow": true}"#),
            (200, r#"{"allow": true, "ttl": 5}"#),
            (200, r#"{"allow": true, "ttl_seconds": -1}"#),
            (200, r#"{"allow": true, "principal": "a\r\nb: c"}"#),
            (200, r#"{"allow": true, "principal": "zoë"}"#),
            (200, r#"{"allow": true, "claims": [1]}"#),
            (200, r#"{"allow": true} {"#),
            (200, long.as_str()),
            (201, r#"{"allow": true}"#),
            (204, ""),
            (302, r#"{"allow": true}"#),
            (500, r#"{"allow": true}"#),
        ] {
            assert!(read(status, body.as_bytes(), MOST).is_err(), "{status} {body}");
        }
    }
}
