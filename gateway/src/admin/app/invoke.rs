//! Calls of functions through administration, for developers: any version, with traffic or without.

mod watch;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::InvocationId,
    names::{AliasName, FunctionRef, VersionName},
    v1,
};
use http::{HeaderName, HeaderValue, Method, Uri, header, uri::PathAndQuery};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::{App, name};
use crate::{
    admin::access::Operation,
    auth::Principal,
    dispatch::{CalledBy, Introduced, Invocation, RequestBody, ResponseBody},
    invoke::traced,
    records::{Caller, Came, Phase, Phases, Traced},
    routes::{Function, Version, split::Who},
};
use watch::Watch;

/// The largest body of a call or answer that passes here, in bytes; larger ones stream through the function's address.
const MAX_BODY_BYTES: usize = 6 << 20;

/// Headers that belong to a connection, not to a request (RFC 9110 7.6.1).
const OF_CONNECTIONS: [HeaderName; 6] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE, header::TE, header::HOST];

impl App {
    /// Calls a function and waits for its whole answer.
    pub(crate) async fn invoke(
        &self,
        who: &Principal,
        request: v1::InvokeRequest,
    ) -> Result<v1::InvokeResponse, ApiError> {
        let (accepted, mut phases) = (Instant::now(), Phases::default());
        let (wanted, called) = wanted(&request.name)?;
        Operation::Invoke.allow_in(who, &wanted.namespace)?;
        let table = self.context.routes.load();
        let found = table.function(wanted.namespace.as_str(), wanted.function.as_str()).cloned();
        drop(table);
        let function = found.ok_or_else(|| ApiError::not_found(&wanted))?;
        function.check_enabled()?;
        let version = choose(&function, &called, who)?;
        phases.end(Phase::Route, accepted.elapsed());
        function.quota.limits.admit(&self.context.borrowing).await?;
        phases.end(Phase::Limits, accepted.elapsed());
        let id = InvocationId::new();
        // Who names a version looks at it; whoever does not is a caller like others.
        let address = self.context.config.admin.ip();
        let called_by = (!matches!(called, Wanted::Version(_))).then_some(CalledBy { identity: None, address });
        let (mut watch, traces) = (None, &self.context.traces);
        let is_watched = request.trace;
        let mut request = read(request)?;
        let (trace, traced) = if is_watched {
            let (begun, ids) = Watch::begin(request.headers_mut(), traces, &wanted.namespace);
            watch = Some(begun);
            ids
        } else {
            traced(request.headers_mut(), traces, &wanted.namespace)
        };
        let came = Came {
            caller: Caller::Token(Arc::new(who.clone())),
            address: Some(address),
            trace,
            traced: Traced { phases: (traced.span != 0).then(|| Box::new(phases)), ..traced },
            ..Came::default()
        };
        let invocation = Invocation {
            id,
            request,
            introduced: Introduced::default(),
            base_path: String::new(),
            scheme: self.context.config.tls.scheme(),
            authority: self.context.config.functions.to_string(),
            remote_address: self.context.config.admin.ip(),
            request_id: String::new(),
            called_by,
            at_once: None,
            came,
            told: watch.as_mut().and_then(Watch::teller),
            shown: true,
            accepted,
            function,
            version,
        };
        let name = wanted.invocation(id).to_string();
        let unaccounted = || v1::Invocation { name, ..Default::default() };
        let answered = self.called(invocation).await.map(|mut answer| {
            answer.invocation.get_or_insert_with(unaccounted);
            answer
        });
        match watch {
            Some(watch) => watch.seen(answered).await,
            None => answered,
        }
    }

    /// Calls, and waits for the whole answer and what the call cost.
    async fn called(&self, invocation: Invocation) -> Result<v1::InvokeResponse, ApiError> {
        let (head, body) = self.context.dispatcher.invoke(invocation).await?.into_parts();
        let (body, invocation) = collect(body).await?;
        let header = |(name, value): (&HeaderName, &HeaderValue)| v1::HttpHeader {
            name: name.to_string(),
            value: value.as_bytes().to_vec().into(),
        };
        Ok(v1::InvokeResponse {
            status: head.status.as_u16().into(),
            headers: head.headers.iter().map(header).collect(),
            body,
            invocation,
            trace: None,
        })
    }
}

/// Which version is asked for.
enum Wanted {
    /// Whichever the caller falls on.
    Any,
    /// Whichever the caller falls on by an alias.
    Alias(AliasName),
    /// This one.
    Version(VersionName),
}

/// The function that a name means, and what of it.
fn wanted(text: &str) -> Result<(FunctionRef, Wanted), ApiError> {
    if let Ok(version) = text.parse::<VersionName>() {
        return Ok((version.parent(), Wanted::Version(version)));
    }
    if let Ok(alias) = text.parse::<AliasName>() {
        return Ok((alias.parent(), Wanted::Alias(alias)));
    }
    Ok((name::<FunctionRef>("name", text)?, Wanted::Any))
}

/// The version that runs: the one that is named, or the one that whoever calls falls on.
fn choose(function: &Function, wanted: &Wanted, who: &Principal) -> Result<Arc<Version>, ApiError> {
    let split = match wanted {
        Wanted::Version(named) => {
            return function.version(named.number).cloned().ok_or_else(|| ApiError::not_found(named));
        }
        Wanted::Alias(alias) => function.split(Some(&alias.alias)).ok_or_else(|| ApiError::not_found(alias))?,
        Wanted::Any => &function.traffic,
    };
    let none = || {
        ApiError::new(ErrorCode::FailedPrecondition, format!("no version of {} has traffic", function.name))
            .hint("deploy one, or name a version")
    };
    let number = split.choose(Who::Token { issuer: &who.issuer, subject: &who.subject });
    number.and_then(|number| function.version(number)).cloned().ok_or_else(none)
}

/// The request that the function sees.
fn read(message: v1::InvokeRequest) -> Result<http::Request<RequestBody>, ApiError> {
    if message.body.len() > MAX_BODY_BYTES {
        let error = ApiError::new(ErrorCode::PayloadTooLarge, format!("body may have {MAX_BODY_BYTES} bytes at most"));
        return Err(error.hint("call the function at its own address, where bodies stream"));
    }
    let mut request = http::Request::new(RequestBody::whole(message.body.clone()));
    *request.method_mut() = method(&message.method, message.body.is_empty())?;
    *request.uri_mut() = path(&message.path)?;
    for sent in message.headers {
        let (name, value) = header(&sent)?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

fn method(text: &str, no_body: bool) -> Result<Method, ApiError> {
    match text {
        "" if no_body => Ok(Method::GET),
        "" => Ok(Method::POST),
        "CONNECT" => Err(ApiError::invalid("method", "CONNECT is not possible")),
        text => text.parse().map_err(|_| ApiError::invalid("method", format!("{text:?} is no HTTP method"))),
    }
}

fn path(text: &str) -> Result<Uri, ApiError> {
    let text = if text.is_empty() { "/" } else { text };
    let wrong = || ApiError::invalid("path", "path must begin with / and have only characters that a URL may have");
    let path: PathAndQuery = text.starts_with('/').then(|| text.parse().ok()).flatten().ok_or_else(wrong)?;
    Ok(path.into())
}

fn header(sent: &v1::HttpHeader) -> Result<(HeaderName, HeaderValue), ApiError> {
    let wrong = |what: &str| ApiError::invalid("headers", format!("header {:?} {what}", sent.name));
    let name: HeaderName = sent.name.parse().map_err(|_| wrong("has no valid name"))?;
    if OF_CONNECTIONS.contains(&name) {
        return Err(wrong("belongs to the connection and can't be set"));
    }
    let value = HeaderValue::from_bytes(&sent.value).map_err(|_| wrong("has no valid value"))?;
    Ok((name, value))
}

/// The whole answer and the record of the call, where its worker gave an account in time.
async fn collect(mut body: ResponseBody) -> Result<(Bytes, Option<v1::Invocation>), ApiError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > MAX_BODY_BYTES {
            let message = format!("the answer has more than the {MAX_BODY_BYTES} bytes that pass here");
            let error = ApiError::new(ErrorCode::ResponseTooLarge, message);
            return Err(error.hint("call the function at its own address, where bodies stream"));
        }
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), body.record().map(v1::Invocation::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_filled_in() {
        let get = read(v1::InvokeRequest::default()).unwrap();
        assert_eq!((get.method(), get.uri().path()), (&Method::GET, "/"));
        let body = Bytes::from_static(b"x");
        let post = read(v1::InvokeRequest { body, path: "/a?b=c".into(), ..Default::default() }).unwrap();
        assert_eq!((post.method(), post.uri().query()), (&Method::POST, Some("b=c")));
    }

    #[test]
    fn a_request_that_is_none_is_refused_by_field() {
        let header =
            |name: &str, value: &[u8]| vec![v1::HttpHeader { name: name.to_owned(), value: value.to_vec().into() }];
        let of = |change: &dyn Fn(&mut v1::InvokeRequest)| {
            let mut message = v1::InvokeRequest::default();
            change(&mut message);
            read(message).unwrap_err().field.unwrap_or_default()
        };
        assert_eq!(of(&|m| m.method = "GE T".into()), "method");
        assert_eq!(of(&|m| m.method = "CONNECT".into()), "method");
        assert_eq!(of(&|m| m.path = "a".into()), "path");
        assert_eq!(of(&|m| m.path = "/a b".into()), "path");
        assert_eq!(of(&|m| m.path = "http://169.254.169.254/".into()), "path");
        assert_eq!(of(&|m| m.headers = header("a b", b"")), "headers");
        assert_eq!(of(&|m| m.headers = header("a", b"\r\nb: c")), "headers");
        assert_eq!(of(&|m| m.headers = header("Transfer-Encoding", b"chunked")), "headers");
        assert_eq!(of(&|m| m.body = vec![0; MAX_BODY_BYTES + 1].into()), "");
    }
}
