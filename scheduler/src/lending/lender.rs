//! One limited rate and who has which part of it. What is lent and what is kept never exceed the limit together: a part
//! counts for whoever was told of it until it has confirmed a smaller one, or has been lost for a minute.
//!
//! Time is an argument. Admissions move with parts only once: what a gateway had saved up and may not keep is gone, and what
//! is lent again comes with what was saved up here.

use std::{collections::BTreeMap, time::Duration};

use dunlin_proto::{ids::GatewayId, model::Rate};
use tokio::time::Instant;

use super::share::{Share, divide};

/// How long a gateway that is not heard keeps its part: it may be cut off and alive.
pub(super) const LOST: Duration = Duration::from_secs(60);

/// A gateway's part.
#[derive(Debug, Clone, Copy, Default)]
struct Holder {
    /// What it was told last.
    told: Share,
    /// What it may still be using: as much as `told`, and more until it has confirmed that.
    lent: Share,
    /// Calls a second.
    wanted: f64,
    /// Counts what it was told.
    sequence: u64,
    /// Admissions that came with its parts.
    granted: f64,
    /// Since when it is not heard.
    lost: Option<Instant>,
}

/// What a gateway is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Loan {
    pub(crate) sequence: u64,
    pub(crate) share: Share,
    pub(crate) granted: f64,
}

/// What a gateway says of one limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Want {
    /// Calls a second.
    pub(crate) per_second: f64,
    /// The last loan that it keeps to.
    pub(crate) sequence: u64,
}

/// One limited rate.
#[derive(Debug)]
pub(crate) struct Lender {
    rate: Rate,
    holders: BTreeMap<GatewayId, Holder>,
    /// Admissions saved up here, as of `counted`.
    kept: f64,
    counted: Instant,
}

impl Lender {
    /// Nothing is lent yet. What is new has its burst; of what is not, nobody knows how much has been used.
    pub(crate) fn new(rate: Rate, kept: f64, counted: Instant) -> Self {
        Self { rate, holders: BTreeMap::new(), kept: kept.clamp(0.0, rate.burst.into()), counted }
    }

    /// The limit.
    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    fn whole(&self) -> Share {
        Share { per_second: self.rate.per_second(), burst: self.rate.burst.into() }
    }

    /// What nobody has been lent.
    fn free(&self) -> Share {
        self.whole().without(self.holders.values().map(|holder| holder.lent).fold(Share::default(), Share::plus))
    }

    /// Counts what has been saved up since the last time.
    fn count(&mut self, now: Instant) {
        let free = self.free();
        let gained = now.saturating_duration_since(self.counted).as_secs_f64() * free.per_second;
        self.kept = (self.kept + gained).min(free.burst);
        self.counted = self.counted.max(now);
    }

    /// The limit has changed.
    pub(crate) fn change(&mut self, rate: Rate, now: Instant) {
        self.count(now);
        self.rate = rate;
        self.count(now);
    }

    /// A gateway says what it has of it; whatever it was told before may never have arrived.
    pub(crate) fn join(&mut self, gateway: &GatewayId, held: Share, now: Instant) {
        self.count(now);
        let held = held.sane(Share { per_second: f64::MAX, burst: f64::MAX });
        self.holders.insert(gateway.clone(), Holder { told: held, lent: held, ..Holder::default() });
        self.count(now);
    }

    /// A gateway is no longer heard.
    pub(crate) fn leave(&mut self, gateway: &GatewayId, now: Instant) {
        if let Some(holder) = self.holders.get_mut(gateway) {
            holder.lost.get_or_insert(now);
            holder.wanted = 0.0;
        }
    }

    /// A gateway says what its callers want.
    pub(crate) fn report(&mut self, gateway: &GatewayId, want: Want, now: Instant) {
        self.count(now);
        let most = self.whole().per_second * 1000.0;
        let holder = self.holders.entry(gateway.clone()).or_default();
        holder.wanted = if want.per_second.is_finite() { want.per_second.clamp(0.0, most) } else { 0.0 };
        if want.sequence == holder.sequence {
            holder.lent = holder.told;
        }
        self.count(now);
    }

    /// Divides it anew, and says who must be told. `others`: there are gateways that have no part yet; `lends`: nobody who
    /// may hold a part is unknown.
    pub(crate) fn settle(&mut self, now: Instant, others: bool, lends: bool) -> Vec<GatewayId> {
        self.count(now);
        let expired = |holder: &Holder| holder.lost.is_some_and(|lost| now.saturating_duration_since(lost) >= LOST);
        self.holders.retain(|_, holder| !expired(holder));
        let targets = self.targets(others);
        let mut told = self.lower(&targets);
        if lends {
            told.extend(self.raise(&targets));
        }
        self.count(now);
        told.sort_unstable();
        told.dedup();
        told
    }

    /// What each gateway that is heard should have.
    fn targets(&self, others: bool) -> BTreeMap<GatewayId, Share> {
        let heard = || self.holders.iter().filter(|(_, holder)| holder.lost.is_none());
        let lost = self.holders.values().filter(|holder| holder.lost.is_some()).map(|holder| holder.lent);
        let whole = self.whole().without(lost.fold(Share::default(), Share::plus));
        let wanted: Vec<_> = heard().map(|(_, holder)| holder.wanted).collect();
        let parts =
            if self.rate.is_lent() { divide(whole, &wanted, others) } else { vec![Share::default(); wanted.len()] };
        heard().map(|(gateway, _)| gateway.clone()).zip(parts).collect()
    }

    /// Asks for what is more than it should be.
    fn lower(&mut self, targets: &BTreeMap<GatewayId, Share>) -> Vec<GatewayId> {
        let whole = self.whole();
        let mut told = Vec::new();
        for (gateway, target) in targets {
            let Some(holder) = self.holders.get_mut(gateway) else { continue };
            let less = holder.told.smaller(*target);
            if holder.told.differs(less, whole) || (less == Share::default() && holder.told != less) {
                holder.told = less;
                holder.sequence += 1;
                told.push(gateway.clone());
            }
        }
        told
    }

    /// Lends what is free, with what is saved up.
    fn raise(&mut self, targets: &BTreeMap<GatewayId, Share>) -> Vec<GatewayId> {
        let (whole, mut free) = (self.whole(), self.free());
        let mut told = Vec::new();
        for (gateway, target) in targets {
            let Some(holder) = self.holders.get_mut(gateway) else { continue };
            let more = target.without(holder.told).smaller(free);
            // What it has not confirmed to be without is still counted as lent, so that it costs nothing to give it back.
            let next = holder.told.plus(more);
            if !next.differs(holder.told, whole) {
                continue;
            }
            let lent = holder.lent.larger(next);
            free = free.without(lent.without(holder.lent));
            let granted = self.kept.min(lent.without(holder.lent).burst);
            self.kept -= granted;
            (holder.told, holder.lent) = (next, lent);
            holder.granted += granted;
            holder.sequence += 1;
            told.push(gateway.clone());
        }
        told
    }

    /// Takes one admission, or says when the next may be there.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        self.count(now);
        // Sums of fractions fall a hair short of the whole that they make.
        if self.kept >= 1.0 - 1e-9 {
            self.kept = (self.kept - 1.0).max(0.0);
            return Ok(());
        }
        let per_second = self.free().per_second;
        let wait = (1.0 - self.kept) / per_second;
        Err(if wait.is_finite() { Duration::from_secs_f64(wait.clamp(0.001, 86_400.0)) } else { LOST })
    }

    /// What a gateway is told now.
    pub(crate) fn loan(&self, gateway: &GatewayId) -> Option<Loan> {
        let holder = self.holders.get(gateway)?;
        Some(Loan { sequence: holder.sequence, share: holder.told, granted: holder.granted })
    }

    /// Whether a gateway has a part of it, or may have.
    pub(crate) fn has(&self, gateway: &GatewayId) -> bool {
        self.holders.contains_key(gateway)
    }

    /// How many gateways have a part of it.
    pub(crate) fn holders(&self) -> usize {
        self.holders.len()
    }

    /// Whether a new one would be the same.
    pub(crate) fn is_idle(&mut self, now: Instant) -> bool {
        self.count(now);
        self.holders.is_empty() && self.kept >= f64::from(self.rate.burst)
    }

    /// What is lent and what is free, for tests of their sum.
    #[cfg(test)]
    pub(super) fn sum_of_lent(&self) -> Share {
        self.holders.values().map(|holder| holder.lent).fold(Share::default(), Share::plus)
    }
}

#[cfg(test)]
mod tests;
