//! Header fields as sessions carry them (`internal.v1.Header`), from and to those of HTTP. Which fields pass is decided elsewhere.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::internal::v1::Header;

/// Fields as messages carry them. Their names and values share one piece of memory.
#[must_use]
pub fn to_wire(fields: &HeaderMap) -> Vec<Header> {
    to_wire_with(fields, [&[]; 2])
}

/// Fields as messages carry them, and behind them these, which would otherwise have to find their places in a map.
#[must_use]
pub fn to_wire_with(fields: &HeaderMap, more: [&[(HeaderName, HeaderValue)]; 2]) -> Vec<Header> {
    let count = fields.len() + more.iter().map(|more| more.len()).sum::<usize>();
    if count == 0 {
        return Vec::new();
    }
    let all = || fields.iter().chain(more.into_iter().flatten().map(|(name, value)| (name, value)));
    let length = all().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut text = BytesMut::with_capacity(length);
    for (name, value) in all() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(value.as_bytes());
    }
    let mut text = text.freeze();
    let header = |(name, value): (&HeaderName, &HeaderValue)| Header {
        name: text.split_to(name.as_str().len()),
        value: text.split_to(value.len()),
    };
    let mut wire = Vec::with_capacity(count);
    wire.extend(all().map(header));
    wire
}

/// A field of a message.
///
/// # Errors
/// HTTP does not allow its name or its value.
pub fn from_wire(header: Header) -> Result<(HeaderName, HeaderValue), http::Error> {
    let Header { name, value }: Header = header;
    Ok((HeaderName::from_bytes(&name)?, HeaderValue::from_maybe_shared::<Bytes>(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were() {
        let mut fields = HeaderMap::new();
        for (name, value) in [("x-a", &b"1"[..]), ("x-a", b"\xff"), ("host", b""), ("x-b", b"two words")] {
            fields.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        let back: HeaderMap = to_wire(&fields).into_iter().map(|header| from_wire(header).unwrap()).collect();
        assert_eq!(back["x-b"], "two words");
        assert_eq!(back, fields);
        assert!(to_wire(&HeaderMap::new()).is_empty());
        let more = ["x-c", "x-d"].map(|name| (HeaderName::from_static(name), HeaderValue::from_static("3")));
        let with = to_wire_with(&fields, [&more[..1], &more[1..]]).into_iter().map(|header| from_wire(header).unwrap());
        assert_eq!(with.collect::<HeaderMap>(), {
            fields.extend(more);
            fields
        });
    }

    #[test]
    fn what_http_does_not_allow_is_an_error() {
        let header = |name: &'static str, value: &'static str| Header { name: name.into(), value: value.into() };
        for wrong in [header("a b", ""), header("", "x"), header("a", "\r\n")] {
            assert!(from_wire(wrong.clone()).is_err(), "{wrong:?}");
        }
        let (name, value) = from_wire(Header { name: "x-a".into(), value: Bytes::from_static(b"\xffb") }).unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-a", &b"\xffb"[..]));
    }
}
