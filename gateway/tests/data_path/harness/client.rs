//! Callers: one connection a request, over HTTP/1.1 or HTTP/2, and raw bytes for what no library would send.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use dunlin_process::shutdown::Shutdown;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// What a caller got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a platform error, whose form is checked.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(json["error"]["request_id"], self.header("x-request-id"), "{json}");
        assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
        json["error"]["code"].as_str().unwrap().to_owned()
    }
}

async fn whole(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: collected.to_bytes(), trailers }
}

/// Sends a request over HTTP/1.1.
pub(crate) async fn h1<B>(address: SocketAddr, request: Request<B>) -> Answer
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    h1_on(connect(address).await, request).await.unwrap()
}

/// The same on a connection.
pub(crate) async fn h1_on<T, B>(stream: T, request: Request<B>) -> hyper::Result<Answer>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    Shutdown::default().spawn(connection);
    Ok(whole(sender.send_request(request).await?).await)
}

/// Sends a request over HTTP/2 on a connection.
pub(crate) async fn h2_on<T, B>(stream: T, request: Request<B>) -> hyper::Result<Answer>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    Shutdown::default().spawn(connection);
    Ok(whole(sender.send_request(request).await?).await)
}

/// Sends a request over HTTP/2; its answer's body has not been read.
pub(crate) async fn h2_stream<B>(address: SocketAddr, request: Request<B>) -> Response<Incoming>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(connect(address).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    Shutdown::default().spawn(connection);
    sender.send_request(request).await.unwrap()
}

/// Sends a request over HTTP/2.
pub(crate) async fn h2<B>(address: SocketAddr, request: Request<B>) -> Answer
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    whole(h2_stream(address, request).await).await
}

/// Sends a request over HTTP/1.1, with a `Host` unless the headers have one.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "functions.test");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    h1(address, request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, &[], "").await
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects from one of this machine's own addresses, as a proxy that passes on a connection of 192.0.2.7 (PROXY protocol,
/// version 2).
pub(crate) async fn connect_as_proxy(from: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let header = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &[192, 0, 2, 7, 127, 0, 0, 1, 4, 1, 4, 2]].concat();
    stream.write_all(&header).await.unwrap();
    stream
}

/// Sends bytes as they are, and reads until the other side closes or is silent for five seconds; says whether it closed.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> (String, bool) {
    let mut stream = connect(address).await;
    // The other side may have closed already.
    let _ = stream.write_all(bytes).await;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return (String::from_utf8_lossy(&answer).into_owned(), true),
            Ok(Ok(read)) => answer.extend_from_slice(&buffer[..read]),
            Err(_) => return (String::from_utf8_lossy(&answer).into_owned(), false),
        }
    }
}
