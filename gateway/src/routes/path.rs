//! Paths, read once and in one way (RFC 3986 3.3): what is refused, and how `/{namespace}/{function}/...` divides.
//!
//! The rules. Refused: segments that are `.` or `..` once `%2e` is read, NUL and backslash in any spelling, `%` without
//! two hexadecimal digits. Kept as the caller wrote them: `//`, `%2f`, everything else; the function decides what they
//! mean. What a path is matched by, names and the literals of routes, are its segments, each decoded once: an encoded slash
//! is a part of its segment, and no name has one.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// It does not begin with a slash.
    #[error("the path must begin with a slash")]
    NotAbsolute,
    /// It climbs.
    #[error("the path must not have a segment . or .., in any spelling")]
    DotSegment,
    /// It holds what file systems and parsers disagree on.
    #[error("the path must not have a backslash or NUL, in any spelling")]
    Forbidden,
    /// It can't be decoded.
    #[error("each % of the path must be followed by two hexadecimal digits")]
    Encoding,
}

/// Checks a path against the rules above.
pub(crate) fn check(path: &str) -> Result<(), PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if !path.contains(['%', '\\', '.', '\0']) {
        return Ok(());
    }
    let decoded = decode(path.as_bytes())?;
    if decoded.iter().any(|byte| matches!(byte, Decoded::Plain(b'\\' | 0) | Decoded::Escaped(b'\\' | 0))) {
        return Err(PathError::Forbidden);
    }
    let mut segments = decoded.split(|byte| *byte == Decoded::Plain(b'/'));
    if segments.any(is_dots) { Err(PathError::DotSegment) } else { Ok(()) }
}

/// A byte of a path, and whether it was written as `%xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoded {
    Plain(u8),
    Escaped(u8),
}

fn decode(mut path: &[u8]) -> Result<Vec<Decoded>, PathError> {
    let mut out = Vec::with_capacity(path.len());
    while let [first, rest @ ..] = path {
        if *first != b'%' {
            out.push(Decoded::Plain(*first));
            path = rest;
            continue;
        }
        let mut byte = [0];
        let digits = rest.get(..2).ok_or(PathError::Encoding)?;
        hex::decode_to_slice(digits, &mut byte).map_err(|_| PathError::Encoding)?;
        out.extend(byte.map(Decoded::Escaped));
        path = rest.get(2..).unwrap_or_default();
    }
    Ok(out)
}

/// Whether a segment climbs; an encoded slash ends a segment here, since whoever decodes it later sees one.
fn is_dots(segment: &[Decoded]) -> bool {
    segment.split(|byte| *byte == Decoded::Escaped(b'/')).any(|part| {
        let dot = |byte: &Decoded| matches!(byte, Decoded::Plain(b'.') | Decoded::Escaped(b'.'));
        (1..=2).contains(&part.len()) && part.iter().all(dot)
    })
}

/// The bytes of a segment; every `%` has been found to have its digits.
pub(crate) fn segment(written: &str) -> Cow<'_, [u8]> {
    if !written.contains('%') {
        return Cow::Borrowed(written.as_bytes());
    }
    let mut parts = written.as_bytes().split(|byte| *byte == b'%');
    let mut out = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, &[]));
        let mut byte = [0];
        if hex::decode_to_slice(digits, &mut byte).is_ok() {
            out.extend(byte);
        }
        out.extend(rest);
    }
    Cow::Owned(out)
}

/// A segment that names something. One that is no text stays as it was written, and names nothing.
pub(crate) fn name(written: &str) -> Cow<'_, str> {
    match segment(written) {
        Cow::Borrowed(_) => Cow::Borrowed(written),
        Cow::Owned(bytes) => String::from_utf8(bytes).map_or(Cow::Borrowed(written), Cow::Owned),
    }
}

/// A path that leads to a function.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Addressed<'a> {
    /// The tenant.
    pub(crate) namespace: Cow<'a, str>,
    /// The function's name.
    pub(crate) function: Cow<'a, str>,
    /// `/{namespace}/{function}`, as the caller wrote it.
    pub(crate) base: &'a str,
    /// What the function sees; empty means `/`.
    pub(crate) rest: &'a str,
}

/// Divides `/{namespace}/{function}/...`; nothing where a part is missing or empty.
pub(crate) fn split(path: &str) -> Option<Addressed<'_>> {
    let (namespace, tail) = path.strip_prefix('/')?.split_once('/')?;
    let function = tail.split('/').next()?;
    if namespace.is_empty() || function.is_empty() {
        return None;
    }
    let (base, rest) = path.split_at_checked(2 + namespace.len() + function.len())?;
    Some(Addressed { namespace: name(namespace), function: name(function), base, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t35_paths_are_kept_or_refused() {
        for (path, expected) in [
            ("/", Ok(())),
            ("/a/b/c.txt", Ok(())),
            ("/a//b", Ok(())),
            ("/a/%2f/b", Ok(())),
            ("/a/b%20c/...", Ok(())),
            ("/.well-known/x", Ok(())),
            ("/a/%C3%A4", Ok(())),
            ("/a;b=1/..c", Ok(())),
            ("", Err(PathError::NotAbsolute)),
            ("*", Err(PathError::NotAbsolute)),
            ("/a/..", Err(PathError::DotSegment)),
            ("/a/./b", Err(PathError::DotSegment)),
            ("/a/%2e%2e/b", Err(PathError::DotSegment)),
            ("/a/.%2E/b", Err(PathError::DotSegment)),
            ("/a/..%2fb", Err(PathError::DotSegment)),
            ("/a/x%2f%2e%2e", Err(PathError::DotSegment)),
            ("/a\\b", Err(PathError::Forbidden)),
            ("/a/%5c..", Err(PathError::Forbidden)),
            ("/a/%00", Err(PathError::Forbidden)),
            ("/a/%", Err(PathError::Encoding)),
            ("/a/%2", Err(PathError::Encoding)),
            ("/a/%zz", Err(PathError::Encoding)),
            ("/a/%u002e", Err(PathError::Encoding)),
        ] {
            assert_eq!(check(path), expected, "{path:?}");
        }
    }

    #[test]
    fn a_path_leads_to_a_function() {
        for (path, namespace, function, base, rest) in [
            ("/shop/pay", "shop", "pay", "/shop/pay", ""),
            ("/shop/pay/", "shop", "pay", "/shop/pay", "/"),
            ("/shop/pay//a/b", "shop", "pay", "/shop/pay", "//a/b"),
            ("/sh%6fp/p%61y%402/%61", "shop", "pay@2", "/sh%6fp/p%61y%402", "/%61"),
            ("/shop%2fpay/x", "shop/pay", "x", "/shop%2fpay/x", ""),
            ("/sh%256fp/pay", "sh%6fp", "pay", "/sh%256fp/pay", ""),
            ("/sh%ff/pay", "sh%ff", "pay", "/sh%ff/pay", ""),
        ] {
            let (namespace, function) = (namespace.into(), function.into());
            assert_eq!(split(path), Some(Addressed { namespace, function, base, rest }), "{path}");
        }
        assert!(matches!(split("/shop/pay").unwrap().namespace, Cow::Borrowed(_)), "what needs no room takes none");
        for bad in ["", "/", "/shop", "/shop/", "//pay", "shop/pay"] {
            assert_eq!(split(bad), None, "{bad:?}");
        }
    }
}
