//! Domains that namespaces ask for, as the store keeps them until it is proved whose they are.

use dunlin_proto::names::DomainRef;

use super::{DomainRecord, DomainTls, Time};

/// How it was proved that a namespace may have its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProofKind {
    /// By a record in the DNS.
    Dns,
    /// An operator says so.
    Vouched,
    /// It lies below a domain that the namespace has.
    Parent,
}

impl ProofKind {
    /// Its spelling in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Vouched => "vouched",
            Self::Parent => "parent",
        }
    }
}

impl std::str::FromStr for ProofKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Dns, Self::Vouched, Self::Parent].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// A domain that a namespace asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimRecord {
    /// Who asks, and for what.
    pub(crate) name: DomainRef,
    /// The subject of the token that asked for it.
    pub(crate) creator: String,
    /// When it was asked for, the last time.
    pub(crate) create_time: Time,
    /// Whether the cluster gets a certificate for it, once it is proved.
    pub(crate) tls: DomainTls,
    /// How often the record was looked for.
    pub(crate) attempts: u32,
    /// Why the last look proved nothing; empty before the first.
    pub(crate) error: String,
    /// What to do about it; may be empty.
    pub(crate) hint: String,
    /// When it is looked for next; nothing where it was given up.
    pub(crate) attempt: Option<Time>,
    /// When it is given up.
    pub(crate) expire: Time,
}

impl ClaimRecord {
    /// The domain, once it is the namespace's.
    pub(crate) fn given(&self, proof: ProofKind, now: Time) -> DomainRecord {
        let Self { name, creator, tls, .. } = self.clone();
        DomainRecord { name, creator, create_time: now, tls, proof }
    }
}

/// A domain of a namespace, or one that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// It has it.
    Owned(DomainRecord),
    /// It asks for it.
    Claimed(ClaimRecord),
}

impl Held {
    /// Whose, and which.
    pub(crate) fn name(&self) -> &DomainRef {
        match self {
            Self::Owned(record) => &record.name,
            Self::Claimed(record) => &record.name,
        }
    }
}
