//! A server that answers every request with the same bytes, by hyper and nothing else: the least that a stored answer can cost.
//! Its head is short, or has the headers of another server's answer.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Context;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves until the process ends.
pub(crate) fn run(listen: SocketAddr, bytes: usize, threads: usize, fields: &[String]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(accept(listen, (headers(fields)?, Bytes::from(vec![b'x'; bytes]))))
}

/// Headers from lines like `etag: "a"`; hyper itself writes the length.
fn headers(fields: &[String]) -> anyhow::Result<HeaderMap> {
    let mut headers: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static("text/plain"))].into_iter().collect();
    for field in fields {
        let (name, value) = field.split_once(':').with_context(|| format!("{field} is no header"))?;
        headers.insert(name.parse::<HeaderName>()?, value.trim().parse()?);
    }
    headers.remove(CONTENT_LENGTH);
    Ok(headers)
}

async fn accept(listen: SocketAddr, answers: (HeaderMap, Bytes)) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = answers.clone();
        tokio::spawn(async move {
            let service =
                service_fn(move |request: Request<Incoming>| std::future::ready(answer(&request, answers.clone())));
            // A caller that leaves is none of our business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(_: &Request<Incoming>, (headers, body): (HeaderMap, Bytes)) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(body));
    *response.headers_mut() = headers;
    Ok(response)
}
