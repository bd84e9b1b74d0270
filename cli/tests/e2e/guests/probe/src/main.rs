//! A guest that does what it is asked to, so that tests can look at the platform from inside.
//!
//! `/fetch?url=...[&host=...]` calls a URL and answers with its body, or with `refused: ...`; `/count` says how many such
//! calls the instance has served before; `/say?cache-control=...` says the time, with such headers; `/headers` lists what
//! reached the guest, without the gateway's word; `/hold?ms=...` answers late, `/between?ms=...` too, with when it began and ended; `/trickle?n=...&ms=...` answers in pieces;
//! `/trailers` echoes body and trailers, and adds a trailer with the body's length, which it announces where its answer is
//! `?late`; anything else is echoed. Asked by a gateway who may call a route, it looks at the credential: `zoe`, `once` and `long` are
//! let in, with the question as claims and the time as principal; `nobody`, `refused` and `unknown` are not; others have it fail.
//! Deployed with `FORWARD_TO` in its environment, it does none of this but passes every request on to that origin.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use wstd::http::body::util::{BodyExt, Full};
use wstd::http::{Body, Client, Error, Request, Response};
use wstd::time::Duration;

/// Calls of `/count` that this instance has served.
static SERVED: AtomicU32 = AtomicU32::new(0);

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    if request.headers().contains_key("dunlin-authorizer-route") {
        return authorize(request).await;
    }
    if let Ok(origin) = std::env::var("FORWARD_TO") {
        return forward(request, &origin).await;
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let number = |name: &str| parameter(&query, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    match request.uri().path() {
        "/fetch" => Ok(match fetch(&query).await {
            Ok(response) => response,
            Err(error) => Response::new(format!("refused: {error:?}").into()),
        }),
        "/count" => Ok(Response::new(SERVED.fetch_add(1, Relaxed).to_string().into())),
        "/headers" => Ok(Response::new(headers(&request).into())),
        "/hold" => {
            wstd::task::sleep(Duration::from_millis(number("ms"))).await;
            Ok(Response::new("held".to_owned().into()))
        }
        "/between" => {
            let began = now();
            wstd::task::sleep(Duration::from_millis(number("ms"))).await;
            Ok(Response::new(format!("{began} {}", now()).into()))
        }
        "/say" => say(&query),
        "/trailers" => with_trailers(request, query == "late").await,
        "/trickle" => Ok(Response::new(trickle(number("n"), number("ms")))),
        _ => Ok(Response::new(request.into_body())),
    }
}

/// Nanoseconds since 1970.
fn now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// Says whether a caller may call.
async fn authorize(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let question = String::from_utf8_lossy(&request.body_mut().contents().await?).into_owned();
    let credential = question.strip_prefix(r#"{"credential":""#).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    let now = now();
    let yes = |more: &str| format!(r#"{{"allow":true,"principal":"{credential} {now}"{more}}}"#);
    let (status, answer) = match credential {
        "zoe" => (200, yes(&format!(r#","claims":{{"question":{question}}}"#))),
        "once" => (200, yes(r#","ttl_seconds":0"#)),
        "long" => (200, yes(r#","ttl_seconds":3600"#)),
        "nobody" => (200, r#"{"allow":false}"#.to_owned()),
        "refused" => (403, String::new()),
        "unknown" => (401, "guest's own words".to_owned()),
        "nonsense" => (200, r#"{"allow":"yes"}"#.to_owned()),
        "broken" => (500, r#"{"allow":true}"#.to_owned()),
        "huge" => (200, yes(&" ".repeat(20_000))),
        _ => std::process::abort(),
    };
    Ok(Response::builder().status(status).body(answer.into())?)
}

/// Calls the URL and passes on its status and body.
async fn fetch(query: &str) -> Result<Response<Body>, Error> {
    let mut request = Request::get(parameter(query, "url").unwrap_or_default());
    if let Some(host) = parameter(query, "host") {
        request = request.header("host", host);
    }
    let mut response = Client::new().send(request.body(Body::empty())?).await?;
    let body = response.body_mut().contents().await?.to_vec();
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok(Response::builder().header("x-upstream-status", response.status().as_u16()).body(text.into())?)
}

/// What another server answers to the same request: headers of the connection aside, nothing is changed.
async fn forward(request: Request<Body>, origin: &str) -> Result<Response<Body>, Error> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("{origin}{path}").parse()?;
    for name in ["host", "connection", "content-length", "transfer-encoding"] {
        head.headers.remove(name);
    }
    let mut response = Client::new().send(Request::from_parts(head, body)).await?;
    if response.status().as_u16() == 304 {
        // A host holds functions to the length that they announce, and this one is another answer's.
        response.headers_mut().remove("content-length");
    }
    Ok(response)
}

/// An answer that is another one each time, with the headers of the query.
fn say(query: &str) -> Result<Response<Body>, Error> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut response = Response::builder();
    for name in ["cache-control", "etag", "vary"] {
        if let Some(value) = parameter(query, name) {
            response = response.header(name, value);
        }
    }
    Ok(response.body(now.as_nanos().to_string().into())?)
}

/// Every header, a line each.
fn headers(request: &Request<Body>) -> String {
    request.headers().iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))).collect()
}

/// `n` pieces, `ms` milliseconds apart.
fn trickle(n: u64, ms: u64) -> Body {
    let pieces = futures_lite::stream::unfold(0, move |i| async move {
        if i >= n {
            return None;
        }
        wstd::task::sleep(Duration::from_millis(ms)).await;
        Some((format!("piece {i}\n").into_bytes(), i + 1))
    });
    Body::from_stream(pieces)
}

/// The body and the trailers of a request, with `x-length` after them; `late`, its head goes out well before.
async fn with_trailers(request: Request<Body>, late: bool) -> Result<Response<Body>, Error> {
    let collected = request.into_body().into_boxed_body().collect().await?;
    let mut trailers = collected.trailers().cloned().unwrap_or_default();
    let data = collected.to_bytes();
    trailers.insert("x-length", data.len().into());
    let body = Full::new(data).with_trailers(async move {
        if late {
            wstd::task::sleep(Duration::from_millis(200)).await;
        }
        Some(Ok(trailers))
    });
    let head = if late { Response::builder().header("trailer", "x-asked, x-length") } else { Response::builder() };
    Ok(head.body(Body::from_http_body(body))?)
}

/// A parameter of the query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut decoded = Vec::new();
    let mut bytes = pair.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                decoded.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            other => decoded.push(other),
        }
    }
    String::from_utf8(decoded).ok()
}
