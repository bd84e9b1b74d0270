//! Bytes for a file with their digest before them, so that a damaged file is noticed. What they mean is up to who writes them.

use dunlin_proto::ids::Digest;

/// A file begins with the digest of the rest.
const DIGEST_BYTES: usize = 32;

/// What `write` adds to the bytes, with its digest.
pub(crate) fn wrapped(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; DIGEST_BYTES];
    write(&mut bytes);
    if let Some((digest, body)) = bytes.split_at_mut_checked(DIGEST_BYTES) {
        digest.copy_from_slice(Digest::of(body).as_bytes());
    }
    bytes
}

/// What stands behind the digest; nothing where that is of something else.
pub(crate) fn unwrapped(bytes: &[u8]) -> Option<&[u8]> {
    let (digest, body) = bytes.split_at_checked(DIGEST_BYTES)?;
    (Digest::of(body).as_bytes() == digest).then_some(body)
}
