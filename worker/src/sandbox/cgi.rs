//! CGI (RFC 3875) as far as a command needs it: the request as environment variables, and the head of a response. Pure
//! functions; `run/command.rs` moves the bytes.

use bytes::{Buf, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, request};

use super::call::Origin;

/// Most bytes before the empty line that ends the head.
pub(super) const MAX_HEAD_BYTES: usize = 64 << 10;

/// The variables of RFC 3875, 4.1. No variable comes from the host.
pub(super) fn environment(parts: &request::Parts) -> Vec<(String, String)> {
    let authority = authority(parts);
    let (remote_address, base_path) =
        parts.extensions.get::<Origin>().map_or(("", ""), |origin| (&*origin.remote_address, &*origin.base_path));
    let (name, port) = split_port(&authority, parts.uri.scheme_str() == Some("https"));
    let path = parts.uri.path();
    let mut variables = vec![
        ("GATEWAY_INTERFACE".to_owned(), "CGI/1.1".to_owned()),
        ("SERVER_SOFTWARE".to_owned(), "dunlin".to_owned()),
        ("SERVER_PROTOCOL".to_owned(), format!("{:?}", parts.version)),
        ("SERVER_NAME".to_owned(), name.to_owned()),
        ("SERVER_PORT".to_owned(), port.to_owned()),
        ("REQUEST_METHOD".to_owned(), parts.method.to_string()),
        (
            "REQUEST_URI".to_owned(),
            format!("{base_path}{}", parts.uri.path_and_query().map_or(path, |all| all.as_str())),
        ),
        ("REMOTE_ADDR".to_owned(), remote_address.to_owned()),
        ("SCRIPT_NAME".to_owned(), percent_decode(base_path)),
        ("PATH_INFO".to_owned(), percent_decode(path)),
        ("QUERY_STRING".to_owned(), parts.uri.query().unwrap_or_default().to_owned()),
    ];
    for (variable, field) in [("CONTENT_LENGTH", header::CONTENT_LENGTH), ("CONTENT_TYPE", header::CONTENT_TYPE)] {
        if let Some(value) = parts.headers.get(field) {
            variables.push((variable.to_owned(), text(value)));
        }
    }
    variables.extend(parts.headers.keys().filter_map(|name| field_variable(name, &parts.headers)));
    variables
}

/// `HTTP_...` for one header. `Proxy` would become the proxy of many HTTP clients (httpoxy); a name with an underscore could
/// pass for another header.
fn field_variable(name: &HeaderName, headers: &HeaderMap) -> Option<(String, String)> {
    let skipped = [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONNECTION, header::TRANSFER_ENCODING];
    if skipped.contains(name) || name == "proxy" || name.as_str().contains('_') {
        return None;
    }
    let separator = if name == header::COOKIE { "; " } else { ", " };
    let values: Vec<String> = headers.get_all(name).iter().map(text).collect();
    Some((format!("HTTP_{}", name.as_str().to_uppercase().replace('-', "_")), values.join(separator)))
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn authority(parts: &request::Parts) -> String {
    match parts.uri.authority() {
        Some(authority) => authority.as_str().to_owned(),
        None => parts.headers.get(header::HOST).map(text).unwrap_or_default(),
    }
}

/// Splits `host:port`, taking the scheme's port where none is given.
fn split_port(authority: &str, https: bool) -> (&str, &str) {
    let default = if https { "443" } else { "80" };
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (authority, default),
    }
}

/// Decodes `%XX`; what is not valid UTF-8 afterwards is replaced, and a zero byte, which no variable can hold, stays encoded.
fn percent_decode(path: &str) -> String {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.filter(|_| first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|byte| *byte != 0)
        {
            Some(byte) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Takes the head off the front of `buffer` once it is complete. None means that more bytes are needed.
pub(super) fn take_head(buffer: &mut BytesMut) -> Result<Option<(StatusCode, HeaderMap)>, String> {
    let Some((head_length, total)) = find_end(buffer) else {
        return if buffer.len() > MAX_HEAD_BYTES {
            Err(format!("CGI headers of more than {MAX_HEAD_BYTES} bytes"))
        } else {
            Ok(None)
        };
    };
    if head_length > MAX_HEAD_BYTES {
        return Err(format!("CGI headers of more than {MAX_HEAD_BYTES} bytes"));
    }
    let head = buffer.split_to(head_length);
    buffer.advance(total - head_length);
    parse_head(&head).map(Some)
}

/// The length of the head's lines and of the head with its empty line.
fn find_end(buffer: &[u8]) -> Option<(usize, usize)> {
    let mut start = 0;
    for (index, byte) in buffer.iter().enumerate() {
        if *byte != b'\n' {
            continue;
        }
        let line = buffer.get(start..index).unwrap_or_default();
        if line.is_empty() || line == b"\r" {
            return Some((start, index + 1));
        }
        start = index + 1;
    }
    None
}

/// Reads the lines of a head (RFC 3875, 6.2 and 6.3).
fn parse_head(head: &[u8]) -> Result<(StatusCode, HeaderMap), String> {
    let mut status = None;
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        if line.is_empty() {
            continue;
        }
        let (name, value) = parse_line(line)?;
        if name != "status" {
            headers.append(name, value);
        } else if status.replace(parse_status(&value)?).is_some() {
            return Err("more than one Status line".to_owned());
        }
    }
    if status.is_none() && headers.is_empty() {
        return Err(
            "no CGI header: expected Content-Type, Status or Location before the empty line (RFC 3875, 6.3)".to_owned()
        );
    }
    // A redirect without a status (6.2.3 and 6.2.4).
    let default = if headers.contains_key(header::LOCATION) { StatusCode::FOUND } else { StatusCode::OK };
    Ok((status.unwrap_or(default), headers))
}

fn parse_line(line: &[u8]) -> Result<(HeaderName, HeaderValue), String> {
    let shown = || excerpt(line);
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or_else(|| format!("expected CGI headers and an empty line before the body (RFC 3875), got {}", shown()))?;
    let (name, value) = line.split_at(colon);
    let name = HeaderName::from_bytes(name).map_err(|_| format!("invalid header name in {}", shown()))?;
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    let value = HeaderValue::from_bytes(value).map_err(|_| format!("invalid header value in {}", shown()))?;
    Ok((name, value))
}

/// Reads `404 Not Found`; the words are ignored.
fn parse_status(value: &HeaderValue) -> Result<StatusCode, String> {
    let code = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
    StatusCode::from_bytes(code).map_err(|_| format!("invalid Status {}", excerpt(value.as_bytes())))
}

/// The start of some bytes, safe to show.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    let start = bytes.get(..60).unwrap_or(bytes);
    format!("{:?}", String::from_utf8_lossy(start))
}

#[cfg(test)]
mod tests;
