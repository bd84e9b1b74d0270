//! Limits of functions, namespaces and keys, of calls in a time and at once, lent to gateways in parts. A gateway decides about calls by itself within its
//! part, so that the scheduler is asked about none of them; what is too small to divide is granted one by one.
//!
//! Nothing here is durable but the names of the gateways that may hold parts: after a restart nothing is lent until each of
//! them has said what it holds, or has been silent for too long. How a part moves is in `lending/lender.rs`. What is lent of a limit
//! that is removed comes back like everything else: it may be set again before every gateway has noticed.

mod allowance;
mod gone;
mod lender;
mod quota;
mod quotas;
mod share;
mod slots;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dunlin_proto::{ApiError, ids::GatewayId, limit::LimitId};
use tokio::{sync::Notify, time::Instant};

pub(crate) use self::{
    allowance::Allowance,
    gone::gone,
    lender::{Loan, Part, Want},
    quota::{Buried, Left, Process, Question, Unused, loan},
    share::Share,
};
use self::{lender::Lender, quota::Lefts};
use crate::{catalog::Catalog, cluster::Session};

/// Limits of which one gateway may speak.
const MOST: usize = 200_000;

/// A gateway that is connected.
#[derive(Debug)]
struct Connection {
    session: Session,
    /// Which of the gateway's processes it is; 0 where its software does not say, and before it has said so.
    boot: u64,
    /// What it has said of quotas up to here is known, and it is to be told.
    noted: Option<u64>,
    /// Limits of which it must be told.
    news: BTreeSet<LimitId>,
    /// Wakes its stream.
    told: Arc<Notify>,
}

/// All limits that somebody has asked for.
#[derive(Debug)]
pub(crate) struct Lending {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lenders: BTreeMap<LimitId, Lender>,
    gateways: BTreeMap<GatewayId, Connection>,
    /// Gateways that may hold parts which nobody here knows.
    awaited: BTreeSet<GatewayId>,
    /// Gateways that may hold parts, as the store knows them.
    remembered: BTreeMap<GatewayId, Instant>,
    /// Limits that were there before this scheduler began, and when that was.
    old: BTreeSet<LimitId>,
    /// What gateways have left of quotas that they were lent.
    lefts: Lefts,
    /// What was lent again and may be in use still.
    lost: Lost,
    began: Instant,
    /// How long a gateway that is not heard keeps its parts: it may be cut off and alive.
    patience: Duration,
}

/// What has been lent again since the scheduler began, although whoever had it may be alive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Gateways that were not heard for too long.
    pub(crate) gateways: u64,
    /// Their parts of limits of calls in a time.
    pub(crate) rates: u64,
    /// Their parts of limits of calls at once.
    pub(crate) at_once: u64,
}

impl Lost {
    fn note(&mut self, limit: &LimitId, parts: u64) {
        match limit {
            LimitId::Function(_) | LimitId::Namespace(_) | LimitId::Key(_) => self.rates += parts,
            LimitId::KeyConcurrency(_) | LimitId::Concurrency(_) | LimitId::Reserved(_) | LimitId::Shared(_) => {
                self.at_once += parts
            }
        }
    }
}

impl Lending {
    /// The limits of a catalog, with the gateways that may hold parts of them, and for how long they keep those unheard.
    pub(crate) fn new(remembered: BTreeSet<GatewayId>, catalog: &Catalog, began: Instant, patience: Duration) -> Self {
        let state = State {
            lenders: BTreeMap::new(),
            gateways: BTreeMap::new(),
            remembered: remembered.iter().map(|gateway| (gateway.clone(), began)).collect(),
            awaited: remembered,
            old: catalog.limited().collect(),
            lefts: Lefts::default(),
            lost: Lost::default(),
            began,
            patience,
        };
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gateway opens its stream and says what it holds. Returns what wakes its stream, and whether the store must learn
    /// its name before anything is lent to it.
    pub(crate) fn join(
        &self,
        gateway: &GatewayId,
        session: Session,
        held: &[(LimitId, Part)],
        catalog: &Catalog,
        now: Instant,
    ) -> Arc<Notify> {
        let mut state = self.state();
        let told = Arc::new(Notify::new());
        let connection = Connection { session, boot: 0, noted: None, news: BTreeSet::new(), told: told.clone() };
        state.gateways.insert(gateway.clone(), connection);
        state.awaited.remove(gateway);
        let held: BTreeMap<_, _> = held.iter().take(MOST).map(|(limit, held)| (limit, *held)).collect();
        state
            .lenders
            .iter_mut()
            .filter(|(limit, _)| !held.contains_key(limit))
            .for_each(|(_, it)| it.bury(gateway, now));
        for (limit, held) in held {
            // It may be held although it is gone.
            if catalog.allowance(limit).is_none() {
                let lender = || Lender::new(Allowance::Nothing, 0.0, now);
                state.lenders.entry(limit.clone()).or_insert_with(lender);
            }
            state.on(limit, catalog, now, |lender| lender.join(gateway, held, now));
        }
        told
    }

    /// How long a gateway that is not heard keeps its parts.
    pub(crate) fn patience(&self) -> Duration {
        self.state().patience
    }

    /// What has been lent again although it may be in use.
    pub(crate) fn lost(&self) -> Lost {
        self.state().lost
    }

    /// Limits that somebody has asked for, gateways that may hold parts, and those of them that have not said what they hold.
    pub(crate) fn census(&self) -> (usize, usize, usize) {
        let state = self.state();
        (state.lenders.len(), state.remembered.len(), state.awaited.len())
    }

    /// Whether the store knows that the gateway may hold parts.
    pub(crate) fn remembers(&self, gateway: &GatewayId) -> bool {
        self.state().remembered.contains_key(gateway)
    }

    /// The store knows.
    pub(crate) fn remember(&self, gateway: &GatewayId, now: Instant) {
        self.state().remembered.insert(gateway.clone(), now);
    }

    /// A gateway's stream has ended.
    pub(crate) fn leave(&self, gateway: &GatewayId, session: Session, now: Instant) {
        let mut state = self.state();
        if state.gateways.get(gateway).is_none_or(|connection| connection.session != session) {
            return;
        }
        state.gateways.remove(gateway);
        state.remembered.entry(gateway.clone()).and_modify(|since| *since = now);
        if !state.remembered.contains_key(gateway) {
            // Nobody would notice that its time is over.
            state.lefts.forget_gateway(gateway);
        }
        let State { lenders, .. } = &mut *state;
        lenders.values_mut().for_each(|lender| lender.leave(gateway, now));
    }

    /// The process of a gateway that is not heard is gone, and with it all that it ran: its parts can be lent again. Returns
    /// what goes back to quotas; nothing at all where it has come back meanwhile.
    pub(crate) fn bury(&self, gateway: &GatewayId, catalog: &Catalog, now: Instant) -> Option<Vec<Buried>> {
        let mut state = self.state();
        if state.gateways.contains_key(gateway) {
            return None;
        }
        state.awaited.remove(gateway);
        state.remembered.remove(gateway);
        for limit in state.lenders.keys().cloned().collect::<Vec<_>>() {
            state.on(&limit, catalog, now, |lender| lender.bury(gateway, now));
            state.settle(&limit, now);
        }
        Some(state.lefts.bury(gateway))
    }

    /// A gateway says what its callers want, or that it has nothing of a limit that it knows no more.
    pub(crate) fn report(
        &self,
        gateway: &GatewayId,
        session: Session,
        wants: Vec<(LimitId, Option<Want>)>,
        catalog: &Catalog,
        now: Instant,
    ) {
        let mut state = self.state();
        if state.gateways.get(gateway).is_none_or(|connection| connection.session != session) {
            return;
        }
        for (limit, want) in wants.into_iter().take(MOST) {
            state.on(&limit, catalog, now, |lender| match want {
                Some(want) => lender.report(gateway, want, now),
                None => lender.bury(gateway, now),
            });
            state.settle(&limit, now);
            // Whoever asks is told, be it only that there is nothing.
            state.tell(gateway, &limit);
        }
    }

    /// How many gateways there are.
    pub(crate) fn gateways(&self) -> u64 {
        u64::try_from(self.state().gateways.len()).unwrap_or(u64::MAX)
    }

    /// What a gateway must be told.
    pub(crate) fn loans(&self, gateway: &GatewayId, session: Session) -> Vec<(LimitId, Loan)> {
        let mut state = self.state();
        let State { lenders, gateways, .. } = &mut *state;
        let Some(connection) = gateways.get_mut(gateway).filter(|known| known.session == session) else {
            return Vec::new();
        };
        let news = std::mem::take(&mut connection.news).into_iter();
        news.filter_map(|limit| Some((lenders.get(&limit)?.loan(gateway)?, limit)))
            .map(|(loan, limit)| (limit, loan))
            .collect()
    }

    /// Grants one admission, or says when to ask again.
    ///
    /// # Errors
    /// There is no such limit.
    pub(crate) fn admit(
        &self,
        limit: &LimitId,
        catalog: &Catalog,
        now: Instant,
    ) -> Result<Result<(), Duration>, ApiError> {
        let is_rate = matches!(catalog.allowance(limit), Some(Allowance::Rate(_)));
        let admitted = is_rate.then(|| self.state().on(limit, catalog, now, |lender| lender.admit(now))).flatten();
        admitted.ok_or_else(|| ApiError::not_found(format!("limit {limit}")))
    }

    /// Lends again what was lost, follows changes of limits, and returns the gateways that hold nothing any more.
    pub(crate) fn tidy(&self, catalog: &Catalog, now: Instant) -> Vec<GatewayId> {
        let mut state = self.state();
        let patience = state.patience;
        if now.saturating_duration_since(state.began) >= patience {
            state.awaited.clear();
        }
        for limit in state.lenders.keys().cloned().collect::<Vec<_>>() {
            match state.on(&limit, catalog, now, |lender| lender.is_idle(now)) {
                Some(false) => state.settle(&limit, now),
                Some(true) | None => {
                    state.lenders.remove(&limit);
                    state.old.remove(&limit);
                }
            }
        }
        let State { gateways, remembered, lost, .. } = &mut *state;
        let gone = |(gateway, since): (&GatewayId, &mut Instant)| {
            !gateways.contains_key(gateway) && now.saturating_duration_since(*since) >= patience
        };
        let over = remembered.extract_if(.., |gateway, since| gone((gateway, since)));
        let over: Vec<_> = over.map(|(gateway, _)| gateway).inspect(|_| lost.gateways += 1).collect();
        // It may be cut off and use them: they count as used.
        over.iter().for_each(|gateway| state.lefts.forget_gateway(gateway));
        over
    }
}

impl State {
    /// Does something with the lender of a limit that exists, or of which something may be lent still.
    fn on<T>(
        &mut self,
        limit: &LimitId,
        catalog: &Catalog,
        now: Instant,
        act: impl FnOnce(&mut Lender) -> T,
    ) -> Option<T> {
        let gone = || self.lenders.contains_key(limit).then_some(Allowance::Nothing);
        let allowance = catalog.allowance(limit).or_else(gone)?;
        let saved = if self.old.contains(limit) {
            now.saturating_duration_since(self.began).as_secs_f64() * allowance.whole().per_second
        } else {
            allowance.saves()
        };
        let lender = self.lenders.entry(limit.clone()).or_insert_with(|| Lender::new(allowance, saved, now));
        if lender.allowance() != allowance {
            lender.change(allowance, now);
        }
        Some(act(lender))
    }

    /// Divides a limit anew, and has gateways told.
    fn settle(&mut self, limit: &LimitId, now: Instant) {
        let (connected, lends) = (self.gateways.len(), self.awaited.is_empty());
        let Some(lender) = self.lenders.get_mut(limit) else { return };
        self.lost.note(limit, lender.expire(now, self.patience));
        let others = connected > lender.holders();
        for gateway in lender.settle(now, others, lends) {
            self.tell(&gateway, limit);
        }
    }

    fn tell(&mut self, gateway: &GatewayId, limit: &LimitId) {
        if let Some(connection) = self.gateways.get_mut(gateway) {
            connection.news.insert(limit.clone());
            connection.told.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
