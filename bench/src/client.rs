//! The smallest client of HTTP/1.1 that can time a call: one connection, kept open; answers with a length or in chunks.

use anyhow::{Context, bail, ensure};
use smol::{
    future,
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A request that is sent again and again.
pub struct Request {
    host: String,
    bytes: Vec<u8>,
}

impl Request {
    /// A request of `url` (`http://host:port/path`): GET, or POST of so many bytes; `token` goes as a bearer token.
    pub fn new(url: &str, token: Option<&str>, body: usize) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").context("only http:// is measured")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let (method, length) =
            if body == 0 { ("GET", String::new()) } else { ("POST", format!("Content-Length: {body}\r\n")) };
        let mut bytes = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{bearer}{length}\r\n").into_bytes();
        bytes.resize(bytes.len() + body, b'x');
        Ok(Self { host: host.to_owned(), bytes })
    }
}

/// A connection that is kept open.
pub struct Connection {
    stream: TcpStream,
    /// What has arrived and is not yet read, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// Whether the server takes another request on it.
    open: bool,
}

/// How a body ends.
enum Length {
    Bytes(usize),
    Chunked,
}

impl Connection {
    /// Whether another request can be sent on it.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the server has closed it while it was idle, as servers do after some time: no sign of what became of a call
    /// (RFC 9112 9.3.1), so that a client opens another one.
    pub async fn is_stale(&self) -> bool {
        let mut byte = [0];
        let peeked = future::poll_once(self.stream.peek(&mut byte)).await;
        peeked.is_some_and(|peeked| peeked.is_ok_and(|read| read == 0))
    }

    /// Connects to the host of a request.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(request: &Request) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&request.host).await.with_context(|| format!("connect to {}", request.host))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new(), at: 0, open: true })
    }

    /// Sends the request and reads the whole answer; its status.
    ///
    /// # Errors
    /// There was no whole answer; the connection is of no more use.
    pub async fn exchange(&mut self, request: &Request) -> anyhow::Result<u16> {
        self.buffer.clear();
        self.at = 0;
        self.open = false;
        self.stream.write_all(&request.bytes).await?;
        let (status, length, keeps) = self.head().await?;
        match length {
            Length::Bytes(bytes) => self.skip(bytes).await?,
            Length::Chunked => while self.chunk().await? {},
        }
        self.open = keeps;
        Ok(status)
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        let mut piece = [0; 16 << 10];
        let read = self.stream.read(&mut piece).await?;
        let when = if self.buffer.is_empty() { "before" } else { "in the middle of" };
        ensure!(read > 0, "the connection was closed {when} the answer");
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(())
    }

    /// Status, how the body ends, and whether the connection is kept open after it.
    async fn head(&mut self) -> anyhow::Result<(u16, Length, bool)> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(end) = response.parse(&self.buffer)? {
                let status = response.code.context("an answer without a status")?;
                let (length, keeps) = (length(response.headers)?, keeps(response.headers));
                self.at = end;
                return Ok((status, length, keeps));
            }
            self.more().await?;
        }
    }

    /// Reads a chunk; whether another follows. Trailers end with an empty line (RFC 9112 7.1).
    async fn chunk(&mut self) -> anyhow::Result<bool> {
        let line = self.line().await?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)?;
        if size == 0 {
            while !self.line().await?.is_empty() {}
            return Ok(false);
        }
        self.skip(size + 2).await?;
        Ok(true)
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&rest[..end]).trim_end().to_owned();
                self.at += end + 1;
                return Ok(line);
            }
            self.more().await?;
        }
    }

    async fn skip(&mut self, bytes: usize) -> anyhow::Result<()> {
        while self.buffer.len() - self.at < bytes {
            self.more().await?;
        }
        self.at += bytes;
        Ok(())
    }
}

fn keeps(headers: &[httparse::Header<'_>]) -> bool {
    let closes = |header: &httparse::Header<'_>| {
        header.name.eq_ignore_ascii_case("connection") && header.value.eq_ignore_ascii_case(b"close")
    };
    !headers.iter().any(closes)
}

fn length(headers: &[httparse::Header<'_>]) -> anyhow::Result<Length> {
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            return Ok(Length::Bytes(std::str::from_utf8(header.value)?.trim().parse()?));
        }
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Length::Chunked);
        }
    }
    bail!("an answer whose end can't be told")
}
