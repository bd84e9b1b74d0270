//! A namespace's domains, as the page of routes shows them: whether each is proved, and what has become of its certificate.

use std::time::SystemTime;

use super::{
    certificates,
    format::When,
    view::{Badge, visible},
};
use crate::admin::model::{
    Domain, DomainCertificate, DomainProof, DomainProofKind, DomainProofState, DomainTls, FileCertificate, Time,
};

/// A domain.
#[derive(Debug)]
pub(super) struct DomainRow {
    pub(super) domain: String,
    pub(super) made: Option<When>,
    pub(super) creator: String,
    pub(super) proof: Badge,
    /// What proved it, or why nothing has yet.
    pub(super) proof_note: String,
    /// The record to make, as zone files have it; nothing where it is proved.
    pub(super) record: Option<String>,
    pub(super) certificate: Badge,
    /// Where it is from.
    pub(super) issuer: String,
    pub(super) from: Option<When>,
    pub(super) until: Option<When>,
    pub(super) next: Option<When>,
    /// What the authority said last, with what to do about it.
    pub(super) trouble: String,
}

impl DomainRow {
    /// What is shown of a domain.
    pub(super) fn new(found: Domain, now: SystemTime) -> Self {
        let when = |time| When::new(time, now);
        let (state, file) = (found.certificate.as_ref(), found.file_certificate.as_ref());
        let valid = match (file, state) {
            (Some(file), _) => (file.start_time, file.expire_time),
            (None, Some(state)) => (state.start_time, state.expire_time),
            (None, None) => (None, None),
        };
        Self {
            made: found.create_time.map(when),
            creator: visible(&found.creator),
            proof: proof(&found.proof),
            proof_note: proof_note(&found.proof),
            record: record(&found.proof),
            certificate: file.map_or_else(|| certificate(&found), |file| in_file(file, now)),
            issuer: issuer(&found),
            from: valid.0.map(when),
            until: valid.1.map(when),
            next: state.and_then(|state| state.next_attempt_time).map(when),
            trouble: state.map(trouble).unwrap_or_default(),
            domain: found.domain,
        }
    }
}

fn proof(proof: &DomainProof) -> Badge {
    match proof.state {
        DomainProofState::Proved => Badge::ok("proved"),
        DomainProofState::Pending => Badge::warn("pending"),
        DomainProofState::Expired => Badge::bad("given up"),
    }
}

fn proof_note(proof: &DomainProof) -> String {
    match proof.kind {
        Some(DomainProofKind::Dns) => "by its record".to_owned(),
        Some(DomainProofKind::Vouched) => "an operator vouches".to_owned(),
        Some(DomainProofKind::Parent) => "below a domain of the namespace".to_owned(),
        None => sentence(&proof.error, &proof.hint),
    }
}

fn record(proof: &DomainProof) -> Option<String> {
    let record = || format!("{}. IN TXT \"{}\"", visible(&proof.record_name), visible(&proof.record_text));
    (proof.state != DomainProofState::Proved).then(record)
}

fn certificate(domain: &Domain) -> Badge {
    match &domain.certificate {
        _ if domain.tls == DomainTls::None => Badge::plain("none by ACME"),
        _ if domain.proof.state != DomainProofState::Proved => Badge::plain("once it is proved"),
        None => Badge::plain("none yet"),
        Some(state) if state.failures > 0 => Badge::bad("failing"),
        Some(state) if state.expire_time.is_none() => Badge::plain("none yet"),
        Some(_) => Badge::ok("by ACME"),
    }
}

/// The one from a file goes before the cluster's.
fn in_file(file: &FileCertificate, now: SystemTime) -> Badge {
    let [start, expire] = [file.start_time, file.expire_time].map(|time| time.map_or(now, Time::at));
    certificates::state(start, expire, now)
}

fn issuer(domain: &Domain) -> String {
    match (&domain.file_certificate, &domain.certificate) {
        (Some(file), _) => format!("from a file, by {}", visible(&file.issuer)),
        (None, Some(state)) if !state.issuer.is_empty() => format!("{} for {}", visible(&state.issuer), domain.domain),
        _ => String::new(),
    }
}

fn trouble(state: &DomainCertificate) -> String {
    sentence(&state.error, &state.hint)
}

fn sentence(error: &str, hint: &str) -> String {
    let parts = [error, hint].map(visible);
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use dunlin_proto::v1;

    use super::*;

    fn row(change: impl FnOnce(&mut v1::Domain)) -> DomainRow {
        let mut wire = v1::Domain { name: "namespaces/shop/domains/a.example".into(), ..Default::default() };
        change(&mut wire);
        DomainRow::new(wire.into(), SystemTime::UNIX_EPOCH)
    }

    fn texts(row: &DomainRow) -> (&str, &str, &str) {
        (&row.proof.text, &row.proof_note, &row.certificate.text)
    }

    #[test]
    fn a_domain_is_told_with_what_is_to_be_done() {
        let pending = row(|wire| {
            wire.proof = Some(v1::DomainProof {
                state: v1::DomainProofState::Pending.into(),
                record_name: "_dunlin-challenge.a.example".into(),
                record_text: "text".into(),
                error: "another text: \u{1b}".into(),
                hint: "make it".into(),
                ..Default::default()
            });
        });
        assert_eq!(texts(&pending), ("pending", "another text: ␛: make it", "once it is proved"));
        assert_eq!(pending.record.as_deref(), Some("_dunlin-challenge.a.example. IN TXT \"text\""));
        let proved = |kind: v1::DomainProofKind| v1::DomainProof {
            state: v1::DomainProofState::Proved.into(),
            kind: kind.into(),
            ..Default::default()
        };
        let fresh = row(|wire| wire.proof = Some(proved(v1::DomainProofKind::Dns)));
        assert_eq!((texts(&fresh), &fresh.record), (("proved", "by its record", "none yet"), &None));
        let failing = row(|wire| {
            wire.proof = Some(proved(v1::DomainProofKind::Vouched));
            wire.certificate = Some(v1::DomainCertificateState {
                failures: 1,
                error: "refused".into(),
                hint: "open port 80".into(),
                ..Default::default()
            });
        });
        assert_eq!(texts(&failing), ("proved", "an operator vouches", "failing"));
        assert_eq!(failing.trouble, "refused: open port 80");
        let off = row(|wire| wire.tls = v1::DomainTls::None.into());
        assert_eq!(off.certificate.text, "none by ACME");
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let filed = row(|wire| {
            wire.certificate = Some(v1::DomainCertificateState { issuer: "ACME CA".into(), ..Default::default() });
            wire.file_certificate = Some(v1::FileCertificate {
                issuer: "Our CA".into(),
                start_time: at(0),
                expire_time: at(86_400 * 3),
                ..Default::default()
            });
        });
        assert_eq!((filed.certificate.text.as_str(), filed.issuer.as_str()), ("ends soon", "from a file, by Our CA"));
        assert_eq!(filed.until.unwrap().relative, "in 3 days");
    }
}
