//! Calls of functions as JSON: what the page "Test" does, with the same bounds. How a function is called is `app/invoke.rs`'s.

use axum::{Json, extract::State};
use base64::{Engine, prelude::BASE64_STANDARD};
use dunlin_proto::{names::FunctionRef, v1};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::{IntoResponses, ToSchema};

use super::{
    Answer,
    body::Body,
    doc::{self, Refused, Unchanged},
    fields::{items, maybe_whole, text},
};
use crate::admin::{
    app::App,
    model::Invocation,
    params::{FunctionIds, Named},
    session::Caller,
};

/// Characters of a path and its query.
const MOST_PATH: usize = 8_192;
/// Characters of a header's name.
const MOST_NAME: usize = 128;

/// The methods that are offered; others are for gRPC and the command.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum TestMethod {
    #[default]
    Get,
    Post,
    Put,
    Patch,
    Delete,
    Head,
    Options,
}

impl TestMethod {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

/// A header of a call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SentHeader {
    /// Its name; one that belongs to a connection, such as `host`, can't be set.
    #[serde(deserialize_with = "header_name")]
    #[schema(pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 128, example = "accept")]
    name: String,
    /// Its value, in printable ASCII.
    #[serde(deserialize_with = "header_value")]
    #[schema(pattern = "^[ -~]*$", max_length = 8_192, example = "text/html")]
    value: String,
}

/// What to call it with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestFunction {
    /// Left out, GET.
    #[serde(default)]
    #[schema(required = false)]
    method: TestMethod,
    /// Path and query that the function sees; left out, `/`.
    #[serde(default = "root", deserialize_with = "path")]
    #[schema(
        pattern = "^/[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*$",
        max_length = 8_192,
        required = false,
        example = "/a?b=c"
    )]
    path: String,
    /// Headers of the request.
    #[serde(default, deserialize_with = "items::<_, _, 0, 100>")]
    #[schema(max_items = 100, required = false)]
    headers: Vec<SentHeader>,
    /// Body of the request, as text. Larger ones than fit into this request, and what is no text, is for the function's own address.
    #[serde(default)]
    #[schema(required = false)]
    body: String,
    /// The version, traffic or not; left out, whichever the traffic goes to.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, { u32::MAX }>")]
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, required = false)]
    version: Option<u32>,
}

/// A header of an answer.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct AnswerHeader {
    /// Its name.
    name: String,
    /// Its value; what is no UTF-8 in it is replaced.
    value: String,
}

/// What the function answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TestedFunction {
    /// HTTP status.
    status: u32,
    /// Headers of the answer.
    headers: Vec<AnswerHeader>,
    /// Body of the answer; null where it is no text.
    body: Option<String>,
    /// Body of the answer in base64, where it is no text; otherwise null.
    body_base64: Option<String>,
    /// What became of the call, and what it cost.
    invocation: Invocation,
}

/// How a call can fail.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it is a part of the document")]
pub(super) enum NotAnswered {
    /// The function failed, or answered more than passes here.
    #[response(status = 502)]
    Failed(doc::Error),
    /// The function took too long.
    #[response(status = 504)]
    Late(doc::Error),
}

fn root() -> String {
    "/".to_owned()
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = text::<D, MOST_PATH>(deserializer)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._~%!$&'()*+,;=:@/?-".contains(&byte);
    match path.starts_with('/') && path.bytes().all(fits) {
        true => Ok(path),
        false => Err(D::Error::custom("path must begin with / and have only characters that a URL may have")),
    }
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = text::<D, MOST_NAME>(deserializer)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match !name.is_empty() && name.bytes().all(fits) {
        true => Ok(name),
        false => Err(D::Error::custom("a header's name must have letters, digits, - and _ only")),
    }
}

fn header_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = text::<D, MOST_PATH>(deserializer)?;
    let plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    plain.then_some(value).ok_or_else(|| D::Error::custom("a header's value must have printable ASCII characters"))
}

impl TestFunction {
    fn into_message(self, function: &FunctionRef) -> v1::InvokeRequest {
        let header = |sent: SentHeader| v1::HttpHeader { name: sent.name, value: sent.value.into_bytes().into() };
        v1::InvokeRequest {
            name: self.version.map_or_else(|| function.to_string(), |number| format!("{function}/versions/{number}")),
            method: self.method.as_str().to_owned(),
            path: self.path,
            headers: self.headers.into_iter().map(header).collect(),
            body: self.body.into(),
            ..Default::default()
        }
    }
}

impl From<v1::InvokeResponse> for TestedFunction {
    fn from(wire: v1::InvokeResponse) -> Self {
        let header = |header: v1::HttpHeader| AnswerHeader {
            name: header.name,
            value: String::from_utf8_lossy(&header.value).into_owned(),
        };
        let (body, body_base64) = match String::from_utf8(wire.body.into()) {
            Ok(text) => (Some(text), None),
            Err(bytes) => (None, Some(BASE64_STANDARD.encode(bytes.as_bytes()))),
        };
        Self {
            status: wire.status,
            headers: wire.headers.into_iter().map(header).collect(),
            body,
            body_base64,
            invocation: wire.invocation.unwrap_or_default().into(),
        }
    }
}

/// Calls a function and answers with its answer, whatever its status, and what the call cost.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/functions/{function}/test",
    tag = "functions",
    params(FunctionIds),
    request_body = TestFunction,
    responses(
        (status = 200, body = TestedFunction, description = "What the function answered"),
        Refused,
        Unchanged,
        NotAnswered,
    ),
)]
pub(super) async fn test_function(
    State(app): State<App>,
    Caller(who): Caller,
    Named(function): Named<FunctionRef>,
    Body(body): Body<TestFunction>,
) -> Answer<TestedFunction> {
    Ok(Json(app.invoke(&who, body.into_message(&function)).await?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Result<v1::InvokeRequest, String> {
        let name = "namespaces/shop/functions/pay".parse().unwrap();
        let body: TestFunction = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Ok(body.into_message(&name))
    }

    #[test]
    fn what_is_left_out_is_a_get_of_whichever_version_has_the_traffic() {
        let request = message("{}").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/"));
        assert_eq!((request.name.as_str(), request.body.len()), ("namespaces/shop/functions/pay", 0));
        let json = r#"{"method": "PUT", "path": "/a?b=c", "headers": [{"name": "x-one", "value": "1 2"}], "body": "ä", "version": 3}"#;
        let request = message(json).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/a?b=c"));
        assert_eq!(
            (request.name.as_str(), &request.body[..]),
            ("namespaces/shop/functions/pay/versions/3", "ä".as_bytes())
        );
        assert_eq!((request.headers[0].name.as_str(), &request.headers[0].value[..]), ("x-one", &b"1 2"[..]));
    }

    #[test]
    fn what_the_document_does_not_allow_is_refused() {
        for bad in [
            r#"{"method": "CONNECT"}"#,
            r#"{"method": "get"}"#,
            r#"{"path": "a"}"#,
            r#"{"path": ""}"#,
            r#"{"path": "/ä"}"#,
            r#"{"path": "/a b"}"#,
            r#"{"headers": [{"name": "", "value": ""}]}"#,
            r#"{"headers": [{"name": "a:b", "value": ""}]}"#,
            r#"{"headers": [{"name": "a", "value": "b\r\nc: d"}]}"#,
            r#"{"headers": [{"name": "a"}]}"#,
            r#"{"version": 0}"#,
            r#"{"body": null}"#,
            r#"{"trace": true}"#,
        ] {
            assert!(message(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_body_is_text_or_base64() {
        let of = |body: &'static [u8]| {
            let answer = TestedFunction::from(v1::InvokeResponse { body: body.into(), ..Default::default() });
            (answer.body, answer.body_base64)
        };
        assert_eq!(of("ä".as_bytes()), (Some("ä".to_owned()), None));
        assert_eq!(of(b""), (Some(String::new()), None));
        assert_eq!(of(&[0xff, 0xfe]), (None, Some("//4=".to_owned())));
    }
}
