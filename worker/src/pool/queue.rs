//! The worker's one queue for its capacity: who runs, who waits, and who is told that it waits in vain. No clock, no effect:
//! time is an argument, and `capacity.rs` tells the callers.
//!
//! It is bounded as a whole and for each version. Where it is full, the namespace with the most waiting gives up a place to
//! another's newcomer. A slot is never free while somebody waits who may have it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use dunlin_proto::ids::Namespace;
use tokio::time::Instant;

use super::{
    line::{Line, Refusal, Waiter},
    turns::{LineId, TenantId, Turns},
};
use crate::sandbox::{Backlog, Effort};

/// What somebody who waited is told.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It runs, and is counted.
    Go(Effort),
    /// It does not.
    Refused(Refusal),
}

/// Who is told what, and in which line they waited.
pub(super) type Told<T> = Vec<(T, LineId, Verdict)>;

/// The queue; `T` is how somebody who waits learns what became of it.
#[derive(Debug)]
pub(super) struct Queue<T> {
    free: u32,
    backlog: Arc<Backlog>,
    waiting: usize,
    longest: usize,
    next: u64,
    lines: HashMap<LineId, (TenantId, Line<T>)>,
    turns: Turns,
    /// The namespaces that have lines, and how many.
    tenants: BTreeMap<Namespace, (TenantId, usize)>,
}

impl<T> Queue<T> {
    /// So many run at once, and so many may wait; of those that run, as many as there is room for in the backlog.
    pub(super) fn new(slots: u32, longest: usize, backlog: Arc<Backlog>) -> Self {
        let (lines, turns, tenants) = (HashMap::new(), Turns::default(), BTreeMap::new());
        Self { free: slots, backlog, waiting: 0, longest, next: 0, lines, turns, tenants }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A line for a version of a namespace, of which `max` run at once.
    pub(super) fn open(&mut self, namespace: &Namespace, max: u32) -> LineId {
        let (line, fresh) = (LineId(self.number()), TenantId(self.number()));
        let (tenant, lines) = self.tenants.entry(namespace.clone()).or_insert((fresh, 0));
        *lines += 1;
        self.lines.insert(line, (*tenant, Line::new(max)));
        line
    }

    /// Forgets a line in which nobody waits and of which nothing runs.
    pub(super) fn close(&mut self, id: LineId) {
        let Some((tenant, line)) = self.lines.remove(&id) else { return };
        if line.len() > 0 {
            self.waiting -= line.len();
            self.turns.remove(tenant, id);
        }
        self.tenants.retain(|_, (other, lines)| {
            *lines -= usize::from(*other == tenant);
            *lines > 0
        });
    }

    /// Runs one at once, where there is a slot and nobody of the line waits for it.
    pub(super) fn enter(&mut self, id: LineId, expected: Option<Duration>) -> Option<Effort> {
        let (_, line) = self.lines.get_mut(&id)?;
        if self.free == 0 || line.len() > 0 || !line.has_room() || !self.backlog.has_room() {
            return None;
        }
        self.free -= 1;
        line.begin();
        Some(Effort::begin(&self.backlog, expected))
    }

    /// Lets somebody wait until its deadline, who needs so much CPU time as far as is known; `told` are others who lose their place by that. Returns the ticket to leave with.
    ///
    /// # Errors
    /// It would wait in vain.
    pub(super) fn join(
        &mut self,
        id: LineId,
        caller: T,
        until: (Instant, Option<Duration>),
        now: Instant,
        told: &mut Told<T>,
    ) -> Result<u64, Refusal> {
        let ticket = self.number();
        let (deadline, expected) = until;
        let waiter = Waiter { ticket, since: now, deadline, expected, caller };
        let mut away = Vec::new();
        let joined = self.change(id, |line| line.join(waiter, now, &mut away)).unwrap_or(Err(Refusal::Full));
        told.extend(away.into_iter().map(|caller| (caller, id, Verdict::Refused(Refusal::Full))));
        joined?;
        if self.waiting > self.longest {
            self.give_up(id, ticket, now, told)?;
        }
        self.hand_out(now, told);
        Ok(ticket)
    }

    /// Somebody leaves, whether it still waits or not.
    pub(super) fn leave(&mut self, id: LineId, ticket: u64, now: Instant) {
        self.change(id, |line| line.leave(ticket, now));
    }

    /// A slot of a line is free again, after so long.
    pub(super) fn release(&mut self, id: LineId, held: Duration, now: Instant, told: &mut Told<T>) {
        self.free += 1;
        self.change(id, |line| line.end(held));
        self.hand_out(now, told);
    }

    /// How many wait in all lines, and how many slots are free.
    pub(super) fn now(&self) -> (usize, u32) {
        (self.waiting, self.free)
    }

    /// How many wait in a line, and how long the first of them has.
    pub(super) fn waiting(&self, id: LineId, now: Instant) -> (usize, Duration) {
        self.lines.get(&id).map(|(_, line)| (line.len(), line.oldest(now))).unwrap_or_default()
    }

    /// Whether as many of a line run as may.
    pub(super) fn is_at_limit(&self, id: LineId) -> bool {
        self.lines.get(&id).is_some_and(|(_, line)| !line.has_room())
    }

    /// Gives slots to those who wait while there are any.
    pub(super) fn hand_out(&mut self, now: Instant, told: &mut Told<T>) {
        while self.free > 0 && self.backlog.has_room() {
            let lines = &self.lines;
            let Some(id) = self.turns.next(|id| lines.get(&id).is_some_and(|(_, line)| line.has_room())) else {
                return;
            };
            if let Some(Waiter { caller, expected, .. }) = self.take(id, now, told) {
                self.free -= 1;
                told.push((caller, id, Verdict::Go(Effort::begin(&self.backlog, expected))));
            }
        }
    }

    /// The next of a line whose turn it is, which runs from now on; `told` are those who waited in vain.
    fn take(&mut self, id: LineId, now: Instant, told: &mut Told<T>) -> Option<Waiter<T>> {
        let hold = self.lines.get(&id).map(|(_, line)| line.hold());
        self.turns.charge(hold.unwrap_or_default());
        let (mut away, mut late) = (Vec::new(), Vec::new());
        let next = self.change(id, |line| line.next(now, &mut away, &mut late).inspect(|_| line.begin()));
        let refused = |refusal| move |caller| (caller, id, Verdict::Refused(refusal));
        told.extend(away.into_iter().map(refused(Refusal::Full)));
        told.extend(late.into_iter().map(refused(Refusal::Late)));
        next.flatten()
    }

    /// Makes room for somebody who has just joined: the namespace with the most waiting gives up a place.
    fn give_up(&mut self, id: LineId, ticket: u64, now: Instant, told: &mut Told<T>) -> Result<(), Refusal> {
        let own = self.lines.get(&id).map(|(tenant, _)| *tenant);
        let length = |line: &LineId| self.lines.get(line).map_or(0, |(_, line)| line.len());
        let tenants = self.turns.lines().map(|(tenant, lines)| {
            let most = lines.iter().copied().max_by_key(length);
            (lines.iter().map(length).sum::<usize>(), Some(tenant) != own, most)
        });
        match tenants.max_by_key(|(waiting, other, _)| (*waiting, !other)) {
            Some((_, true, Some(most))) => {
                let caller = self.change(most, Line::give_up).flatten();
                told.extend(caller.map(|caller| (caller, most, Verdict::Refused(Refusal::Full))));
                Ok(())
            }
            _ => {
                self.change(id, |line| line.turn_away(ticket, now));
                Err(Refusal::Full)
            }
        }
    }

    /// Changes a line and counts who waits.
    fn change<R>(&mut self, id: LineId, change: impl FnOnce(&mut Line<T>) -> R) -> Option<R> {
        let (tenant, line) = self.lines.get_mut(&id)?;
        let before = line.len();
        let result = change(line);
        let after = line.len();
        self.waiting = self.waiting + after - before;
        self.backlog.want(self.waiting > 0);
        match (before, after) {
            (0, 1..) => self.turns.add(*tenant, id),
            (1.., 0) => self.turns.remove(*tenant, id),
            _ => {}
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests;
