//! How messages that hold private keys are shown: without them, wherever they may end up. How the keys travel is `sync.proto`'s.

use std::fmt;

use crate::internal::v1::DomainCertificate;

impl fmt::Debug for DomainCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainCertificate").field("domain", &self.domain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_never_shown() {
        let certificate =
            DomainCertificate { domain: "a.example".into(), chain: String::new(), key: b"private"[..].into() };
        let shown = format!("{certificate:?}");
        assert!(shown.contains("a.example") && !shown.contains("private") && !shown.contains("112"), "{shown}");
    }
}
