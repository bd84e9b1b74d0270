//! What this gateway and the scheduler have said to each other about one part: which loan came last, what callers want, and what of
//! it the scheduler has yet to hear. What a part is, is in `part.rs` and `slots.rs`.

use super::part::Want;

/// How far a want must have moved to be worth a report: of what was reported, and of the limit.
const NEWS: (f64, f64) = (0.15, 0.005);

/// The account of one part.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Which part of its limit this is, of those that this gateway has had: what was lent to another one is gone with it.
    part: u64,
    /// Of the last loan of this stream.
    sequence: u64,
    /// It has been told, or has taken, what its part is.
    pub(super) known: bool,
    /// The scheduler waits to hear that a smaller part is kept to.
    confirms: bool,
    /// A call waits for a part.
    asks: bool,
    /// What callers want: calls a second, or at once.
    pub(super) wanted: f64,
    pub(super) reported: f64,
}

impl Account {
    /// Of another part than there was before.
    pub(super) fn anew() -> Self {
        // 0 is said by software that numbers none.
        Self { part: rand::random::<u64>().max(1), ..Self::default() }
    }

    /// Which part this is.
    pub(super) fn part(&self) -> u64 {
        self.part
    }

    /// A new stream begins; loans are counted anew.
    pub(super) fn begin(&mut self) {
        (self.sequence, self.reported, self.confirms) = (0, 0.0, false);
    }

    /// Whether a loan is for this part. Where it is for one that is gone, the scheduler has to be told.
    pub(super) fn is_for(&mut self, part: u64) -> bool {
        let same = part == 0 || part == self.part;
        self.confirms |= !same;
        same
    }

    /// Whether a loan is older than what is kept to.
    pub(super) fn is_old(&self, sequence: u64) -> bool {
        sequence < self.sequence
    }

    /// Whether a loan is what is kept to already.
    pub(super) fn is_same(&self, sequence: u64) -> bool {
        sequence == self.sequence && self.known && sequence > 0
    }

    /// Keeps to a loan.
    pub(super) fn accept(&mut self, sequence: u64, smaller: bool) {
        (self.sequence, self.known) = (sequence, true);
        self.confirms |= smaller;
    }

    /// A call waits for a part.
    pub(super) fn ask(&mut self) {
        self.asks = true;
    }

    /// Whether there is something to tell of a limit of so much; `measures`: it is time to look at what callers want.
    pub(super) fn tells(&self, limit: f64, measures: bool) -> bool {
        let far = (self.wanted - self.reported).abs() > self.reported * NEWS.0 + limit * NEWS.1;
        self.confirms || self.asks || (measures && far)
    }

    /// What there is to tell.
    pub(super) fn want(&self, uses: f64) -> Want {
        // Who asks wants one at least.
        let least = if self.asks { 1.0 } else { 0.0 };
        Want { calls: self.wanted.max(least), sequence: self.sequence, uses, part: self.part }
    }

    /// The scheduler has been told.
    pub(super) fn sent(&mut self, want: Want) {
        self.reported = want.calls;
        self.confirms &= want.sequence != self.sequence;
        self.asks = false;
    }
}
