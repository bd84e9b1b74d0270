//! The credential that an authorizer is asked about: where a request has it, and how it is taken away again. A request with more
//! than one is refused, since the function behind might look at another one than the authorizer.

use std::borrow::Cow;

use dunlin_proto::{ApiError, ErrorCode, route::CredentialSource};
use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};
use url::form_urlencoded;

use super::super::target;

/// The one credential of a request. That of a query is what whoever wrote the query meant (`application/x-www-form-urlencoded`).
pub(in crate::invoke) fn find<'p>(source: &CredentialSource, parts: &'p Parts) -> Result<Cow<'p, str>, ApiError> {
    let found = match source {
        CredentialSource::Header(name) => only(texts(&parts.headers, name)?.into_iter().map(Cow::Borrowed)),
        CredentialSource::Cookie(name) => {
            let lines = texts(&parts.headers, header::COOKIE.as_str())?;
            only(lines.into_iter().flat_map(pairs).filter_map(|pair| value(pair, name)).map(Cow::Borrowed))
        }
        CredentialSource::Query(name) => {
            only(parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| parameter(pair, name)))
        }
    };
    let error = |what: &str| ApiError::new(ErrorCode::Unauthenticated, format!("the request has {what}"));
    match found {
        Found::One(text) if text.contains(char::REPLACEMENT_CHARACTER) => {
            Err(ApiError::new(ErrorCode::Unauthenticated, "the credential is not UTF-8 text"))
        }
        Found::One(text) => Ok(text),
        Found::None => Err(error("no credential").hint(format!("send it in {}", place(source)))),
        Found::Several => Err(error("more than one credential").hint(format!("send one in {}", place(source)))),
    }
}

enum Found<'a> {
    None,
    One(Cow<'a, str>),
    Several,
}

fn only<'a>(mut values: impl Iterator<Item = Cow<'a, str>>) -> Found<'a> {
    match (values.next(), values.next()) {
        (None, _) => Found::None,
        (Some(empty), None) if empty.is_empty() => Found::None,
        (Some(one), None) => Found::One(one),
        _ => Found::Several,
    }
}

fn texts<'h>(headers: &'h HeaderMap, name: &str) -> Result<Vec<&'h str>, ApiError> {
    let text = |value: &'h HeaderValue| {
        let error = || ApiError::new(ErrorCode::Unauthenticated, "the credential is not ASCII text");
        value.to_str().map_err(|_| error())
    };
    headers.get_all(name).iter().map(text).collect()
}

/// The pairs of a `Cookie` header (RFC 6265 4.2.1).
fn pairs(line: &str) -> impl Iterator<Item = &str> {
    line.split(';').map(str::trim).filter(|pair| !pair.is_empty())
}

/// The value of a pair with this name.
fn value<'a>(pair: &'a str, name: &str) -> Option<&'a str> {
    let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
    (known.trim() == name).then(|| value.trim())
}

/// The value of a query's pair with this name.
fn parameter<'a>(pair: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(pair.as_bytes()).next().filter(|(known, _)| known == name).map(|(_, value)| value)
}

fn place(source: &CredentialSource) -> String {
    match source {
        CredentialSource::Header(name) => format!("the header {name}"),
        CredentialSource::Cookie(name) => format!("the cookie {name}"),
        CredentialSource::Query(name) => format!("the parameter {name} of the query"),
    }
}

/// Takes it out of the headers.
pub(in crate::invoke) fn remove(source: &CredentialSource, headers: &mut HeaderMap) {
    match source {
        CredentialSource::Header(name) => {
            headers.remove(name.as_str());
        }
        CredentialSource::Cookie(name) => remove_cookie(name, headers),
        CredentialSource::Query(_) => {}
    }
}

fn remove_cookie(name: &str, headers: &mut HeaderMap) {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let others: Vec<_> = lines.flat_map(pairs).filter(|pair| value(pair, name).is_none()).collect();
    let others = HeaderValue::from_str(&others.join("; ")).ok().filter(|others| !others.is_empty());
    let kept: HeaderMap = others.into_iter().map(|others| (header::COOKIE, others)).collect();
    headers.remove(header::COOKIE);
    headers.extend(kept);
}

/// Takes it out of the query.
pub(in crate::invoke) fn without(source: &CredentialSource, uri: Uri) -> Result<Uri, ApiError> {
    let (CredentialSource::Query(name), Some(query)) = (source, uri.query()) else { return Ok(uri) };
    let others: Vec<_> = query.split('&').filter(|pair| parameter(pair, name).is_none()).collect();
    let others = others.join("&");
    target::seen(uri.path(), Some(others.as_str()).filter(|others| !others.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn found(source: &str, uri: &str, fields: &[(&str, &str)]) -> Result<String, String> {
        let found = find(&source.parse().unwrap(), &parts(uri, fields)).map(Cow::into_owned);
        found.map_err(|error| {
            assert_eq!(error.code, ErrorCode::Unauthenticated);
            error.message
        })
    }

    #[test]
    fn a_request_has_one_credential() {
        let (none, several) = (
            Err("the request has no credential".to_owned()),
            Err("the request has more than one credential".to_owned()),
        );
        let one = |text: &str| Ok(text.to_owned());
        for (source, uri, fields, expected) in [
            ("header:x-token", "/", &[("x-token", "a b")][..], one("a b")),
            ("header:x-token", "/", &[], none.clone()),
            ("header:x-token", "/", &[("x-token", "")], none.clone()),
            ("header:x-token", "/", &[("x-token", "a"), ("x-token", "a")], several.clone()),
            ("header:x-token", "/", &[("x-token", ""), ("x-token", "a")], several.clone()),
            ("cookie:s", "/", &[("cookie", "a=b; s=1=2")], one("1=2")),
            ("cookie:s", "/", &[("cookie", "a=b"), ("cookie", "s=1")], one("1")),
            ("cookie:s", "/", &[("cookie", "s=1; s=2")], several.clone()),
            ("cookie:s", "/", &[("cookie", "S=1; ss=2")], none.clone()),
            ("query:t", "/x?a=b&t=c%3D", &[], one("c=")),
            ("query:t", "/x?t=g%6fod", &[], one("good")),
            ("query:t", "/x?%74=a%2Bb+%2F=&T=x", &[], one("a+b /=")),
            ("query:t", "/x?t=%2541%zz", &[], one("%41%zz")),
            ("query:t", "/x?t=%FF", &[], Err("the credential is not UTF-8 text".to_owned())),
            ("query:t", "/x?t", &[], none.clone()),
            ("query:t", "/x?t=1&t=2", &[], several.clone()),
            ("query:t", "/x?t=1&%74=1", &[], several),
            ("query:t", "/x?%2574=1", &[], none),
        ] {
            assert_eq!(found(source, uri, fields), expected, "{source} {uri} {fields:?}");
        }
    }

    #[test]
    fn what_was_used_goes_no_further() {
        let left = |source: &str, uri: &str, fields: &[(&str, &str)]| {
            let (source, mut parts) = (source.parse().unwrap(), parts(uri, fields));
            remove(&source, &mut parts.headers);
            let uri = without(&source, parts.uri).unwrap().to_string();
            let headers: Vec<_> = parts.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
            (uri, headers.join(", "))
        };
        let pair = |uri: &str, headers: &str| (uri.to_owned(), headers.to_owned());
        assert_eq!(left("header:x-token", "/?x-token=1", &[("x-token", "a"), ("b", "c")]), pair("/?x-token=1", "b: c"));
        assert_eq!(left("cookie:s", "/", &[("cookie", "a=b; s=1; c=d")]), pair("/", "cookie: a=b; c=d"));
        assert_eq!(left("cookie:s", "/", &[("cookie", "s=1")]), pair("/", ""));
        assert_eq!(left("query:t", "/x%20y?a=b&t=1&c", &[]), pair("/x%20y?a=b&c", ""));
        assert_eq!(left("query:t", "/?t=1", &[]), pair("/", ""));
        assert_eq!(left("query:t", "/?%74=1&a=%74+b", &[]), pair("/?a=%74+b", ""));
    }
}
