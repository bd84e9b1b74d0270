//! How messages that hold secrets are shown: without them, wherever they may end up. How they travel is the business of their
//! schemas.

use std::fmt;

use crate::internal::v1::{DomainCertificate, KeptAnswer};

impl fmt::Debug for DomainCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainCertificate").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl fmt::Debug for KeptAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_never_shown() {
        let shown = format!("{:?}", KeptAnswer { status: 201, body: b"secret"[..].into(), ..Default::default() });
        assert_eq!(shown, "KeptAnswer { status: 201, .. }");
    }

    #[test]
    fn a_private_key_is_never_shown() {
        let certificate =
            DomainCertificate { domain: "a.example".into(), chain: String::new(), key: b"private"[..].into() };
        let shown = format!("{certificate:?}");
        assert!(shown.contains("a.example") && !shown.contains("private") && !shown.contains("112"), "{shown}");
    }
}
