//! T10 and T11: what a guest's response may not be.

use super::super::limits::Limits;
use super::*;
use http_body_util::StreamBody;
use tokio::sync::mpsc::Receiver;

fn delivery(limits: Limits, method: Method) -> (Arc<Delivery>, Receiver<ResponseEvent>) {
    let (sink, receiver) = ResponseSink::channel(64);
    (Arc::new(Delivery::new(sink, Arc::new(Meter::new(limits)), method)), receiver)
}

fn head(fields: &[(&str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn body(frames: Vec<Result<http_body::Frame<Bytes>, HttpError>>) -> UnsyncBoxBody<Bytes, HttpError> {
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

fn data(text: &'static str) -> Result<http_body::Frame<Bytes>, HttpError> {
    Ok(http_body::Frame::data(Bytes::from_static(text.as_bytes())))
}

async fn respond(
    limits: Limits,
    method: Method,
    fields: &[(&str, &str)],
    frames: Vec<Result<http_body::Frame<Bytes>, HttpError>>,
) -> (Result<(), Failure>, Vec<ResponseEvent>) {
    let (delivery, mut receiver) = delivery(limits, method);
    let mut response = http::Response::new(body(frames));
    *response.headers_mut() = head(fields);
    let result = delivery.respond(response).await;
    drop(delivery);
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    (result, events)
}

#[test]
fn t11_malformed_heads_are_refused_or_cleaned() {
    let clean = |status: u16, fields: &[(&str, &str)]| {
        clean_head(StatusCode::from_u16(status).unwrap(), head(fields), &Method::GET, 1000).map(|(headers, _)| headers)
    };
    for status in [100, 101, 103, 199, 600, 999] {
        assert_eq!(clean(status, &[]).unwrap_err().code(), "invalid_response", "{status}");
    }
    for length in ["", "-1", "+1", "1 2", "0x10", "1, 1", "99999999999999999999"] {
        assert_eq!(clean(200, &[("content-length", length)]).unwrap_err().code(), "invalid_response", "{length}");
    }
    assert!(clean(200, &[("x", &"v".repeat(1000))]).is_err());
    let mut twice = head(&[("content-length", "1")]);
    twice.append("content-length", "1".parse().unwrap());
    assert!(clean_head(StatusCode::OK, twice, &Method::GET, 1000).is_err());

    let hops = [
        ("connection", "close, X-Secret"),
        ("x-secret", "1"),
        ("keep-alive", "1"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("proxy-connection", "x"),
        ("http2-settings", "x"),
        ("trailer", "x-sum"),
        ("x-kept", "1"),
    ];
    assert_eq!(clean(200, &hops).unwrap(), head(&[("trailer", "x-sum"), ("x-kept", "1")]));
    assert_eq!(clean(204, &[("content-length", "0")]).unwrap(), head(&[]));
}

#[tokio::test]
async fn t11_a_body_must_be_as_long_as_its_head_says() {
    let short = respond(Limits::default(), Method::GET, &[("content-length", "5")], vec![data("abc")]).await;
    assert_eq!(
        short.0.unwrap_err(),
        Failure::InvalidResponse("content-length is 5, but the body has 3 bytes".to_owned())
    );
    assert!(!short.1.contains(&ResponseEvent::End));
    let long = respond(Limits::default(), Method::GET, &[("content-length", "2")], vec![data("abc")]).await;
    assert_eq!(long.0.unwrap_err().code(), "invalid_response");
    let right = respond(Limits::default(), Method::GET, &[("content-length", "3")], vec![data("abc")]).await;
    assert_eq!((right.0, right.1.last()), (Ok(()), Some(&ResponseEvent::End)));
    let no_body = respond(Limits::default(), Method::HEAD, &[("content-length", "3")], vec![]).await;
    assert_eq!(no_body.0, Ok(()));
}

#[tokio::test]
async fn t10_bodies_are_limited_and_empty_frames_are_dropped_and_counted() {
    let limits = Limits { response_body_bytes: 4, ..Limits::default() };
    let (result, _) = respond(limits, Method::GET, &[], vec![data("abc"), data("de")]).await;
    assert_eq!(result, Err(Failure::ResponseTooLarge { limit_bytes: 4 }));

    let (result, events) = respond(Limits::default(), Method::GET, &[], vec![data(""), data("a"), data("")]).await;
    assert_eq!((result, events.len()), (Ok(()), 3));

    let limits = Limits { response_frames: 10, ..Limits::default() };
    let (result, _) = respond(limits, Method::GET, &[], (0..11).map(|_| data("")).collect()).await;
    assert_eq!(result.unwrap_err().code(), "invalid_response");
}

#[tokio::test]
async fn t11_trailers_carry_no_framing_and_no_cookies() {
    let trailers = head(&[("content-length", "3"), ("set-cookie", "a=b"), ("host", "h"), ("x-checksum", "1")]);
    let frames = vec![data("abc"), Ok(http_body::Frame::trailers(trailers))];
    let (_, events) = respond(Limits::default(), Method::GET, &[], frames).await;
    assert!(events.contains(&ResponseEvent::Trailers(head(&[("x-checksum", "1")]))));
}

#[tokio::test]
async fn a_body_that_breaks_off_never_ends() {
    let frames = vec![data("abc"), Err(HttpError::HttpProtocolError)];
    let (result, events) = respond(Limits::default(), Method::GET, &[], frames).await;
    assert_eq!(result.unwrap_err().code(), "invalid_response");
    assert!(!events.contains(&ResponseEvent::End));
}

#[tokio::test]
async fn a_caller_who_left_cancels_but_not_after_the_end() {
    let (delivery, receiver) = delivery(Limits::default(), Method::GET);
    drop(receiver);
    delivery.abandoned().await;
    assert_eq!(delivery.head(StatusCode::OK, HeaderMap::new()).await, Err(Failure::Cancelled));
}

#[tokio::test]
async fn large_pieces_are_split_and_lose_nothing() {
    let frames = vec![Ok(http_body::Frame::data(Bytes::from(vec![7; 200_000])))];
    let (_, events) = respond(Limits::default(), Method::GET, &[], frames).await;
    let sizes: Vec<usize> = events
        .iter()
        .filter_map(|event| match event {
            ResponseEvent::Data(data) => Some(data.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [65536, 65536, 65536, 3392]);
}
