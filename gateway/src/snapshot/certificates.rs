//! How a change applies to the certificates that are kept: they are what the stream sent before, or replaced. Pure.

use std::collections::HashSet;

use dunlin_proto::internal::v1::Certificates;

/// What is kept after a change. Challenges are over before they could be of use again.
pub(super) fn apply(kept: Certificates, update: &Certificates) -> Certificates {
    let names = update.certificates.iter().map(|new| &new.domain).chain(&update.removed);
    let replaced: HashSet<_> = names.collect();
    let mut certificates = if update.whole { Vec::new() } else { kept.certificates };
    certificates.retain(|old| !replaced.contains(&old.domain));
    certificates.extend(update.certificates.iter().cloned());
    Certificates { position: update.position, whole: true, certificates, ..Certificates::default() }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::internal::v1::{AcmeChallenge, DomainCertificate};

    use super::*;

    #[test]
    fn certificates_are_replaced_added_and_removed_and_challenges_not_kept() {
        let certificate = |domain: &str, chain: &str| DomainCertificate {
            domain: domain.into(),
            chain: chain.into(),
            ..DomainCertificate::default()
        };
        let update = |whole, certificates, removed: &[&str]| Certificates {
            whole,
            certificates,
            removed: removed.iter().map(|domain| (*domain).to_owned()).collect(),
            challenges: vec![AcmeChallenge::default()],
            ..Certificates::default()
        };
        let first =
            apply(Certificates::default(), &update(true, vec![certificate("a", "1"), certificate("b", "1")], &[]));
        assert!(first.whole && first.challenges.is_empty());
        let second = apply(first, &update(false, vec![certificate("a", "2"), certificate("c", "1")], &["b"]));
        assert_eq!(second.certificates, [certificate("a", "2"), certificate("c", "1")]);
        let third = apply(second, &update(true, vec![certificate("d", "1")], &[]));
        assert_eq!(third.certificates, [certificate("d", "1")]);
    }
}
