//! Bodies that stream, both ways, and wait for whoever is slower.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};

use crate::harness::{Cluster, connect, eventually, h1, h2, h2_stream};
use tokio::io::AsyncWriteExt;

const SIZE: usize = 1 << 20;

fn pattern() -> Bytes {
    (0..SIZE).map(|index| (index % 251) as u8).collect()
}

/// A body of pieces with a trailer, whose length is not announced.
fn pieces() -> StreamBody<impl futures::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send + Unpin> {
    let whole = pattern();
    let data = (0..SIZE / 10_000 + 1).map(move |n| whole.slice(n * 10_000..SIZE.min((n + 1) * 10_000)));
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let frames = data.map(Frame::data).chain([Frame::trailers(trailers)]).map(Ok);
    StreamBody::new(stream::iter(frames.collect::<Vec<_>>()))
}

#[tokio::test]
async fn a_megabyte_goes_there_and_back_with_trailers() {
    let cluster = Cluster::start().await;
    let address = cluster.functions();
    let uri = "http://functions.test/shop/open/echo";
    let answer = h2(address, Request::post(uri).body(pieces()).unwrap()).await;
    assert_eq!((answer.status, answer.body == pattern()), (200, true));
    assert_eq!(answer.trailers["x-length"], SIZE.to_string());
    assert_eq!(answer.trailers["x-sum"], "7");
    assert!(answer.trailers["server-timing"].to_str().unwrap().contains("run;dur=3.000"), "{:?}", answer.trailers);
    assert!(
        answer.header("server-timing").starts_with("queue;dur=") && !answer.header("server-timing").contains("run")
    );
    let request =
        Request::post("/shop/open/echo").header("host", "h").header("te", "trailers").body(Full::new(pattern()));
    let answer = h1(address, request.unwrap()).await;
    assert_eq!((answer.status, answer.body == pattern()), (200, true));
    assert_eq!(answer.trailers["x-length"], SIZE.to_string());
    assert!(answer.trailers.contains_key("server-timing"));
    // Whoever does not ask for trailers gets none.
    let request = Request::post("/shop/open/echo").header("host", "h").body(Full::new(pattern())).unwrap();
    let answer = h1(address, request).await;
    assert!(answer.body == pattern() && answer.trailers.is_empty());
}

#[tokio::test]
async fn pieces_arrive_as_they_are_sent() {
    let cluster = Cluster::start().await;
    let mut seen = Vec::new();
    // Two of them may come together where the gateway stands still meanwhile, but not every time.
    while !seen.contains(&vec![Bytes::from_static(b"tick"); 3]) {
        assert!(seen.len() < 5, "{seen:?}");
        let request = Request::get("http://h/shop/open/slow-stream").body(Full::<Bytes>::default()).unwrap();
        let mut body = h2_stream(cluster.functions(), request).await.into_body();
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.extend(frame.unwrap().into_data().ok());
        }
        assert_eq!(pieces.concat(), b"tickticktick");
        seen.push(pieces);
    }
}

#[tokio::test]
async fn a_caller_that_does_not_read_holds_the_function_back_and_nobody_else() {
    let cluster = Cluster::start().await;
    let request = Request::get("http://h/shop/open/stream").body(Full::<Bytes>::default()).unwrap();
    let mut slow = h2_stream(cluster.functions(), request).await.into_body();
    let sent = || cluster.workers[0].seen.sent.load(Ordering::SeqCst);
    let mut before = u64::MAX;
    eventually("a standstill", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        std::mem::replace(&mut before, sent()) == sent()
    })
    .await;
    // 256 KiB of credit, the client's window of 2 MiB, and what buffers on the way hold; not the 16 MiB that the function would send.
    assert!(sent() < 4 << 20, "{}", sent());
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    let mut length = 0;
    while let Some(frame) = slow.frame().await {
        length += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(length, 16 << 20);
}

#[tokio::test]
async fn a_function_that_does_not_read_holds_the_caller_back() {
    let cluster = Cluster::start().await;
    let answer = h2(cluster.functions(), Request::post("http://h/shop/open/unread").body(pieces()).unwrap()).await;
    assert_eq!(answer.text(), "unread");
    let received = cluster.workers[0].seen.received.load(Ordering::SeqCst);
    assert!(received <= 256 << 10, "{received}");
}

#[tokio::test]
async fn a_caller_that_leaves_stops_the_function() {
    let cluster = Cluster::start().await;
    let seen = |count: usize| {
        let worker = &cluster.workers[0];
        async move || worker.cancels().len() == count && worker.cancels().iter().all(|reason| reason == "caller_gone")
    };
    // Before the head, over HTTP/1.1.
    let mut stream = connect(cluster.functions()).await;
    stream.write_all(b"GET /shop/open/hang HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    eventually("the call", async || cluster.workers[0].begins().len() == 1).await;
    drop(stream);
    eventually("a cancel", seen(1)).await;
    // In the middle of the answer, over HTTP/2.
    let request = Request::get("http://h/shop/open/stream").body(Full::<Bytes>::default()).unwrap();
    let mut body = h2_stream(cluster.functions(), request).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    eventually("a cancel", seen(2)).await;
    // In the middle of the request.
    let mut stream = connect(cluster.functions()).await;
    stream.write_all(b"POST /shop/open/hang HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    eventually("the call", async || cluster.workers[0].begins().len() == 3).await;
    drop(stream);
    eventually("a cancel", seen(3)).await;
}

#[tokio::test]
async fn a_function_that_fails_in_the_middle_breaks_the_answer_off() {
    let cluster = Cluster::start().await;
    let request = Request::get("http://h/shop/open/late-trap").body(Full::<Bytes>::default()).unwrap();
    let body = h2_stream(cluster.functions(), request).await.into_body();
    assert!(body.collect().await.is_err(), "an answer that is not whole must not look whole");
}
