//! What metrics say of the issuers: whether their keys can be fetched. Issuers are the operator's, so that there are few of them.

use dunlin_process::metrics::{Kind, Page};

use super::Verifier;
use crate::config::OidcPurpose;

impl Verifier {
    /// Writes how fetching keys of issuers goes.
    pub(crate) fn write_metrics(&self, page: &mut Page) {
        let issuers = &self.0.issuers;
        let help = "Whether the last fetch of an issuer's keys failed; keys that are known are used on.";
        let mut family = page.family(Kind::Gauge, "dunlin_gateway_issuer_keys_failing", help);
        for known in issuers {
            let (issuer, purpose) = (known.config.issuer.as_str(), word(known.config.purpose));
            family.add(&[("issuer", issuer), ("purpose", purpose)], known.is_failing());
        }
        let help = "Fetches of issuers' keys, by what came of them.";
        let mut family = page.family(Kind::Counter, "dunlin_gateway_issuer_key_fetches_total", help);
        for known in issuers {
            let (issuer, purpose) = (known.config.issuer.as_str(), word(known.config.purpose));
            for (result, count) in known.fetches() {
                family.add(&[("issuer", issuer), ("purpose", purpose), ("result", result)], count);
            }
        }
    }
}

fn word(purpose: OidcPurpose) -> &'static str {
    match purpose {
        OidcPurpose::Administration => "administration",
        OidcPurpose::Call => "call",
    }
}
