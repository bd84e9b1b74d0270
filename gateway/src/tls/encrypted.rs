//! Private keys that a passphrase opens, as `openssl pkcs8 -topk8` makes them: PKCS #8 (RFC 5958) under PBES2 (RFC 8018). What is in the
//! clear is not this file's business.

use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// The PEM label of such a key (RFC 7468 11).
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// Whether there is such a key in a file.
pub(super) fn is_encrypted(pem: &[u8]) -> bool {
    block(pem).is_some()
}

/// The key in the clear; nothing where the passphrase is another's, or the key can't be read.
pub(super) fn decrypt(pem: &[u8], passphrase: &[u8]) -> Option<PrivatePkcs8KeyDer<'static>> {
    let block = block(pem)?;
    let opened = EncryptedPrivateKeyInfoRef::try_from(block.contents()).ok()?.decrypt(passphrase).ok()?;
    Some(PrivatePkcs8KeyDer::from(opened.as_bytes().to_vec()))
}

fn block(pem: &[u8]) -> Option<pem::Pem> {
    pem::parse_many(pem).ok()?.into_iter().find(|block| block.tag() == LABEL)
}

#[cfg(test)]
mod tests {
    use dunlin_proto::ids::Digest;

    use super::*;

    /// One key of OpenSSL's for tests, with PBKDF2 and with scrypt, and the SHA-256 of what is in it.
    const PBKDF2: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjJqujaO3nkngICCAAw\n\
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEDr54IQz59jBZCEqVi+E6OQEQD71\n\
CLd5UIapeoxqOsRgoorLz0XVUYrpQu2Cwpw1K1mwSJTpBjT7azdnTRvK4zqPQi5J\n\
Zb2ntVYWcv5rB97id28=\n\
-----END ENCRYPTED PRIVATE KEY-----\n";
    const SCRYPT: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAjdYPu+T7YIHAICQAAC\n\
AQgCAQEwHQYJYIZIAWUDBAEqBBCIzg8IvzTOFqCyYCzawxvEBEAtky3tFflTkhcn\n\
jf9r9d7bQPkoJ0IaZpLjCOJTGEJuWoXPpVcLkLC5B9CSyADKFyJ2Fh/ylj1R3hhG\n\
yPdiEKL1\n\
-----END ENCRYPTED PRIVATE KEY-----\n";
    const INSIDE: &str = "7b59db374cce046f29f12d3b39fff05369bdc44b5ba365d406e8198430112fe0";

    #[test]
    fn a_passphrase_opens_its_key_alone() {
        for text in [PBKDF2, SCRYPT] {
            assert!(is_encrypted(text.as_bytes()));
            let opened = decrypt(text.as_bytes(), b"sesame").unwrap();
            assert_eq!(Digest::of(opened.secret_pkcs8_der()).hex(), INSIDE);
            for wrong in [&b""[..], b"Sesame", b"sesame\n"] {
                assert!(decrypt(text.as_bytes(), wrong).is_none());
            }
            assert!(decrypt(text.replace('A', "B").as_bytes(), b"sesame").is_none(), "damaged");
        }
        assert!(!is_encrypted(b"-----BEGIN PRIVATE KEY-----") && !is_encrypted(b""));
    }
}
