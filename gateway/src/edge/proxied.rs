//! The PROXY protocol, version 2: what a proxy sends before everything else, to say whose connection it passes on.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The fixed part of a header, in bytes; its last two are the length of the rest.
const FIXED: usize = 16;
/// The longest header that is read, in bytes behind its fixed part: addresses, and what else a proxy may say.
const LONGEST: usize = 4096;

/// Reads the header, and nothing behind it; gives the caller's address. A proxy that asks for itself has its own, `proxy`.
///
/// # Errors
/// There is none, or it can't be read.
pub(super) async fn caller<T: AsyncRead + Unpin>(stream: &mut T, proxy: SocketAddr) -> io::Result<SocketAddr> {
    let mut header = vec![0; FIXED];
    stream.read_exact(&mut header).await?;
    if !header.starts_with(PROTOCOL_PREFIX) {
        return Err(invalid("it does not begin with a header of the PROXY protocol, version 2"));
    }
    let length = header.last_chunk().map_or(0, |length| u16::from_be_bytes(*length).into());
    if length > LONGEST {
        return Err(invalid("its header of the PROXY protocol is too long"));
    }
    header.resize(FIXED + length, 0);
    stream.read_exact(header.get_mut(FIXED..).unwrap_or_default()).await?;
    let header = Header::try_from(header.as_slice()).map_err(|error| invalid(error.to_string()))?;
    Ok(match (header.command, header.addresses) {
        (Command::Proxy, Addresses::IPv4(of)) => (of.source_address, of.source_port).into(),
        (Command::Proxy, Addresses::IPv6(of)) => (of.source_address, of.source_port).into(),
        (Command::Local, _) | (Command::Proxy, Addresses::Unspecified | Addresses::Unix(_)) => proxy,
    })
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [PROTOCOL_PREFIX, &[0x20 | command, family], &length, rest].concat()
    }

    async fn read(bytes: &[u8]) -> Result<(String, usize), ErrorKind> {
        let mut rest = bytes;
        let found = caller(&mut rest, "10.0.0.1:1".parse().unwrap()).await.map_err(|error| error.kind())?;
        Ok((found.to_string(), rest.len()))
    }

    #[tokio::test]
    async fn t35_the_header_says_who_the_caller_is_and_the_rest_stays() {
        let old = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 1, 0xbb];
        let more = [&old[..], &[4, 0, 1, 0]].concat();
        let mut new = [0; 36];
        (new[0], new[1], new[15], new[33]) = (0x20, 1, 9, 80);
        let proxy = "10.0.0.1:1".to_owned();
        for (header, expected) in [
            (header(1, 0x11, &old), "192.0.2.7:8080".to_owned()),
            (header(1, 0x11, &more), "192.0.2.7:8080".to_owned()),
            (header(1, 0x21, &new), "[2001::9]:80".to_owned()),
            (header(0, 0, &[]), proxy.clone()),
            (header(0, 0x11, &old), proxy.clone()),
            (header(1, 0, &[]), proxy),
        ] {
            assert_eq!(read(&[&header[..], b"GET"].concat()).await, Ok((expected, 3)), "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let whole = header(1, 0x11, &[0; 12]);
        for (bytes, kind) in [
            (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), ErrorKind::InvalidData),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(), ErrorKind::InvalidData),
            (header(1, 0x11, &[0; 11]), ErrorKind::InvalidData),
            (header(7, 0x11, &[0; 12]), ErrorKind::InvalidData),
            (header(1, 0x11, &[0; LONGEST + 1]), ErrorKind::InvalidData),
            (whole[..whole.len() - 1].to_vec(), ErrorKind::UnexpectedEof),
            (Vec::new(), ErrorKind::UnexpectedEof),
        ] {
            assert_eq!(read(&bytes).await, Err(kind), "{bytes:?}");
        }
    }
}
