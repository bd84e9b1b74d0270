//! Domains and their certificates, as administration shows them.

use dunlin_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, id_in};

/// A domain that a namespace owns.
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
