//! How much of a quota is lent at once, and what becomes of it with the process that had it. What has been lent is in the store; what
//! gateways have left of it they say, and that is known here alone, for people to see. Of a part of it they promise more: they use
//! nothing below a loan's floor before they know that a lower one is noted here. When the process is gone, the floor is what it
//! cannot have used, and goes back.
//!
//! Whatever is taken back is taken out of here first, and no process is believed that has been buried. So it goes back once, also
//! where the process lives on: it would keep to its floors, since none is confirmed to it any more.

use std::collections::{BTreeMap, VecDeque};

use dunlin_proto::{ids::GatewayId, limit::LimitId};

/// Of what is free, each of the gateways is lent no more at once than one part in so many.
const PARTS: u64 = 4;
/// Of so many processes it is known that they have been buried. What one says that is forgotten here would have to be on its way
/// for as long as it takes to bury the others.
const BURIED: usize = 10_000;

/// What is lent of `allowed`, of which so much is gone, to one of so many gateways that wants so much: never all that is
/// free while there are others, and one at a time in the end.
pub(crate) fn loan(allowed: u64, gone: u64, wanted: u64, gateways: u64) -> u64 {
    let free = allowed.saturating_sub(gone);
    let part = free.checked_div(PARTS.saturating_mul(gateways.max(1))).unwrap_or_default();
    wanted.min(part.max(1)).min(free)
}

/// A gateway's process, by the number that it has chosen; 0 where its software chooses none.
pub(crate) type Process = (GatewayId, u64);

/// What a process has of a quota, as it says, or as it was lent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Which of its loans; 0 where its software numbers none, and promises nothing.
    pub(crate) loan: u64,
    /// When the period began that it is of, in seconds since 1970.
    pub(crate) period_start: i64,
    /// What it has not used.
    pub(crate) left: u64,
    /// What of that it does not use before it has said so and been told that it is known.
    pub(crate) floor: u64,
}

/// What a process cannot have used of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unused {
    pub(crate) owner: LimitId,
    pub(crate) period_start: i64,
    pub(crate) admissions: u64,
}

/// A process that is gone, with what goes back to quotas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Buried {
    pub(crate) process: Process,
    pub(crate) unused: Vec<Unused>,
}

/// How a question for a loan is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    /// What the process says that it gives back has gone back already, or is lost.
    pub(crate) is_buried: bool,
    /// The process has asked again meanwhile, and waits for this answer no longer.
    pub(crate) is_late: bool,
}

/// What gateways have left of loans.
#[derive(Debug, Default)]
pub(super) struct Lefts {
    processes: BTreeMap<Process, BTreeMap<LimitId, Left>>,
    /// The processes that are gone, the last ones last.
    buried: VecDeque<Process>,
}

impl Lefts {
    /// A process opens a stream. What it has it says anew; until then, what it has promised is what is known to be left. Returns
    /// earlier processes of the same gateway: two with one name are not at work at a time.
    pub(super) fn join(&mut self, process: &Process) -> Vec<Buried> {
        let before = self.bury_where(|known| known.0 == process.0 && known != process);
        let owners = self.processes.entry(process.clone()).or_default();
        if process.1 == 0 {
            owners.clear();
        }
        owners.values_mut().for_each(|known| known.left = known.floor);
        before
    }

    /// The processes of a gateway are gone. What they have left counts as such until they are forgotten, so that nobody is told that
    /// there is nothing to wait for while it goes back.
    pub(super) fn bury(&mut self, gateway: &GatewayId) -> Vec<Buried> {
        self.bury_where(|known| known.0 == *gateway)
    }

    fn bury_where(&mut self, which: impl Fn(&Process) -> bool) -> Vec<Buried> {
        let Self { processes, buried } = self;
        // Of one without a number nothing goes back.
        processes.retain(|process, _| process.1 != 0 || !which(process));
        let gone = processes.iter_mut().filter(|(process, _)| which(process));
        let gone = gone.filter_map(|(process, owners)| {
            if buried.contains(process) {
                return None;
            }
            buried.push_back(process.clone());
            let unused = owners.iter_mut().filter_map(|(owner, known)| {
                let admissions = std::mem::take(&mut known.floor);
                let (owner, period_start) = (owner.clone(), known.period_start);
                (admissions > 0).then_some(Unused { owner, period_start, admissions })
            });
            Some(Buried { process: process.clone(), unused: unused.collect() })
        });
        let gone = gone.collect();
        while buried.len() > BURIED {
            buried.pop_front();
        }
        gone
    }

    /// Whether a process is gone, as far as is known here.
    pub(super) fn is_buried(&self, process: &Process) -> bool {
        self.buried.contains(process)
    }

    /// What a process had left counts as used from now on.
    pub(super) fn forget(&mut self, process: &Process) {
        self.processes.remove(process);
    }

    /// The same of all processes of a gateway that are not buried: it is not heard, and may be using it.
    pub(super) fn forget_gateway(&mut self, gateway: &GatewayId) {
        let Self { processes, buried } = self;
        processes.retain(|process, _| process.0 != *gateway || buried.contains(process));
    }

    /// A process asks for its loan of this number. What it promised of earlier ones does not hold any more: it gives them back.
    pub(super) fn ask(&mut self, process: &Process, owner: &LimitId, loan: u64) -> Question {
        let is_buried = self.is_buried(process);
        let Some(owners) = self.processes.get_mut(process).filter(|_| loan > 0) else {
            return Question { is_buried, is_late: false };
        };
        let known = owners.entry(owner.clone()).or_default();
        let is_late = known.loan >= loan;
        if !is_late {
            *known = Left { loan, floor: 0, ..*known };
        }
        Question { is_buried, is_late }
    }

    /// A process is lent what it asked for, and uses no more of it than the window before it says so. Returns the loan's floor.
    pub(super) fn lend(&mut self, process: &Process, owner: &LimitId, lent: Left, window: u64) -> u64 {
        let floor = if window == 0 { 0 } else { lent.left.saturating_sub(window) };
        self.note(process, owner.clone(), Left { floor, ..lent })
    }

    /// A process has so much left. What it says of a loan that it has given back meanwhile says nothing, and neither does anything
    /// that one says that is buried. Returns the floor that it keeps to.
    pub(super) fn note(&mut self, process: &Process, owner: LimitId, left: Left) -> u64 {
        if self.is_buried(process) {
            return 0;
        }
        let promises = left.loan > 0 && process.1 > 0;
        let known = self.processes.entry(process.clone()).or_default().entry(owner).or_default();
        if known.loan > left.loan {
            return 0;
        }
        *known = Left { floor: if promises { left.floor.min(left.left) } else { 0 }, ..left };
        known.floor
    }

    /// What all of them have left.
    pub(super) fn of(&self, owner: &LimitId, period_start: i64) -> u64 {
        Self::sum(self.processes.values(), owner, period_start)
    }

    /// What all but one process have left.
    pub(super) fn elsewhere(&self, owner: &LimitId, period_start: i64, but: &Process) -> u64 {
        let others = self.processes.iter().filter(|(process, _)| *process != but);
        Self::sum(others.map(|(_, owners)| owners), owner, period_start)
    }

    fn sum<'a>(of: impl Iterator<Item = &'a BTreeMap<LimitId, Left>>, owner: &LimitId, period_start: i64) -> u64 {
        let known = of.filter_map(|owners| owners.get(owner));
        known.filter(|known| known.period_start == period_start).map(|known| known.left).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests;
