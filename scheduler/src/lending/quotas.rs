//! What `Lending` knows of quotas, for the services: which process is behind a gateway's stream, what it is lent and says that it
//! has left, and what it must be told of that. What follows of it is in `lending/quota.rs`.

use dunlin_proto::{ids::GatewayId, limit::LimitId};

use super::{Buried, Left, Lending, MOST, Process, Question, State};
use crate::cluster::Session;

impl Lending {
    /// The process behind a stream says which it is. Returns those that were there before it: they are gone.
    pub(crate) fn recognise(&self, gateway: &GatewayId, session: Session, boot: u64) -> Vec<Buried> {
        let mut state = self.state();
        let Some(connection) = state.gateways.get_mut(gateway).filter(|known| known.session == session) else {
            return Vec::new();
        };
        connection.boot = boot;
        state.lefts.join(&(gateway.clone(), boot))
    }

    /// What a process left has gone back to its quotas, or could not.
    pub(crate) fn forget_process(&self, process: &Process) {
        self.state().lefts.forget(process);
    }

    /// A gateway says what it has left of quotas, and that these are its words up to `sequence`; 0 where it does not count them.
    pub(crate) fn report_left(
        &self,
        gateway: &GatewayId,
        session: Session,
        lefts: Vec<(LimitId, Left)>,
        sequence: u64,
    ) {
        let mut state = self.state();
        let State { gateways, lefts: known, .. } = &mut *state;
        let Some(connection) = gateways.get_mut(gateway).filter(|known| known.session == session) else { return };
        let process = (gateway.clone(), connection.boot);
        // It may go below what it promised only where that is no more what is known here, and where none of it has gone back.
        let confirms = sequence > 0 && lefts.len() <= MOST && !known.is_buried(&process);
        for (owner, left) in lefts.into_iter().take(MOST) {
            known.note(&process, owner, left);
        }
        if confirms {
            connection.noted = Some(sequence);
            connection.told.notify_one();
        }
    }

    /// Up to where a gateway must be told that its words are known.
    pub(crate) fn noted(&self, gateway: &GatewayId, session: Session) -> Option<u64> {
        let mut state = self.state();
        state.gateways.get_mut(gateway).filter(|known| known.session == session)?.noted.take()
    }

    /// A process asks for a loan. What it gives back is here until the answer is known.
    pub(crate) fn asked(&self, process: &Process, owner: &LimitId, loan: u64) -> Question {
        self.state().lefts.ask(process, owner, loan)
    }

    /// A process is lent a part of a quota, in place of what it had. Returns the part's floor.
    pub(crate) fn lent(&self, process: &Process, owner: &LimitId, lent: Left, window: u64) -> u64 {
        let mut state = self.state();
        // One that is not heard would never say that it has used it.
        let heard = state.gateways.get(&process.0).is_some_and(|known| known.boot == process.1);
        if heard { state.lefts.lend(process, owner, lent, window) } else { 0 }
    }

    /// What gateways have left of a quota.
    pub(crate) fn left(&self, owner: &LimitId, period_start: i64) -> u64 {
        self.state().lefts.of(owner, period_start)
    }

    /// Whether other processes than this one have something left of a quota.
    pub(crate) fn is_left_elsewhere(&self, owner: &LimitId, period_start: i64, but: &Process) -> bool {
        self.state().lefts.elsewhere(owner, period_start, but) > 0
    }
}
