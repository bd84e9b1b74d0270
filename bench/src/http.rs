//! The smallest client of HTTP/1.1 that can time a call: one connection, GET, answers with a length or in chunks.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::Result;

/// A connection that is kept open, and the request that it sends again and again.
pub struct Connection {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Connection {
    /// Connects to the host of `url` (`http://host:port/path`); `token` goes as a bearer token.
    pub fn open(url: &str, token: Option<&str>) -> Result<Self> {
        let rest = url.strip_prefix("http://").ok_or("only http:// is measured")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n").into_bytes();
        Ok(Self { stream: BufReader::new(stream), request })
    }

    /// Sends the request and reads the whole answer; says how long that took. Only 200 counts.
    pub fn get(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        self.stream.get_mut().write_all(&self.request)?;
        let status = self.line()?;
        let length = self.headers()?;
        match length {
            Some(length) => self.skip(length)?,
            None => while self.chunk()? {},
        }
        let took = begin.elapsed();
        if status.starts_with("HTTP/1.1 200") { Ok(took) } else { Err(format!("answered {status}").into()) }
    }

    /// Reads the head; the length of the body, or nothing where it comes in chunks.
    fn headers(&mut self) -> Result<Option<usize>> {
        let mut length = Some(0);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                Some(("content-length", value)) => length = Some(value.trim().parse()?),
                Some(("transfer-encoding", _)) => length = None,
                Some(_) => {}
                None => return Ok(length),
            }
        }
    }

    /// Reads a chunk; whether another follows. Trailers end with an empty line (RFC 9112 7.1).
    fn chunk(&mut self) -> Result<bool> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)?;
        if size == 0 {
            while !self.line()?.is_empty() {}
            return Ok(false);
        }
        self.skip(size + 2)?;
        Ok(true)
    }

    fn skip(&mut self, bytes: usize) -> Result<()> {
        let mut body = vec![0; bytes];
        Ok(self.stream.read_exact(&mut body)?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("the connection was closed".into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
