//! Domains and their certificates, as shown.

use std::time::{Duration, SystemTime};

use dunlin_proto::v1;
use serde::Serialize;

use super::{Time, age, or_dash, part};
use crate::{output::Column, units};

/// A certificate that ends sooner is worth a word.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// A domain that a namespace owns.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DomainView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) domain: String,
    pub(crate) creator: String,
    pub(crate) create_time: Option<Time>,
    /// `acme` or `none`.
    pub(crate) tls: &'static str,
    pub(crate) certificate: Option<CertificateView>,
    /// The one from a gateway's file, which goes before it.
    pub(crate) file_certificate: Option<FileCertificateView>,
    pub(crate) proof: ProofView,
}

/// Whether it is proved that it is the namespace's.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProofView {
    /// `proved`, `pending` or `expired`.
    pub(crate) state: &'static str,
    /// `dns`, `vouched`, `parent` or nothing.
    pub(crate) kind: &'static str,
    pub(crate) record_name: String,
    pub(crate) record_text: String,
    pub(crate) attempts: u32,
    pub(crate) next_attempt_time: Option<Time>,
    pub(crate) expire_time: Option<Time>,
    pub(crate) error: String,
    pub(crate) hint: String,
}

impl From<v1::DomainProof> for ProofView {
    fn from(proof: v1::DomainProof) -> Self {
        Self {
            state: match proof.state() {
                v1::DomainProofState::Pending => "pending",
                v1::DomainProofState::Expired => "expired",
                v1::DomainProofState::Proved | v1::DomainProofState::Unspecified => "proved",
            },
            kind: match proof.kind() {
                v1::DomainProofKind::Dns => "dns",
                v1::DomainProofKind::Vouched => "vouched",
                v1::DomainProofKind::Parent => "parent",
                v1::DomainProofKind::Unspecified => "",
            },
            record_name: proof.record_name,
            record_text: proof.record_text,
            attempts: proof.attempts,
            next_attempt_time: Time::from_wire(proof.next_attempt_time),
            expire_time: Time::from_wire(proof.expire_time),
            error: proof.error,
            hint: proof.hint,
        }
    }
}

impl ProofView {
    /// The record that is to be made, as zone files have it; nothing where it is proved.
    pub(crate) fn wanted(&self) -> Option<String> {
        let record = || format!("{}. IN TXT \"{}\"", self.record_name, self.record_text);
        (self.state != "proved").then(record)
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let time = |time: Option<Time>| time.map_or_else(|| "-".to_owned(), Time::text);
        let Some(record) = self.wanted() else {
            return vec![("Proof", format!("{} ({})", self.state, or_dash(self.kind)))];
        };
        vec![
            ("Proof", self.state.to_owned()),
            ("Record", record),
            (
                "Looked for",
                format!(
                    "{} times, next {}, until {}",
                    self.attempts,
                    time(self.next_attempt_time),
                    time(self.expire_time)
                ),
            ),
            ("Last look", or_dash(&self.error)),
            ("What to do", or_dash(&self.hint)),
        ]
    }
}

/// What has become of its certificate.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CertificateView {
    pub(crate) issuer: String,
    pub(crate) start_time: Option<Time>,
    pub(crate) expire_time: Option<Time>,
    pub(crate) next_attempt_time: Option<Time>,
    pub(crate) failures: u32,
    pub(crate) error: String,
    pub(crate) hint: String,
}

/// A certificate from a gateway's file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FileCertificateView {
    pub(crate) names: Vec<String>,
    pub(crate) issuer: String,
    pub(crate) start_time: Option<Time>,
    pub(crate) expire_time: Option<Time>,
}

impl From<v1::FileCertificate> for FileCertificateView {
    fn from(found: v1::FileCertificate) -> Self {
        Self {
            names: found.names,
            issuer: found.issuer,
            start_time: Time::from_wire(found.start_time),
            expire_time: Time::from_wire(found.expire_time),
        }
    }
}

impl From<v1::Domain> for DomainView {
    fn from(domain: v1::Domain) -> Self {
        Self {
            tls: if domain.tls() == v1::DomainTls::None { "none" } else { "acme" },
            namespace: part(&domain.name, "namespaces"),
            domain: part(&domain.name, "domains"),
            resource: domain.name,
            creator: domain.creator,
            create_time: Time::from_wire(domain.create_time),
            certificate: domain.certificate.map(CertificateView::from),
            file_certificate: domain.file_certificate.map(FileCertificateView::from),
            proof: domain.proof.unwrap_or_default().into(),
        }
    }
}

impl From<v1::DomainCertificateState> for CertificateView {
    fn from(state: v1::DomainCertificateState) -> Self {
        Self {
            issuer: state.issuer,
            start_time: Time::from_wire(state.start_time),
            expire_time: Time::from_wire(state.expire_time),
            next_attempt_time: Time::from_wire(state.next_attempt_time),
            failures: state.failures,
            error: state.error,
            hint: state.hint,
        }
    }
}

impl CertificateView {
    /// In a few words.
    fn text(&self, now: SystemTime) -> String {
        let failing = if self.failures > 0 { ", failing" } else { "" };
        match self.expire_time {
            None => if self.failures > 0 { "failing" } else { "none yet" }.to_owned(),
            Some(Time(expire)) if expire <= now => format!("expired{failing}"),
            Some(Time(expire)) => format!("{} left{failing}", units::age(now, expire)),
        }
    }

    /// Whether it ends soon although it should have been renewed: short-lived ones always end soon.
    fn ends_soon(&self, now: SystemTime) -> bool {
        let ends = |Time(expire)| expire < now + SOON;
        let late = self.failures > 0 || self.next_attempt_time.is_some_and(|Time(next)| next < now);
        late && self.expire_time.is_some_and(ends)
    }
}

impl DomainView {
    /// What to tell its owner beside; nothing where all is well.
    pub(crate) fn warning(&self, now: SystemTime) -> Option<String> {
        let certificate = self.certificate.as_ref().filter(|certificate| certificate.ends_soon(now))?;
        let (domain, text) = (&self.domain, certificate.text(now));
        Some(format!("the certificate of {domain} is not renewed ({text}); see: dunlin domain show {domain}"))
    }

    /// All that is known.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let time = |time: Option<Time>| time.map_or_else(|| "-".to_owned(), Time::text);
        let mut facts = vec![
            ("Domain", self.domain.clone()),
            ("Namespace", self.namespace.clone()),
            ("Added", format!("{} by {}", time(self.create_time), or_dash(&self.creator))),
            ("Certificate", self.text(SystemTime::now())),
        ];
        facts.extend(self.proof.facts());
        if let Some(file) = &self.file_certificate {
            let text = format!("{}, by {}, until {}", file.names.join(" "), file.issuer, time(file.expire_time));
            facts.push(("From a file", text));
        }
        if let Some(certificate) = &self.certificate {
            facts.extend([
                ("Issuer", or_dash(&certificate.issuer)),
                ("Expires", time(certificate.expire_time)),
                ("Next try", time(certificate.next_attempt_time)),
                ("Last error", or_dash(&certificate.error)),
                ("Hint", or_dash(&certificate.hint)),
            ]);
        }
        facts
    }

    fn text(&self, now: SystemTime) -> String {
        let none = if self.tls == "none" { "off" } else { "-" };
        self.certificate.as_ref().map_or_else(|| none.to_owned(), |certificate| certificate.text(now))
    }

    fn of_certificate(&self, text: fn(&CertificateView) -> String) -> String {
        or_dash(&self.certificate.as_ref().map(text).unwrap_or_default())
    }
}

/// The columns of a list of domains.
pub(crate) const DOMAINS: &[Column<DomainView>] = &[
    Column::new("DOMAIN", |domain| domain.domain.clone()),
    Column::new("PROOF", |domain| domain.proof.state.to_owned()),
    Column::new("CERTIFICATE", |domain| domain.text(SystemTime::now())),
    Column::new("ADDED", |domain| age(domain.create_time)),
    Column::new("BY", |domain| or_dash(&domain.creator)),
    Column::wide("ISSUER", |domain| domain.of_certificate(|it| it.issuer.clone())),
    Column::wide("EXPIRES", |domain| domain.of_certificate(|it| it.expire_time.map(Time::text).unwrap_or_default())),
    Column::wide("NEXT TRY", |domain| {
        domain.of_certificate(|it| it.next_attempt_time.map(Time::text).unwrap_or_default())
    }),
    Column::wide("LAST ERROR", |domain| domain.of_certificate(|it| it.error.clone())),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_warned_of_what_ends_soon_and_is_not_renewed() {
        let (now, day) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), 24 * 3600);
        let at = |days: i64| {
            let seconds = 1_800_000_000 + days * day;
            Some(prost_types::Timestamp { seconds, nanos: 0 })
        };
        for (expire, next, failures, text, warned) in [
            (at(60), at(30), 0, "60d left", false),
            (at(5), at(3), 0, "5d left", false),
            (at(5), at(1), 2, "5d left, failing", true),
            (at(20), at(1), 2, "20d left, failing", false),
            (at(5), at(-1), 0, "5d left", true),
            (at(-1), at(1), 9, "expired, failing", true),
            (None, at(1), 1, "failing", false),
            (None, at(1), 0, "none yet", false),
        ] {
            let state = v1::DomainCertificateState {
                expire_time: expire,
                next_attempt_time: next,
                failures,
                ..Default::default()
            };
            let name = "namespaces/shop/domains/a.example".to_owned();
            let view = DomainView::from(v1::Domain { name, certificate: Some(state), ..Default::default() });
            assert_eq!((view.text(now).as_str(), view.warning(now).is_some()), (text, warned), "{view:?}");
        }
    }
}
