//! What a route changes of headers, and which headers are the platform's own.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::{error::ApiError, v1};

/// The most names of each list.
const MOST: usize = 20;
/// The longest value, in bytes.
const MAX_VALUE: usize = 4_096;

/// Headers that concern one connection or the framing of a message (RFC 9110 7.6.1, RFC 9112 6), or by which the platform
/// says who calls whom.
const OWN: [&str; 17] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-real-ip",
    "x-request-id",
];

/// Whether a route must leave this header alone.
fn is_own(name: &str) -> bool {
    OWN.contains(&name) || ["dunlin-", "x-forwarded-"].iter().any(|prefix| name.starts_with(prefix))
}

/// What is changed: first the removals, then what is added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderChanges {
    /// Names.
    pub remove: Vec<String>,
    /// What is added beside others of its name.
    pub add: Vec<AddedHeader>,
}

/// A header that is added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedHeader {
    /// In lower case.
    pub name: String,
    /// Visible ASCII.
    pub value: String,
}

impl HeaderChanges {
    /// Changes these headers.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name.as_str());
        }
        for AddedHeader { name, value } in &self.add {
            // Both have been checked, so that neither is left out.
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
    }

    /// Checks what was sent; `field` is what errors call it.
    pub(super) fn read(field: &str, wire: v1::HeaderChanges) -> Result<Self, ApiError> {
        let (removed, added) = (format!("{field}.remove"), format!("{field}.add"));
        if wire.remove.len() > MOST || wire.add.len() > MOST {
            return Err(ApiError::invalid(field, format!("{field} may remove and add {MOST} headers at most each")));
        }
        let added = |header: v1::AddedHeader| {
            let name = changeable(&added, &header.name)?;
            value(&added, &name, &header.value)?;
            Ok(AddedHeader { name, value: header.value })
        };
        Ok(Self {
            remove: wire.remove.iter().map(|text| changeable(&removed, text)).collect::<Result<_, _>>()?,
            add: wire.add.into_iter().map(added).collect::<Result<_, ApiError>>()?,
        })
    }

    /// The message.
    pub(super) fn to_wire(&self) -> Option<v1::HeaderChanges> {
        let added = |header: &AddedHeader| v1::AddedHeader { name: header.name.clone(), value: header.value.clone() };
        let empty = self.remove.is_empty() && self.add.is_empty();
        (!empty).then(|| v1::HeaderChanges { remove: self.remove.clone(), add: self.add.iter().map(added).collect() })
    }
}

/// The name of a header in lower case.
pub(super) fn header_name(field: &str, text: &str) -> Result<String, ApiError> {
    let shown: String = text.chars().take(80).collect();
    let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|name| name.as_str().len() <= 128);
    let name = name.ok_or_else(|| ApiError::invalid(field, format!("{shown:?} is no name of a header")))?;
    Ok(name.as_str().to_owned())
}

fn changeable(field: &str, text: &str) -> Result<String, ApiError> {
    let name = header_name(field, text)?;
    if is_own(&name) {
        let error = ApiError::invalid(field, format!("the header {name} is the platform's own and can't be changed"));
        return Err(error.hint("leave it out; functions see who calls in x-forwarded-for"));
    }
    Ok(name)
}

fn value(field: &str, name: &str, value: &str) -> Result<(), ApiError> {
    let visible = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && value.trim() == value;
    if visible && value.len() <= MAX_VALUE {
        return Ok(());
    }
    let message = format!(
        "the value of {name} must have visible ASCII characters with spaces between, {MAX_VALUE} bytes at most"
    );
    Err(ApiError::invalid(field, message))
}
