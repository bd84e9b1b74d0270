//! Which version a caller gets where calls are divided: a pure function, the same on every gateway.
//!
//! Each caller has a place among 10,000, which depends on the division, or on the rollout that divides several functions' calls, and
//! on nothing else. The newest version takes the first
//! places, the next one those after it. So a higher weight of a newer version moves callers to it and none away, and a caller
//! stays where it is as long as the weights do. Who a caller is, is found out in `invoke/choice.rs`.

use dunlin_proto::{
    ids::{Digest, FunctionUid, InvocationId, VersionNumber},
    names::KeyId,
};
use http::HeaderName;

/// Places of callers.
const PLACES: u64 = 10_000;
/// Places of one percent.
const OF_A_PERCENT: u32 = 100;

/// How the calls of a function or alias divide.
#[derive(Debug, Default)]
pub(crate) struct Split {
    /// The versions, the newest first, with the place that is the first behind each.
    ends: Vec<(VersionNumber, u32)>,
    /// What gives callers other places than in another division.
    seed: Vec<u8>,
    /// How callers are told apart that proved nothing.
    pub(crate) sticky: Sticky,
}

/// By what callers are told apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sticky {
    /// The header whose value does.
    pub(crate) header: Option<HeaderName>,
    /// Whether who has no cookie is given one.
    pub(crate) cookie: bool,
}

/// Who calls, by the best that is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who<'a> {
    /// The bearer of a key.
    Key(&'a KeyId),
    /// Whom a token names.
    Token {
        /// Who issued it.
        issuer: &'a str,
        /// Whom it names for that issuer.
        subject: &'a str,
    },
    /// Who sends this value of the header.
    Header(&'a [u8]),
    /// Who was given this cookie.
    Cookie(&'a [u8]),
    /// Nobody in particular.
    Request(InvocationId),
}

impl Split {
    /// A division of a function's calls; `alias` is empty for its own traffic.
    pub(crate) fn new(
        function: FunctionUid,
        alias: &str,
        division: u64,
        shares: impl IntoIterator<Item = (VersionNumber, u32)>,
        sticky: Sticky,
    ) -> Self {
        let mut shares: Vec<_> = shares.into_iter().filter(|(_, percent)| *percent > 0).collect();
        shares.sort_by(|(one, _), (other, _)| other.cmp(one));
        let mut end = 0_u32;
        let ends = shares.into_iter().map(|(version, percent)| {
            end = end.saturating_add(percent.saturating_mul(OF_A_PERCENT));
            (version, end)
        });
        let ends = ends.collect();
        let seed = [function.uuid().as_bytes().as_slice(), &division.to_be_bytes(), alias.as_bytes()].concat();
        Self { ends, seed, sticky }
    }

    /// The same division with the places of callers that all divisions with this text have, whatever their function.
    pub(crate) fn with_seed(self, text: &str) -> Self {
        Self { seed: [b"seed ".as_slice(), text.as_bytes()].concat(), ..self }
    }

    /// The versions with calls, the newest first, each with its percent.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (VersionNumber, u32)> + '_ {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let share = |((version, end), begin): (&(VersionNumber, u32), u32)| {
            (*version, end.saturating_sub(begin) / OF_A_PERCENT)
        };
        self.ends.iter().zip(begins).map(share)
    }

    /// The version that gets all calls, where one does: then nothing has to be found out about callers.
    pub(crate) fn only(&self) -> Option<VersionNumber> {
        match self.ends.as_slice() {
            [(version, _)] => Some(*version),
            _ => None,
        }
    }

    /// Whether no version gets a call.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The version that a caller gets.
    pub(crate) fn choose(&self, who: Who<'_>) -> Option<VersionNumber> {
        if let [(only, _)] = self.ends.as_slice() {
            return Some(*only);
        }
        let place = self.place(who);
        let within = self.ends.iter().find(|(_, end)| place < *end);
        // Shares that are no whole leave their rest to the oldest.
        within.or(self.ends.last()).map(|(version, _)| *version)
    }

    /// A caller's place.
    fn place(&self, who: Who<'_>) -> u32 {
        // Each kind has a mark, and the first part its length: nobody takes another one's place by writing like it.
        let drawn;
        let (mark, parts): (u8, [&[u8]; 2]) = match who {
            Who::Key(id) => (b'k', [id.as_str().as_bytes(), &[]]),
            Who::Token { issuer, subject } => (b't', [issuer.as_bytes(), subject.as_bytes()]),
            Who::Header(value) => (b'h', [value, &[]]),
            Who::Cookie(value) => (b'c', [value, &[]]),
            Who::Request(id) => {
                drawn = id.uuid();
                (b'r', [drawn.as_bytes(), &[]])
            }
        };
        let [first, second] = parts;
        let text = [self.seed.as_slice(), &[0, mark], &first.len().to_be_bytes(), first, second].concat();
        let digest = Digest::of(&text);
        let number = digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        u32::try_from(number % PLACES).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
