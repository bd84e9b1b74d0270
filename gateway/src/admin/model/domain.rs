//! Domains and their certificates, as administration shows them.

use dunlin_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, id_in};

/// A domain that a namespace owns or asks for.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Domain {
    /// `namespaces/{namespace}/domains/{domain}`.
    pub(crate) name: String,
    /// The namespace's bare name.
    pub(crate) namespace: String,
    /// The domain itself.
    pub(crate) domain: String,
    /// When it was given.
    pub(crate) create_time: Option<Time>,
    /// Who asked for it.
    pub(crate) creator: String,
    /// Whether the cluster gets a certificate for it.
    pub(crate) tls: DomainTls,
    /// What has become of that; absent where it gets none, or has not begun.
    pub(crate) certificate: Option<DomainCertificate>,
    /// The certificate from a file that the answering gateway shows to whoever asks for this domain: it goes before one that
    /// the cluster gets. Absent where no file has one for it.
    pub(crate) file_certificate: Option<FileCertificate>,
    /// Whether it is proved that it is the namespace's; nothing is served on it before.
    pub(crate) proof: DomainProof,
}

/// Whether it is proved that a domain is its namespace's.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DomainProof {
    /// Where that stands.
    pub(crate) state: DomainProofState,
    /// What proved it; absent where nothing has yet.
    pub(crate) kind: Option<DomainProofKind>,
    /// Name of the TXT record that proves it.
    pub(crate) record_name: String,
    /// Text of that record.
    pub(crate) record_text: String,
    /// How often it was looked for.
    pub(crate) attempts: u32,
    /// When it is looked for next.
    pub(crate) next_attempt_time: Option<Time>,
    /// When it is not looked for any more.
    pub(crate) expire_time: Option<Time>,
    /// Why the last look proved nothing; empty where there was none.
    pub(crate) error: String,
    /// What to do about it; may be empty.
    pub(crate) hint: String,
}

/// Where the proof of a domain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DomainProofState {
    /// The domain is the namespace's.
    Proved,
    /// The record is looked for.
    Pending,
    /// It was not there in time.
    Expired,
}

/// What proves that a domain is its namespace's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DomainProofKind {
    /// The record.
    Dns,
    /// An operator.
    Vouched,
    /// That it lies below a domain of the namespace.
    Parent,
}

impl From<v1::DomainProof> for DomainProof {
    fn from(wire: v1::DomainProof) -> Self {
        let state = match wire.state() {
            v1::DomainProofState::Pending => DomainProofState::Pending,
            v1::DomainProofState::Expired => DomainProofState::Expired,
            v1::DomainProofState::Proved | v1::DomainProofState::Unspecified => DomainProofState::Proved,
        };
        let kind = match wire.kind() {
            v1::DomainProofKind::Dns => Some(DomainProofKind::Dns),
            v1::DomainProofKind::Vouched => Some(DomainProofKind::Vouched),
            v1::DomainProofKind::Parent => Some(DomainProofKind::Parent),
            v1::DomainProofKind::Unspecified => None,
        };
        Self {
            state,
            kind,
            record_name: wire.record_name,
            record_text: wire.record_text,
            attempts: wire.attempts,
            next_attempt_time: wire.next_attempt_time.map(Time::from),
            expire_time: wire.expire_time.map(Time::from),
            error: wire.error,
            hint: wire.hint,
        }
    }
}

/// Whether the cluster gets a certificate for a domain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DomainTls {
    /// By ACME, for the domain's name alone, where the operator has set up an authority.
    #[default]
    Acme,
    /// None.
    None,
}

/// The certificate of a domain, and what the authority said last.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DomainCertificate {
    /// Who signed it; empty where there is none yet.
    pub(crate) issuer: String,
    /// From when on it is valid.
    pub(crate) start_time: Option<Time>,
    /// Until when.
    pub(crate) expire_time: Option<Time>,
    /// When the authority is asked next: to renew it, or again after a failure.
    pub(crate) next_attempt_time: Option<Time>,
    /// Failures since the last success.
    pub(crate) failures: u32,
    /// Why the last attempt failed; empty where it did not.
    pub(crate) error: String,
    /// What to do about it; may be empty.
    pub(crate) hint: String,
}

/// A certificate that an operator gave a gateway in a file, and renews there.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FileCertificate {
    /// The DNS names, also with a wildcard for the first label, and addresses that it is for.
    pub(crate) names: Vec<String>,
    /// Who signed it.
    pub(crate) issuer: String,
    /// From when on it is valid.
    pub(crate) start_time: Option<Time>,
    /// Until when.
    pub(crate) expire_time: Option<Time>,
}

impl From<v1::FileCertificate> for FileCertificate {
    fn from(wire: v1::FileCertificate) -> Self {
        Self {
            names: wire.names,
            issuer: wire.issuer,
            start_time: wire.start_time.map(Time::from),
            expire_time: wire.expire_time.map(Time::from),
        }
    }
}

impl From<DomainTls> for v1::DomainTls {
    fn from(tls: DomainTls) -> Self {
        match tls {
            DomainTls::Acme => Self::Acme,
            DomainTls::None => Self::None,
        }
    }
}

impl From<v1::Domain> for Domain {
    fn from(wire: v1::Domain) -> Self {
        Self {
            tls: if wire.tls() == v1::DomainTls::None { DomainTls::None } else { DomainTls::Acme },
            namespace: id_in(&wire.name, "namespaces").to_owned(),
            domain: id_in(&wire.name, "domains").to_owned(),
            name: wire.name,
            create_time: wire.create_time.map(Time::from),
            creator: wire.creator,
            certificate: wire.certificate.map(DomainCertificate::from),
            file_certificate: wire.file_certificate.map(FileCertificate::from),
            proof: wire.proof.unwrap_or_default().into(),
        }
    }
}

impl From<v1::DomainCertificateState> for DomainCertificate {
    fn from(wire: v1::DomainCertificateState) -> Self {
        Self {
            issuer: wire.issuer,
            start_time: wire.start_time.map(Time::from),
            expire_time: wire.expire_time.map(Time::from),
            next_attempt_time: wire.next_attempt_time.map(Time::from),
            failures: wire.failures,
            error: wire.error,
            hint: wire.hint,
        }
    }
}

/// A page of domains.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DomainList {
    /// The page.
    pub(crate) domains: Vec<Domain>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

impl From<v1::ListDomainsResponse> for DomainList {
    fn from(wire: v1::ListDomainsResponse) -> Self {
        Self { domains: wire.domains.into_iter().map(Domain::from).collect(), next_page_token: wire.next_page_token }
    }
}
