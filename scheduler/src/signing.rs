//! The key pair that signs compiled code, Ed25519. Everybody else gets the public half.

use anyhow::Context;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use dunlin_proto::{ids::Digest, internal::v1::CompiledCode, seal};

use crate::{keyring::Keyring, model::Code};

/// Signs compiled code, so that workers trust it.
#[derive(Debug)]
pub(crate) struct CodeSigner(Ed25519KeyPair);

impl CodeSigner {
    /// Reads the key from `keys/code.pk8`, or makes it.
    pub(crate) fn open(keys: &Keyring) -> anyhow::Result<Self> {
        let pkcs8 = keys.key("code.pk8")?;
        Ok(Self(Ed25519KeyPair::from_pkcs8(&pkcs8).context("read the code signing key")?))
    }

    /// The public key, 32 bytes.
    pub(crate) fn public_key(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.public_key().as_ref())
    }

    /// The description of compiled code, sealed.
    pub(crate) fn seal(&self, artifact: Digest, fingerprint: &str, body: Digest, size: u64) -> Code {
        let key = seal::code_key(&artifact, fingerprint);
        let code = Code { key, artifact, fingerprint: fingerprint.to_owned(), body, size, signature: Vec::new() };
        let sealed = seal::sign(to_wire(&code), &self.0);
        Code { signature: sealed.signature.to_vec(), ..code }
    }

    /// Whether this cluster sealed it.
    pub(crate) fn has_sealed(&self, code: &Code) -> bool {
        seal::verify_signature(&to_wire(code), &[self.0.public_key()]).is_ok()
    }
}

/// The seal is over the message, so this is the one generated type outside the rpc modules.
pub(crate) fn to_wire(code: &Code) -> CompiledCode {
    CompiledCode {
        key: code.key.clone(),
        artifact: code.artifact.hex(),
        fingerprint: code.fingerprint.clone(),
        body_sha256: code.body.hex(),
        size_bytes: code.size,
        signature: Bytes::copy_from_slice(&code.signature),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn opened(folder: &tempfile::TempDir) -> anyhow::Result<CodeSigner> {
        CodeSigner::open(&Keyring::open(folder.path(), None)?)
    }

    #[test]
    fn t23_a_key_survives_a_restart_and_seals_hold() {
        let folder = tempfile::tempdir().unwrap();
        let signer = opened(&folder).unwrap();
        let code = signer.seal(Digest::of(b"wasm"), "engine", Digest::of(b"native"), 6);
        let again = opened(&folder).unwrap();
        assert_eq!(again.public_key(), signer.public_key());
        assert!(again.has_sealed(&code));
        assert!(!again.has_sealed(&Code { size: 7, ..code.clone() }));
        let other = tempfile::tempdir().unwrap();
        assert!(!opened(&other).unwrap().has_sealed(&code));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        opened(&folder).unwrap();
        let path = folder.path().join("code.pk8");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = opened(&folder).unwrap_err().to_string();
        assert!(error.contains("0644") && error.contains("chmod 600"), "{error}");
        fs::write(&path, "nonsense").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(opened(&folder).is_err());
    }
}
