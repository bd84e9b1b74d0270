//! The audit log as shown: entries as they were hashed, and its signed end as one keeps it elsewhere.

use base64::{Engine, prelude::BASE64_STANDARD};
use dunlin_proto::{
    ApiError,
    audit::{Entry, Head},
    ids::Digest,
};
use serde::{Deserialize, Serialize};

use super::{Time, or_dash};
use crate::{exit::Failure, output::Column, units};

/// An entry.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EntryView {
    pub(crate) sequence: u64,
    /// RFC 3339, to the microsecond.
    pub(crate) time: String,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) role: String,
    pub(crate) token_id: String,
    pub(crate) address: String,
    pub(crate) gateway: String,
    pub(crate) action: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) outcome: &'static str,
    /// The text that was hashed.
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) request_id: String,
    pub(crate) hash: String,
    #[serde(skip)]
    at: Option<Time>,
}

impl EntryView {
    /// An entry with the hash that it says to have.
    pub(crate) fn new(entry: Entry, hash: &Digest) -> Self {
        let at = moment(entry.time);
        Self {
            sequence: entry.sequence,
            time: units::rfc3339_micros(at),
            subject: entry.subject,
            issuer: entry.issuer,
            role: entry.role,
            token_id: entry.token_id,
            address: entry.address,
            gateway: entry.gateway,
            action: entry.action,
            namespace: entry.namespace,
            resource: entry.resource,
            outcome: entry.outcome.as_str(),
            before: entry.before,
            after: entry.after,
            request_id: entry.request_id,
            hash: hash.hex(),
            at: Some(Time(at)),
        }
    }

    fn who(&self) -> String {
        if self.subject.is_empty() { "(the platform)".to_owned() } else { self.subject.clone() }
    }
}

/// A moment in microseconds since 1970.
fn moment(micros: i64) -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// The columns of a list of entries.
pub(crate) const ENTRIES: &[Column<EntryView>] = &[
    Column::new("SEQ", |entry| entry.sequence.to_string()),
    Column::new("AGE", |entry| super::age(entry.at)),
    Column::new("WHO", EntryView::who),
    Column::new("FROM", |entry| or_dash(&entry.address)),
    Column::new("ACTION", |entry| entry.action.clone()),
    Column::new("RESOURCE", |entry| or_dash(&entry.resource)),
    Column::new("OUTCOME", |entry| entry.outcome.to_owned()),
    Column::wide("ROLE", |entry| or_dash(&entry.role)),
    Column::wide("GATEWAY", |entry| or_dash(&entry.gateway)),
    Column::wide("BEFORE", |entry| or_dash(&entry.before)),
    Column::wide("AFTER", |entry| or_dash(&entry.after)),
];

/// A signed end of the log with the key that signed it: what `dunlin audit head` prints and `dunlin audit verify` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeadView {
    pub(crate) sequence: u64,
    pub(crate) hash: String,
    /// Microseconds since 1970.
    pub(crate) time_us: i64,
    /// Base64.
    pub(crate) signature: String,
    pub(crate) public_key: String,
}

impl HeadView {
    /// An end, and the key.
    pub(crate) fn new(head: &Head, public_key: &[u8]) -> Self {
        Self {
            sequence: head.sequence,
            hash: head.hash.hex(),
            time_us: head.time,
            signature: BASE64_STANDARD.encode(&head.signature),
            public_key: BASE64_STANDARD.encode(public_key),
        }
    }

    /// The end, and the key.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn read(&self) -> Result<(Head, Vec<u8>), Failure> {
        let wrong = |what: &str| Failure::usage(format!("the saved head has a {what} that is none"));
        let signature = BASE64_STANDARD.decode(&self.signature).map_err(|_| wrong("signature"))?;
        let public_key = BASE64_STANDARD.decode(&self.public_key).map_err(|_| wrong("public key"))?;
        let hash = self.hash.parse().map_err(|_| wrong("hash"))?;
        Ok((Head { sequence: self.sequence, hash, time: self.time_us, signature }, public_key))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let time = units::rfc3339(moment(self.time_us));
        format!("{} entries, the last one of {time}\nhash: {}\n", self.sequence, self.hash)
    }
}

/// What a verified log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct VerifiedView {
    pub(crate) ok: bool,
    /// The first entry that can't be trusted; null where all can.
    pub(crate) bad_sequence: Option<u64>,
    /// What is wrong; empty where nothing is.
    pub(crate) problem: String,
    /// The last entry up to which the log was checked.
    pub(crate) sequence: u64,
    /// The first entry that there is.
    pub(crate) first: u64,
    /// The entry of the saved head; null without one.
    pub(crate) since: Option<u64>,
}

impl VerifiedView {
    /// For people, where all is well.
    pub(crate) fn text(&self) -> String {
        let range = match self.sequence {
            0 => "the audit log is empty".to_owned(),
            last => format!("entries {} to {last} are as they were written, and the head is signed", self.first),
        };
        match self.since {
            Some(since) if since < self.first.saturating_sub(1) => {
                format!("{range}; the saved head (entry {since}) is older than what the log keeps\n")
            }
            Some(since) => format!("{range}; the saved head (entry {since}) lies on it\n"),
            None => format!("{range}\n"),
        }
    }
}

/// An error of a message that is none of ours.
pub(crate) fn unreadable(error: &ApiError) -> Failure {
    Failure::new(
        crate::exit::Exit::Failed,
        format!("the cluster sent an audit log that can't be read: {}", error.message),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_from_its_file_as_it_was() {
        let head = Head { sequence: 7, hash: Digest::of(b"x"), time: 1_234_567, signature: vec![1, 2, 3] };
        let view = HeadView::new(&head, &[9; 32]);
        let text = serde_json::to_string(&view).unwrap();
        let again: HeadView = serde_json::from_str(&text).unwrap();
        assert_eq!(again.read().unwrap(), (head, vec![9; 32]));
        assert!(HeadView { hash: "00".into(), ..view.clone() }.read().is_err());
        assert!(HeadView { signature: "?".into(), ..view }.read().is_err());
    }

    #[test]
    fn what_was_verified_is_told_in_words() {
        let view = |first, since| VerifiedView {
            ok: true,
            bad_sequence: None,
            problem: String::new(),
            sequence: 9,
            first,
            since,
        };
        assert!(view(1, None).text().starts_with("entries 1 to 9 are as they were written"));
        assert!(view(1, Some(4)).text().ends_with("(entry 4) lies on it\n"));
        assert!(view(6, Some(4)).text().ends_with("older than what the log keeps\n"));
        assert!(view(6, Some(5)).text().ends_with("lies on it\n"));
        assert_eq!(VerifiedView { sequence: 0, ..view(1, None) }.text(), "the audit log is empty\n");
    }
}
