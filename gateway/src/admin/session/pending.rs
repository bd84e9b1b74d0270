//! The cookie of a sign-in that is under way at an issuer. What is in it is encrypted (`auth/sign_in/`).
//!
//! It is `SameSite=Lax`, for it has to come along when the issuer sends the browser back, and no longer than that. Where
//! browsers have the dashboard by HTTPS its name has the prefix `__Host-`, so that no other host can set it.

use http::HeaderMap;

use super::cookie;
use crate::auth::{Begun, PENDING_LIFETIME};

const SECURE: &str = "__Host-dunlin-sign-in";
const PLAIN: &str = "dunlin-sign-in";

/// What a browser kept of a sign-in, and whether by HTTPS.
pub(in crate::admin) fn kept(headers: &HeaderMap) -> Option<(String, bool)> {
    let named = |name, secure| cookie(headers, name).map(|value| (value, secure));
    named(SECURE, true).or_else(|| named(PLAIN, false))
}

/// The header that has a browser keep a sign-in.
pub(in crate::admin) fn begin(begun: &Begun) -> String {
    set(&begun.kept, PENDING_LIFETIME.as_secs(), begun.secure)
}

/// The header that has it forget one: an answer counts once.
pub(in crate::admin) fn end(secure: bool) -> String {
    set("", 0, secure)
}

/// Whether a cookie of this name is ours.
pub(super) fn is_name(name: &str) -> bool {
    name == SECURE || name == PLAIN
}

fn set(value: &str, seconds: u64, secure: bool) -> String {
    let (name, more) = if secure { (SECURE, "; Secure") } else { (PLAIN, "") };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &str) -> HeaderMap {
        [(http::header::COOKIE, cookies.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn by_https_the_cookie_is_this_hosts_alone() {
        let begun = |secure| Begun { address: String::new(), kept: "x".into(), secure };
        let secure = begin(&begun(true));
        assert_eq!(secure, "__Host-dunlin-sign-in=x; Path=/; HttpOnly; SameSite=Lax; Max-Age=600; Secure");
        assert!(begin(&begun(false)).starts_with("dunlin-sign-in=x;") && end(true).contains("Max-Age=0; Secure"));
    }

    #[test]
    fn two_cookies_of_one_name_are_none() {
        let both = headers("dunlin-sign-in=a; __Host-dunlin-sign-in=b");
        assert_eq!(kept(&both), Some(("b".into(), true)));
        assert_eq!(kept(&headers("x=y; dunlin-sign-in=a")), Some(("a".into(), false)));
        assert_eq!(kept(&headers("dunlin-sign-in=a; dunlin-sign-in=b")), None);
        assert_eq!(kept(&headers("dunlin-session=a")), None);
    }
}
