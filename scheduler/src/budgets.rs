//! Budgets of namespaces: how far they are used, and which are used up, for gateways to refuse calls.
//!
//! What is used is summed up from the database when a budget is loaded, changed or begins a period, and counted on with every report of
//! usage after that. Reports and sums exclude each other, so that nothing counts twice or not at all. Judging is pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ids::Namespace,
    model::{Budget, BudgetLimit, Spent},
};
use tokio::sync::{Mutex, watch};

use crate::{
    error::Error,
    model::{ReportId, UsageDelta},
    rpc::seconds_now,
    store::Store,
    webhooks::{BudgetUse, Event},
};

/// How often it is looked whether a period has ended.
const LOOK: Duration = Duration::from_secs(1);

/// Microseconds of a CPU second.
const CPU_UNIT: u64 = 1_000_000;

/// A bound of a budget that is used up and enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpentBudget {
    pub(crate) namespace: Namespace,
    /// It is of CPU seconds; otherwise, of calls.
    pub(crate) cpu: bool,
    /// So much was used when it was found.
    pub(crate) used: u64,
    pub(crate) allowed: u64,
    /// When it began and when it ends, in seconds since 1970.
    pub(crate) period: (i64, i64),
}

/// What is used of a bound in its present period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) limit: BudgetLimit,
    /// How much makes one of what the limit counts.
    unit: u64,
    /// When it began and when it ends, in seconds since 1970.
    pub(crate) period: (i64, i64),
    /// In units.
    used: u64,
    /// What has been said of it.
    told: Spent,
}

impl Tally {
    fn begin(limit: BudgetLimit, unit: u64, now: i64) -> Option<Self> {
        Some(Self { limit, unit, period: limit.period.around(now)?, used: 0, told: Spent::Little })
    }

    fn add(&mut self, hour: i64, used: u64) {
        if (self.period.0..self.period.1).contains(&hour) {
            self.used = self.used.saturating_add(used);
        }
    }

    /// What is used, in what the limit counts; rounded down.
    pub(crate) fn used(&self) -> u64 {
        self.used.checked_div(self.unit).unwrap_or_default()
    }

    /// How far it is used.
    pub(crate) fn spent(&self, warn_percent: u32) -> Spent {
        self.limit.spent(self.used, self.unit, warn_percent)
    }

    fn is_over(&self, now: i64) -> bool {
        now >= self.period.1
    }
}

/// A budget and what is used of it.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) budget: Budget,
    pub(crate) cpu: Option<Tally>,
    pub(crate) calls: Option<Tally>,
}

impl Account {
    fn begin(budget: Budget, now: i64) -> Self {
        let cpu = budget.cpu.and_then(|limit| Tally::begin(limit, CPU_UNIT, now));
        let calls = budget.calls.and_then(|limit| Tally::begin(limit, 1, now));
        Self { budget, cpu, calls }
    }

    fn tallies(&mut self) -> impl Iterator<Item = &mut Tally> {
        self.cpu.iter_mut().chain(&mut self.calls)
    }

    fn is_over(&self, now: i64) -> bool {
        self.cpu.iter().chain(&self.calls).any(|tally| tally.is_over(now))
    }

    fn add(&mut self, delta: &UsageDelta) {
        if let Some(cpu) = &mut self.cpu {
            cpu.add(delta.hour, delta.amounts.cpu_micros);
        }
        if let Some(calls) = &mut self.calls {
            calls.add(delta.hour, delta.amounts.invocations);
        }
    }

    /// The bound for which calls are refused; of two, the one that is in force longer.
    fn refusal(&self, namespace: &Namespace) -> Option<SpentBudget> {
        let spent = |tally: &&Tally| tally.spent(self.budget.warn_percent) == Spent::All;
        let of = |tally: &Option<Tally>, cpu| {
            let tally = tally.as_ref().filter(spent)?;
            let (namespace, period) = (namespace.clone(), tally.period);
            Some(SpentBudget { namespace, cpu, used: tally.used(), allowed: tally.limit.amount, period })
        };
        let both = [of(&self.calls, false), of(&self.cpu, true)];
        both.into_iter().flatten().filter(|_| self.budget.enforce).max_by_key(|spent| spent.period.1)
    }

    /// What has not been said of this period yet.
    fn untold(&self) -> Vec<BudgetUse> {
        let Budget { warn_percent, enforce, .. } = self.budget;
        let of = |tally: &Option<Tally>, cpu| {
            let tally = tally.as_ref()?;
            let (spent, limit, period) = (tally.spent(warn_percent), tally.limit, tally.period);
            let told = BudgetUse { cpu, limit, used: tally.used(), period, all: spent == Spent::All, enforce };
            (spent > tally.told).then_some(told)
        };
        [of(&self.calls, false), of(&self.cpu, true)].into_iter().flatten().collect()
    }

    /// Everything has been said.
    fn told(&mut self) {
        let warn_percent = self.budget.warn_percent;
        self.tallies().for_each(|tally| tally.told = tally.spent(warn_percent));
    }

    /// Nothing has been said: there is somebody who does not know.
    fn untell(&mut self) {
        self.tallies().for_each(|tally| tally.told = Spent::Little);
    }
}

#[derive(Debug, Default)]
struct State {
    accounts: BTreeMap<Namespace, Account>,
    /// What is in memory may not be what is in the database.
    stale: bool,
}

impl State {
    fn spent(&self) -> Vec<SpentBudget> {
        self.accounts.iter().filter_map(|(namespace, account)| account.refusal(namespace)).collect()
    }
}

/// Keeps budgets, and takes in what was used.
#[derive(Debug)]
pub(crate) struct Budgets {
    store: Store,
    state: Mutex<State>,
    spent: watch::Sender<Arc<Vec<SpentBudget>>>,
}

impl Budgets {
    /// Loads all budgets.
    pub(crate) async fn load(store: Store) -> Result<Self, Error> {
        let budgets = Self { store, state: Mutex::default(), spent: watch::Sender::default() };
        let mut state = budgets.state.lock().await;
        budgets.reload(&mut state).await?;
        budgets.judge(&mut state).await;
        drop(state);
        Ok(budgets)
    }

    /// Those that are used up and enforced, in the order of namespaces.
    pub(crate) fn spent(&self) -> watch::Receiver<Arc<Vec<SpentBudget>>> {
        self.spent.subscribe()
    }

    /// Counts a report, once.
    pub(crate) async fn report(&self, report: &ReportId, deltas: &[UsageDelta]) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        let applied = self.store.usage_apply(report, deltas).await;
        // Whether it was counted is not known.
        state.stale |= applied.is_err();
        if applied? {
            for delta in deltas {
                if let Some(account) = state.accounts.get_mut(&delta.function.namespace) {
                    account.add(delta);
                }
            }
            self.judge(&mut state).await;
        }
        Ok(())
    }

    /// Learns of a budget that was set or deleted, or went with its namespace.
    pub(crate) async fn changed(&self, namespace: &Namespace) {
        let mut state = self.state.lock().await;
        state.stale = true;
        self.look(&mut state).await;
        if !state.stale {
            tracing::debug!(%namespace, "budgets are loaded again");
        }
    }

    /// Learns that a namespace's webhook was set: its receiver may not know yet how far the budget is used.
    pub(crate) async fn webhook_set(&self, namespace: &Namespace) {
        let mut state = self.state.lock().await;
        state.accounts.get_mut(namespace).into_iter().for_each(Account::untell);
        self.judge(&mut state).await;
    }

    /// A namespace's budget, and what is used of it.
    pub(crate) async fn account(&self, namespace: &Namespace) -> Result<Account, Error> {
        let budget = self.store.budget_fetch(namespace).await?;
        let mut state = self.state.lock().await;
        self.look(&mut state).await;
        let known = state.accounts.get(namespace).filter(|account| account.budget == budget);
        Ok(known.cloned().unwrap_or_else(|| Account::begin(budget, seconds_now())))
    }

    /// Looks once a second whether a period has ended, until the end.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.begun() => return,
            }
            let mut state = self.state.lock().await;
            self.look(&mut state).await;
        }
    }

    /// Sums up again what has to be.
    async fn look(&self, state: &mut State) {
        let now = seconds_now();
        if !state.stale && !state.accounts.values().any(|account| account.is_over(now)) {
            return;
        }
        match self.reload(state).await {
            Ok(()) => self.judge(state).await,
            Err(error) => {
                state.stale = true;
                tracing::warn!(cause = format!("{:#}", anyhow::Error::new(error)), "budgets can't be loaded");
            }
        }
    }

    async fn reload(&self, state: &mut State) -> Result<(), Error> {
        let (now, mut accounts) = (seconds_now(), BTreeMap::new());
        for (namespace, budget) in self.store.budget_list().await? {
            let mut account = Account::begin(budget, now);
            if let Some(cpu) = &mut account.cpu {
                cpu.used = self.store.usage_sum(&namespace, cpu.period).await?.cpu_micros;
            }
            if let Some(calls) = &mut account.calls {
                calls.used = self.store.usage_sum(&namespace, calls.period).await?.invocations;
            }
            // What has been said is not said again.
            if let Some(before) = state.accounts.get(&namespace).filter(|before| before.budget == budget) {
                let told = |tally: &mut Tally, before: Option<&Tally>| {
                    tally.told =
                        before.filter(|before| before.period == tally.period).map_or(Spent::Little, |it| it.told);
                };
                account.cpu.iter_mut().for_each(|tally| told(tally, before.cpu.as_ref()));
                account.calls.iter_mut().for_each(|tally| told(tally, before.calls.as_ref()));
            }
            accounts.insert(namespace, account);
        }
        *state = State { accounts, stale: false };
        Ok(())
    }

    /// Says in the log and to the namespace's webhook what has not been said of this period yet. After a restart it is said again,
    /// and the webhook is told once nevertheless. False where that can't be done.
    async fn tell(&self, namespace: &Namespace, account: &mut Account) -> bool {
        for spent in account.untold() {
            let (used, allowed, enforce) = (spent.used, spent.limit.to_string(), spent.enforce);
            tracing::warn!(%namespace, used, allowed, enforce, used_up = spent.all, "a budget is used");
            if let Err(error) = self.store.webhook_tell(&Event::budget(namespace, &spent)).await {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(%namespace, cause, "the webhook can't be told of a budget: it is tried again");
                return false;
            }
        }
        account.told();
        true
    }

    /// Tells gateways of those that are used up, where these are others than before; how much is used more does not matter.
    async fn judge(&self, state: &mut State) {
        for (namespace, account) in &mut state.accounts {
            // The next look tries again.
            state.stale |= !self.tell(namespace, account).await;
        }
        let now = state.spent();
        let same = |a: &SpentBudget, b: &SpentBudget| {
            SpentBudget { used: 0, ..a.clone() } == SpentBudget { used: 0, ..b.clone() }
        };
        self.spent.send_if_modified(|known| {
            let changed = known.len() != now.len() || !known.iter().zip(&now).all(|(a, b)| same(a, b));
            if changed {
                *known = Arc::new(now);
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{ids::FunctionUid, ids::VersionKey, model::QuotaPeriod};

    use super::*;
    use crate::model::Amounts;

    const DAY: i64 = 86_400;

    fn account(enforce: bool) -> Account {
        let limit = |amount, period| Some(BudgetLimit { amount, period });
        let (cpu, calls) = (limit(10, QuotaPeriod::Month), limit(20, QuotaPeriod::Day));
        Account::begin(Budget { cpu, calls, warn_percent: 50, enforce }, DAY + 5)
    }

    fn used(hour: i64, invocations: u64, cpu_micros: u64) -> UsageDelta {
        UsageDelta {
            function: "namespaces/shop/functions/pay".parse().unwrap(),
            version: VersionKey { function: FunctionUid::new(), number: 1.try_into().unwrap() },
            key: None,
            hour,
            amounts: Amounts { invocations, cpu_micros, ..Amounts::default() },
        }
    }

    #[test]
    fn what_is_used_in_the_period_counts_and_nothing_else() {
        let (mut account, shop) = (account(true), "shop".parse().unwrap());
        account.add(&used(0, 100, 1_000_000));
        account.add(&used(2 * DAY, 100, 1_000_000));
        let calls = account.calls.unwrap();
        assert_eq!((calls.used(), calls.spent(50)), (0, Spent::Little), "yesterday and tomorrow");
        assert_eq!(account.cpu.unwrap().used(), 2, "of the same month");
        account.add(&used(DAY, 19, 0));
        assert_eq!((account.calls.unwrap().spent(50), account.refusal(&shop)), (Spent::Warning, None));
        account.add(&used(DAY + 3_600, 4, 0));
        let spent = account.refusal(&shop).unwrap();
        assert_eq!((spent.cpu, spent.used, spent.allowed, spent.period), (false, 23, 20, (DAY, 2 * DAY)));
        // The month lasts longer than the day.
        account.add(&used(DAY, 0, 8_000_000));
        assert!(account.refusal(&shop).unwrap().cpu);
        assert!(!account.is_over(2 * DAY - 1) && account.is_over(2 * DAY));
    }

    #[test]
    fn what_was_said_is_said_again_to_whoever_does_not_know() {
        let mut account = account(true);
        account.add(&used(DAY, 20, 6_000_000));
        let kinds = |account: &Account| account.untold().iter().map(|it| (it.cpu, it.all)).collect::<Vec<_>>();
        let all = [(false, true), (true, false)];
        assert_eq!(kinds(&account), all);
        account.told();
        assert!(account.untold().is_empty());
        account.untell();
        assert_eq!(kinds(&account), all);
    }

    #[test]
    fn a_budget_that_is_not_enforced_refuses_nothing() {
        let mut account = account(false);
        account.add(&used(DAY, 100, 100_000_000));
        assert_eq!(account.refusal(&"shop".parse().unwrap()), None);
        assert_eq!(account.calls.unwrap().spent(50), Spent::All);
    }
}
