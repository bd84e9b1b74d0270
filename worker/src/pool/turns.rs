//! Whose turn it is among namespaces that wait for the worker: deficit round robin (Shreedhar and Varghese, 1995) over the
//! time for which invocations hold a sandbox, so that each gets the same share of the worker, whatever it asks for and however
//! long its functions run. Within a namespace functions take turns. No clock, no effect.

use std::{collections::VecDeque, time::Duration};

/// What a namespace is given each time that its turn comes, in microseconds of a sandbox.
const QUANTUM: i64 = 5_000;
/// The least and the most that an invocation counts for, in microseconds: it is charged before it has run, by its function's
/// average.
const COST: (i64, i64) = (100, 100_000);

/// A version's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LineId(pub(super) u64);

/// A namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TenantId(pub(super) u64);

/// The namespaces that wait, the next one first.
#[derive(Debug, Default)]
pub(super) struct Turns(VecDeque<Tenant>);

#[derive(Debug)]
struct Tenant {
    id: TenantId,
    /// What it may use before the next one's turn; below zero it used more, and pays that back first.
    credit: i64,
    lines: VecDeque<LineId>,
}

impl Turns {
    /// Somebody waits in a line of the namespace.
    pub(super) fn add(&mut self, id: TenantId, line: LineId) {
        match self.0.iter_mut().find(|tenant| tenant.id == id) {
            Some(tenant) => tenant.lines.push_back(line),
            None => self.0.push_back(Tenant { id, credit: 0, lines: [line].into() }),
        }
    }

    /// Nobody waits in the line any more.
    pub(super) fn remove(&mut self, id: TenantId, line: LineId) {
        if let Some(at) = self.0.iter().position(|tenant| tenant.id == id) {
            let empty = self.0.get_mut(at).is_some_and(|tenant| {
                tenant.lines.retain(|other| *other != line);
                tenant.lines.is_empty()
            });
            if empty {
                self.0.remove(at);
            }
        }
    }

    /// The line whose turn it is, of those that may have one; [`Turns::charge`] what it used.
    pub(super) fn next(&mut self, may: impl Fn(LineId) -> bool) -> Option<LineId> {
        let mut passed = 0;
        while passed < self.0.len() {
            let tenant = self.0.front_mut()?;
            match tenant.turn(&may) {
                Some(line) if tenant.has_credit() => return Some(line),
                Some(_) => passed = 0,
                None => passed += 1,
            }
            self.0.rotate_left(1);
        }
        None
    }

    /// Charges the namespace whose turn it was with an invocation that holds its sandbox for so long.
    pub(super) fn charge(&mut self, hold: Duration) {
        let cost = i64::try_from(hold.as_micros()).unwrap_or(i64::MAX).clamp(COST.0, COST.1);
        let Some(tenant) = self.0.front_mut() else { return };
        tenant.credit -= cost;
        tenant.lines.rotate_left(1);
        if tenant.credit <= 0 {
            self.0.rotate_left(1);
        }
    }

    /// The namespaces that wait, with their lines.
    pub(super) fn lines(&self) -> impl Iterator<Item = (TenantId, &VecDeque<LineId>)> {
        self.0.iter().map(|tenant| (tenant.id, &tenant.lines))
    }
}

impl Tenant {
    /// The line whose turn it is, which is then the first.
    fn turn(&mut self, may: impl Fn(LineId) -> bool) -> Option<LineId> {
        let at = self.lines.iter().position(|line| may(*line))?;
        self.lines.rotate_left(at);
        self.lines.front().copied()
    }

    /// Gives it the quantum where it has used up what it had.
    fn has_credit(&mut self) -> bool {
        if self.credit <= 0 {
            self.credit += QUANTUM;
        }
        self.credit > 0
    }
}
