//! What gateways are told: the certificates of all domains, and the challenges that are in force. Pure.

use std::{collections::BTreeMap, fmt, sync::Arc};

use dunlin_proto::ids::DomainName;

use crate::{config::ChallengeKind, purges::Position};

/// A certificate with its private key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Served {
    /// The certificate and those of its authorities (PEM), its own first.
    pub(crate) chain: String,
    /// Its private key (PKCS #8, DER).
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

/// What an authority shall find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) domain: DomainName,
    pub(crate) kind: ChallengeKind,
    pub(crate) token: String,
    pub(crate) key_authorization: String,
}

/// One state of both.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    position: Position,
    certificates: BTreeMap<DomainName, Arc<Served>>,
    /// By domain: there is one order for each at once.
    challenges: BTreeMap<DomainName, Arc<Challenge>>,
}

/// What somebody does not know yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) position: Position,
    /// It replaces everything.
    pub(crate) whole: bool,
    pub(crate) certificates: Vec<(DomainName, Arc<Served>)>,
    pub(crate) removed: Vec<DomainName>,
    pub(crate) challenges: Vec<Arc<Challenge>>,
}

impl Published {
    /// Nothing, in this start of the scheduler.
    pub(crate) fn new(epoch: u64) -> Self {
        let position = Position { epoch, sequence: 0 };
        Self { position, certificates: BTreeMap::new(), challenges: BTreeMap::new() }
    }

    /// The newest position.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Whether a domain has a certificate.
    pub(crate) fn has(&self, domain: &DomainName) -> bool {
        self.certificates.contains_key(domain)
    }

    /// Serves these certificates from now on, the ones there were of these domains, and no others.
    pub(crate) fn serve(&mut self, new: Vec<(DomainName, Arc<Served>)>, wanted: impl Fn(&DomainName) -> bool) {
        let before = self.certificates.clone();
        self.certificates.extend(new);
        self.certificates.retain(|domain, _| wanted(domain));
        if self.certificates != before || self.position.sequence == 0 {
            self.position.sequence += 1;
        }
    }

    /// Puts a challenge into force, in place of the domain's last one.
    pub(crate) fn challenge(&mut self, challenge: Challenge) {
        self.challenges.insert(challenge.domain.clone(), Arc::new(challenge));
        self.position.sequence += 1;
    }

    /// Puts the challenge of a domain out of force, where there is one.
    pub(crate) fn answered(&mut self, domain: &DomainName) -> bool {
        let was = self.challenges.remove(domain).is_some();
        self.position.sequence += u64::from(was);
        was
    }

    /// What somebody does not know yet who was told this before, or who says to have that; nothing where that is all.
    pub(crate) fn since(&self, told: Option<&Self>, has: Position) -> Option<Change> {
        if told.map_or(has, |told| told.position) == self.position {
            return None;
        }
        let known = |domain: &DomainName| told.and_then(|told| told.certificates.get(domain));
        let changed = self.certificates.iter().filter(|(domain, served)| known(domain) != Some(served));
        let before = told.into_iter().flat_map(|told| told.certificates.keys());
        Some(Change {
            position: self.position,
            whole: told.is_none(),
            certificates: changed.map(|(domain, served)| (domain.clone(), served.clone())).collect(),
            removed: before.filter(|domain| !self.has(domain)).cloned().collect(),
            challenges: self.challenges.values().cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> DomainName {
        name.parse().unwrap()
    }

    fn served(text: &str) -> Arc<Served> {
        Arc::new(Served { chain: text.into(), key: b"private".to_vec() })
    }

    #[test]
    fn who_follows_hears_of_changes_and_a_stranger_of_everything() {
        let (mut now, nobody) = (Published::new(7), Position::default());
        now.serve(vec![(domain("a.example"), served("1")), (domain("b.example"), served("1"))], |_| true);
        let all = now.since(None, nobody).unwrap();
        assert_eq!((all.whole, all.certificates.len(), all.position), (true, 2, now.position()));
        assert_eq!(now.since(None, now.position()), None, "who has it needs nothing");
        assert_eq!(now.since(Some(&now.clone()), nobody), None);
        let before = now.clone();
        now.serve(vec![(domain("a.example"), served("2"))], |name| *name != domain("b.example"));
        let change = now.since(Some(&before), nobody).unwrap();
        assert_eq!((change.whole, change.removed), (false, vec![domain("b.example")]));
        assert_eq!(change.certificates, [(domain("a.example"), served("2"))]);
        let before = now.clone();
        now.serve(Vec::new(), |_| true);
        assert_eq!(now.since(Some(&before), nobody), None, "what changes nothing is no news");
    }

    #[test]
    fn a_challenge_is_told_until_it_is_answered() {
        let mut now = Published::new(7);
        let kind = ChallengeKind::Http01;
        let challenge = |token: &str| Challenge {
            domain: domain("a.example"),
            kind,
            token: token.into(),
            key_authorization: "k".into(),
        };
        now.challenge(challenge("first"));
        now.challenge(challenge("second"));
        let told = now.since(None, Position::default()).unwrap();
        assert_eq!(told.challenges, [Arc::new(challenge("second"))]);
        let before = now.clone();
        assert!(now.answered(&domain("a.example")) && !now.answered(&domain("a.example")));
        assert!(now.since(Some(&before), before.position()).unwrap().challenges.is_empty());
    }

    #[test]
    fn a_private_key_is_never_shown() {
        let mut now = Published::new(7);
        now.serve(vec![(domain("a.example"), served("1"))], |_| true);
        assert!(!format!("{now:?}").contains("112"), "{now:?}");
    }
}
