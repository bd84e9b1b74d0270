//! The cluster's two key pairs, Ed25519: one signs compiled code, one signs tokens. They are files of mode 0600 that only
//! the scheduler reads; everybody else gets the public halves.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use dunlin_process::data::write_private;
use dunlin_proto::{ids::Digest, internal::v1::CompiledCode, seal};

use crate::model::Code;

/// Signs compiled code, so that workers trust it.
#[derive(Debug)]
pub(crate) struct CodeSigner(Ed25519KeyPair);

impl CodeSigner {
    /// Reads the key from `keys/code.pk8`, or makes it.
    pub(crate) fn open(keys: &Path) -> anyhow::Result<Self> {
        let pkcs8 = open_key(&keys.join("code.pk8"))?;
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

/// Reads a private key (PKCS#8, RFC 5958) that nobody else may read, or makes it where there is none.
pub(crate) fn open_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = path.display();
    match fs::metadata(path) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            ensure!(
                mode & 0o077 == 0,
                "private key {name} must have mode 0600 but has {mode:04o}; run: chmod 600 {name}"
            );
            fs::read(path).with_context(|| format!("read private key {name}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Ok(document) = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()) else {
                bail!("the system gives no random numbers for private key {name}");
            };
            write_private(path, document.as_ref()).with_context(|| format!("write private key {name}"))?;
            Ok(document.as_ref().to_vec())
        }
        Err(error) => Err(error).with_context(|| format!("read private key {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t23_a_key_survives_a_restart_and_seals_hold() {
        let folder = tempfile::tempdir().unwrap();
        let signer = CodeSigner::open(folder.path()).unwrap();
        let code = signer.seal(Digest::of(b"wasm"), "engine", Digest::of(b"native"), 6);
        let again = CodeSigner::open(folder.path()).unwrap();
        assert_eq!(again.public_key(), signer.public_key());
        assert!(again.has_sealed(&code));
        assert!(!again.has_sealed(&Code { size: 7, ..code.clone() }));
        let other = tempfile::tempdir().unwrap();
        assert!(!CodeSigner::open(other.path()).unwrap().has_sealed(&code));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        CodeSigner::open(folder.path()).unwrap();
        let path = folder.path().join("code.pk8");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = CodeSigner::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("0644") && error.contains("chmod 600"), "{error}");
        fs::write(&path, "nonsense").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(CodeSigner::open(folder.path()).is_err());
    }
}
