//! One limit and who has which part of it. What is lent and what is kept never exceed the limit together: a part
//! counts for whoever was told of it until it has confirmed a smaller one, or has been lost for a minute.
//!
//! Time is an argument. Admissions move with parts only once: what a gateway had saved up and may not keep is gone, and what
//! is lent again comes with what was saved up here.

use std::{collections::BTreeMap, time::Duration};

use dunlin_proto::ids::GatewayId;
use tokio::time::Instant;

use super::{
    allowance::Allowance,
    share::{Share, divide},
    slots::{self, Seeker},
};

/// Where nothing is ever earned, it is not asked again for so long.
const LONG: Duration = Duration::from_secs(60);
/// While parts may come back, which makes more to grant, not for longer than this.
const SOON: Duration = Duration::from_millis(500);

/// A gateway's part.
#[derive(Debug, Clone, Copy, Default)]
struct Holder {
    /// Which of the parts that the gateway has had.
    part: u64,
    /// What it was told last.
    told: Share,
    /// What it may still be using: as much as `told`, and more until it has confirmed that.
    lent: Share,
    /// Calls a second, or at once.
    wanted: f64,
    /// When it was told last that it has nothing, or something after nothing.
    turned: Option<Instant>,
    /// Counts what it was told.
    sequence: u64,
    /// Admissions that came with its parts.
    granted: f64,
    /// Since when it is not heard.
    lost: Option<Instant>,
    /// It has been told that there is no such limit any more.
    dismissed: bool,
}

impl Holder {
    /// A gateway that has nothing of what any part before this one had; it counts loans on.
    fn new(part: u64, sequence: u64) -> Self {
        Self { part, sequence, ..Self::default() }
    }

    /// It is told of another part.
    fn tell(&mut self, share: Share, now: Instant) {
        if (share == Share::default()) != (self.told == Share::default()) {
            self.turned = Some(now);
        }
        self.told = share;
        self.sequence += 1;
    }

    /// What it has to do with calls at once.
    fn seeker(&self, now: Instant) -> Seeker {
        let since = self.turned.map(|turned| now.saturating_duration_since(turned));
        Seeker { wanted: count(self.wanted.ceil()), has: count(self.told.burst), since }
    }
}

/// A number of calls that is bounded as those that there are.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded to what fits")]
fn count(calls: f64) -> u32 {
    calls.clamp(0.0, f64::from(u32::MAX)).floor() as u32
}

/// What a gateway is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Loan {
    /// Which of its parts this is for.
    pub(crate) part: u64,
    pub(crate) sequence: u64,
    pub(crate) share: Share,
    pub(crate) granted: f64,
}

/// What a gateway has, as it says when it connects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    /// Which of its parts that is.
    pub(crate) number: u64,
    pub(crate) share: Share,
}

/// What a gateway says of one limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Want {
    /// Calls a second, or at once.
    pub(crate) calls: f64,
    /// The last loan that it keeps to.
    pub(crate) sequence: u64,
    /// How many run at once, where that is more than its part.
    pub(crate) uses: f64,
    /// Which of its parts it speaks of; one that it had before has nothing.
    pub(crate) part: u64,
}

/// One limit.
#[derive(Debug)]
pub(crate) struct Lender {
    allowance: Allowance,
    holders: BTreeMap<GatewayId, Holder>,
    /// Admissions saved up here, as of `counted`.
    kept: f64,
    counted: Instant,
}

impl Lender {
    /// Nothing is lent yet. What is new has its burst; of what is not, nobody knows how much has been used.
    pub(crate) fn new(allowance: Allowance, kept: f64, counted: Instant) -> Self {
        Self { allowance, holders: BTreeMap::new(), kept: kept.clamp(0.0, allowance.saves()), counted }
    }

    /// The limit.
    pub(crate) fn allowance(&self) -> Allowance {
        self.allowance
    }

    fn whole(&self) -> Share {
        self.allowance.whole()
    }

    /// What nobody has been lent.
    fn free(&self) -> Share {
        self.whole().without(self.holders.values().map(|holder| holder.lent).fold(Share::default(), Share::plus))
    }

    /// Counts what has been saved up since the last time.
    fn count(&mut self, now: Instant) {
        let free = self.free();
        let gained = now.saturating_duration_since(self.counted).as_secs_f64() * free.per_second;
        self.kept = (self.kept + gained).min(free.burst).min(self.allowance.saves());
        self.counted = self.counted.max(now);
    }

    /// The limit has changed.
    pub(crate) fn change(&mut self, allowance: Allowance, now: Instant) {
        self.count(now);
        self.allowance = allowance;
        self.holders.values_mut().for_each(|holder| holder.dismissed = false);
        self.count(now);
    }

    /// A gateway says what it has of it; whatever it was told before may never have arrived.
    pub(crate) fn join(&mut self, gateway: &GatewayId, held: Part, now: Instant) {
        self.count(now);
        let share = held.share.sane(Share { per_second: f64::MAX, burst: f64::MAX });
        let holder = Holder { told: share, lent: share, ..Holder::new(held.number, 0) };
        self.holders.insert(gateway.clone(), holder);
        self.count(now);
    }

    /// A gateway is no longer heard.
    pub(crate) fn leave(&mut self, gateway: &GatewayId, now: Instant) {
        if let Some(holder) = self.holders.get_mut(gateway) {
            holder.lost.get_or_insert(now);
            holder.wanted = 0.0;
        }
    }

    /// A gateway has nothing any more: it says so, or its process is gone, and what it ran is cancelled.
    pub(crate) fn bury(&mut self, gateway: &GatewayId, now: Instant) {
        self.count(now);
        self.holders.remove(gateway);
        self.count(now);
    }

    /// A gateway says what its callers want.
    pub(crate) fn report(&mut self, gateway: &GatewayId, want: Want, now: Instant) {
        self.count(now);
        let most = self.allowance.most_wanted();
        let anew = Holder::new(want.part, want.sequence);
        let holder = self.holders.entry(gateway.clone()).or_insert(anew);
        if holder.part != want.part {
            *holder = anew;
        }
        let sane = |calls: f64, most: f64| if calls.is_finite() { calls.clamp(0.0, most) } else { 0.0 };
        holder.wanted = sane(want.calls, most);
        let keeps_to = if want.sequence == holder.sequence { holder.told } else { holder.lent };
        holder.lent = keeps_to.larger(Share { per_second: 0.0, burst: sane(want.uses, f64::MAX) });
        self.count(now);
    }

    /// Takes away what those have that have not been heard for so long; of how many parts. One that is cut off and alive goes on
    /// with its part, so that by as much more may be admitted than the limit allows.
    pub(crate) fn expire(&mut self, now: Instant, patience: Duration) -> u64 {
        self.count(now);
        let is_over = |_: &GatewayId, holder: &mut Holder| {
            holder.lost.is_some_and(|lost| now.saturating_duration_since(lost) >= patience)
        };
        let over = self.holders.extract_if(.., is_over);
        let parts = over.filter(|(_, holder)| holder.lent != Share::default()).count();
        self.count(now);
        u64::try_from(parts).unwrap_or(u64::MAX)
    }

    /// Divides it anew, and says who must be told. `others`: there are gateways that have no part yet; `lends`: nobody who
    /// may hold a part is unknown.
    pub(crate) fn settle(&mut self, now: Instant, others: bool, lends: bool) -> Vec<GatewayId> {
        self.count(now);
        let targets = self.targets(others, now);
        let mut told = self.lower(&targets, now);
        if lends {
            told.extend(self.raise(&targets, now));
        }
        self.count(now);
        told.sort_unstable();
        told.dedup();
        told
    }

    /// What each gateway that is heard should have.
    fn targets(&self, others: bool, now: Instant) -> BTreeMap<GatewayId, Share> {
        let heard = || self.holders.iter().filter(|(_, holder)| holder.lost.is_none());
        let lost = self.holders.values().filter(|holder| holder.lost.is_some()).map(|holder| holder.lent);
        let whole = self.whole().without(lost.fold(Share::default(), Share::plus));
        let wanted = || heard().map(|(_, holder)| holder.wanted).collect::<Vec<_>>();
        let parts = match self.allowance {
            Allowance::Rate(rate) if rate.is_lent() => divide(whole, &wanted(), others),
            Allowance::Rate(_) | Allowance::Nothing => vec![Share::default(); wanted().len()],
            Allowance::AtOnce(_) => {
                let seekers: Vec<_> = heard().map(|(_, holder)| holder.seeker(now)).collect();
                slots::divide(count(whole.burst), &seekers).into_iter().map(Share::of_slots).collect()
            }
        };
        heard().map(|(gateway, _)| gateway.clone()).zip(parts).collect()
    }

    /// Asks for what is more than it should be.
    fn lower(&mut self, targets: &BTreeMap<GatewayId, Share>, now: Instant) -> Vec<GatewayId> {
        let mut told = Vec::new();
        for (gateway, target) in targets {
            let Some(holder) = self.holders.get_mut(gateway) else { continue };
            let less = holder.told.smaller(*target);
            // Who has nothing of what is gone is told as well: it may wait for something.
            let dismissed = self.allowance == Allowance::Nothing;
            let ends = dismissed && !std::mem::replace(&mut holder.dismissed, dismissed);
            let is_last = less == Share::default() && holder.told != less;
            if ends || is_last || self.allowance.differ(holder.told, less) {
                holder.tell(less, now);
                told.push(gateway.clone());
            }
        }
        told
    }

    /// Lends what is free, with what is saved up.
    fn raise(&mut self, targets: &BTreeMap<GatewayId, Share>, now: Instant) -> Vec<GatewayId> {
        let mut free = self.free();
        let mut told = Vec::new();
        for (gateway, target) in targets {
            let Some(holder) = self.holders.get_mut(gateway) else { continue };
            // What it has not confirmed to be without is still counted as lent, so that it costs nothing to give it back.
            let more = target.without(holder.told).smaller(free.plus(holder.lent.without(holder.told)));
            let next = holder.told.plus(more);
            if !self.allowance.differ(next, holder.told) {
                continue;
            }
            let lent = holder.lent.larger(next);
            free = free.without(lent.without(holder.lent));
            let granted = self.kept.min(lent.without(holder.lent).burst);
            self.kept -= granted;
            holder.tell(next, now);
            holder.lent = lent;
            holder.granted += granted;
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
        let free = self.free();
        let wait = (1.0 - self.kept) / free.per_second;
        let wait = if wait.is_finite() { Duration::from_secs_f64(wait.clamp(0.001, 86_400.0)) } else { LONG };
        // A gateway that took a part while there was no scheduler gives it back once it is heard.
        Err(if free == self.whole() { wait } else { wait.min(SOON) })
    }

    /// What a gateway is told now.
    pub(crate) fn loan(&self, gateway: &GatewayId) -> Option<Loan> {
        let holder = self.holders.get(gateway)?;
        let Holder { part, sequence, told, granted, .. } = *holder;
        Some(Loan { part, sequence, share: told, granted })
    }

    /// How many gateways have a part of it.
    pub(crate) fn holders(&self) -> usize {
        self.holders.len()
    }

    /// Whether a new one would be the same: nobody may have anything of it, or wait for something.
    pub(crate) fn is_idle(&mut self, now: Instant) -> bool {
        self.count(now);
        self.holders.is_empty() && self.kept >= self.allowance.saves()
    }

    /// What is lent and what is free, for tests of their sum.
    #[cfg(test)]
    pub(super) fn sum_of_lent(&self) -> Share {
        self.holders.values().map(|holder| holder.lent).fold(Share::default(), Share::plus)
    }
}

#[cfg(test)]
mod tests;
