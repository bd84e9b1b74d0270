//! Where rollouts go: to the next step, to the end, or back; all functions of one in one transaction.

use dunlin_proto::{ApiError, ErrorCode};

use super::{Moved, functions_of_in_tx, pending::pending_lock_in_tx, rollout_find_in_tx, rollout_put_in_tx};
use crate::{
    error::Error,
    model::{FunctionRecord, RolloutPart, RolloutRecord, RolloutState, Time},
    store::{ATTEMPTS, Store, retried},
};

/// Where a rollout goes from where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Move {
    /// Nowhere: it is looked whether it is over.
    Look,
    /// To the next step; after the last one, the new versions have everything.
    Advance,
    /// The new versions have everything, at once.
    Promote(RolloutState, String),
    /// The old versions have everything again.
    Back(RolloutState, String),
}

impl Move {
    fn apply(&self, rollout: &mut RolloutRecord) {
        match self {
            Self::Look => {}
            Self::Advance => {
                rollout.step += 1;
                if rollout.step >= rollout.steps.len() {
                    let one = "the new version was no worse in any step";
                    let reason =
                        if rollout.parts.len() > 1 { "the new versions were no worse in any step" } else { one };
                    (rollout.state, rollout.reason) = (RolloutState::Promoted, reason.to_owned());
                }
            }
            Self::Promote(state, reason) => {
                rollout.step = rollout.steps.len();
                (rollout.state, rollout.reason) = (*state, reason.clone());
            }
            Self::Back(state, reason) => (rollout.state, rollout.reason) = (*state, reason.clone()),
        }
    }

    fn divide(&self, rollout: &RolloutRecord, part: &RolloutPart, function: &mut FunctionRecord) {
        match self {
            Self::Back(_, _) => function.roll_back(part.old),
            _ => function.set_traffic(rollout.shares(part)),
        }
    }
}

/// Says which functions' calls somebody has divided in another way.
fn reason(rollout: &RolloutRecord, elsewhere: &[Moved]) -> String {
    let names: Vec<_> = elsewhere.iter().map(|(part, _)| part.function.function.as_str()).collect();
    match rollout.parts.len() {
        1 => "the calls were divided in another way".to_owned(),
        _ => format!("the calls of {} were divided in another way", names.join(", ")),
    }
}

impl Store {
    /// Moves a rollout from where it is known to be. Where somebody has divided the calls of one of its functions in another way
    /// meanwhile, it ends: those stay as they are, and the old versions of the other functions have all calls again. Says what
    /// has become of it; nothing where it has moved already, or all its functions are gone.
    pub(crate) async fn rollout_move(
        &self,
        known: &RolloutRecord,
        whither: &Move,
    ) -> Result<Option<RolloutRecord>, Error> {
        for _ in 0..ATTEMPTS {
            let moved: Result<_, Error> = retried!(self.rollout_move_once(known, whither));
            if let Some(moved) = moved? {
                return Ok(moved);
            }
        }
        let message = "functions of the rollout are being changed by others";
        Err(ApiError::new(ErrorCode::FailedPrecondition, message).hint("try again").into())
    }

    async fn rollout_move_once(
        &self,
        known: &RolloutRecord,
        whither: &Move,
    ) -> Result<Option<Option<RolloutRecord>>, Error> {
        let mut tx = self.begin().await?;
        pending_lock_in_tx(&mut tx, known).await?;
        let found = rollout_find_in_tx(&mut tx, &known.namespace, known.id).await?;
        let same = |found: &RolloutRecord| (found.state, found.step) == (RolloutState::Running, known.step);
        let Some(mut rollout) = found.filter(same) else { return Ok(Some(None)) };
        let functions = functions_of_in_tx(&mut tx, &rollout).await?;
        let is_ours = |(part, function): &Moved| function.traffic == rollout.shares(part);
        let (mut moved, elsewhere): (Vec<_>, Vec<_>) = functions.into_iter().partition(is_ours);
        let superseded = Move::Back(RolloutState::Superseded, reason(&rollout, &elsewhere));
        let whither = if elsewhere.is_empty() { whither } else { &superseded };
        if *whither == Move::Look {
            return Ok(Some(None));
        }
        whither.apply(&mut rollout);
        rollout.update_time = Time::now();
        if moved.is_empty() {
            rollout_put_in_tx(&mut tx, &rollout).await?;
            tx.commit().await?;
            return Ok(Some(Some(rollout)));
        }
        for (part, function) in &mut moved {
            whither.divide(&rollout, part, function);
        }
        Ok(self.rollout_write(tx, rollout, &mut moved).await?.map(Some))
    }
}
