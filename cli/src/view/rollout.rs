//! Rollouts, as shown.

use dunlin_proto::v1;
use serde::Serialize;

use super::{Millis, Time, age, or_dash, part};

/// How the calls of a function move from one version to another, alone or with those of others.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RolloutView {
    pub(crate) namespace: String,
    pub(crate) function: String,
    pub(crate) old_version: u32,
    pub(crate) new_version: u32,
    pub(crate) steps: Vec<u32>,
    pub(crate) step: u32,
    pub(crate) step_time_ms: Millis,
    pub(crate) step_calls: u64,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
    pub(crate) creator: String,
    pub(crate) create_time: Option<Time>,
    pub(crate) update_time: Option<Time>,
    pub(crate) old_tally: Option<TallyView>,
    pub(crate) new_tally: Option<TallyView>,
    /// All functions that move together, this one among them.
    pub(crate) functions: Vec<RolloutFunctionView>,
    /// The app whose routes change once the new versions have all calls.
    pub(crate) app: String,
    /// Gateways that do not serve a change yet; only after one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lagging_gateways: Option<Vec<String>>,
}

/// A function of a rollout.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RolloutFunctionView {
    pub(crate) function: String,
    pub(crate) old_version: u32,
    pub(crate) new_version: u32,
    pub(crate) old_tally: Option<TallyView>,
    pub(crate) new_tally: Option<TallyView>,
}

impl From<v1::RolloutFunction> for RolloutFunctionView {
    fn from(wire: v1::RolloutFunction) -> Self {
        Self {
            function: part(&wire.function, "functions"),
            old_version: wire.old_version,
            new_version: wire.new_version,
            old_tally: wire.old_tally.map(TallyView::from),
            new_tally: wire.new_tally.map(TallyView::from),
        }
    }
}

/// What a version did since the step began.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TallyView {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) traps: u64,
    pub(crate) p99_ms: Option<Millis>,
}

impl From<v1::VersionTally> for TallyView {
    fn from(v1::VersionTally { calls, failures, traps, p99 }: v1::VersionTally) -> Self {
        Self { calls, failures, traps, p99_ms: p99.map(|p99| Millis::from_wire(Some(p99))) }
    }
}

impl From<v1::Rollout> for RolloutView {
    fn from(rollout: v1::Rollout) -> Self {
        Self {
            namespace: part(&rollout.function, "namespaces"),
            app: rollout.app.clone(),
            function: part(&rollout.function, "functions"),
            old_version: rollout.old_version,
            new_version: rollout.new_version,
            step: rollout.step,
            step_time_ms: Millis::from_wire(rollout.step_time),
            step_calls: rollout.step_calls,
            state: state(rollout.state()),
            steps: rollout.steps,
            reason: rollout.reason,
            creator: rollout.creator,
            create_time: Time::from_wire(rollout.create_time),
            update_time: Time::from_wire(rollout.update_time),
            old_tally: rollout.old_tally.map(TallyView::from),
            new_tally: rollout.new_tally.map(TallyView::from),
            functions: rollout.functions.into_iter().map(RolloutFunctionView::from).collect(),
            lagging_gateways: None,
        }
    }
}

fn state(state: v1::RolloutState) -> &'static str {
    match state {
        v1::RolloutState::Unspecified => "unknown",
        v1::RolloutState::Running => "running",
        v1::RolloutState::Promoted => "promoted",
        v1::RolloutState::Back => "back",
        v1::RolloutState::Stopped => "stopped",
        v1::RolloutState::Superseded => "superseded",
        v1::RolloutState::Quarantined => "quarantined",
    }
}

impl RolloutView {
    /// Beside the rollout, who does not serve it yet.
    pub(crate) fn with_lagging(self, gateways: Vec<String>) -> Self {
        Self { lagging_gateways: Some(gateways), ..self }
    }

    /// How many percent of the calls the new version has in this step; everything after the last one.
    fn percent(&self) -> Option<u32> {
        let at = usize::try_from(self.step).ok()?.checked_sub(1)?;
        self.steps.get(at).copied()
    }

    /// All of it, in a few words.
    pub(crate) fn summary(&self) -> String {
        let Self { namespace, function, old_version, new_version, state, reason, .. } = self;
        let percent = self.percent().filter(|_| *state == "running");
        if self.functions.len() > 1 {
            let moves = self.moves();
            return match percent {
                Some(percent) => format!("{percent} % of the calls go to the new versions in {namespace}: {moves}"),
                None => format!("the rollout in {namespace} of {moves}: {state}, {reason}"),
            };
        }
        match percent {
            Some(percent) => format!(
                "{percent} % of the calls of {namespace}/{function} go to version {new_version}, the others to version {old_version}"
            ),
            None => format!(
                "the rollout of {namespace}/{function} from version {old_version} to {new_version}: {state}, {reason}"
            ),
        }
    }

    /// Which functions move from where to where: `pay v1 to v2, till v4 to v7`.
    fn moves(&self) -> String {
        let one = |it: &RolloutFunctionView| format!("{} v{} to v{}", it.function, it.old_version, it.new_version);
        self.functions.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// What it is, line by line.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let steps: Vec<_> = self.steps.iter().map(|percent| format!("{percent}%")).collect();
        let count = self.steps.len();
        let at = match self.percent() {
            Some(percent) => format!("{} of {count}: {percent}% of the calls", self.step),
            None => "over".to_owned(),
        };
        let mut pairs = vec![
            ("Function", format!("{}/{}", self.namespace, self.function)),
            ("From", format!("v{}", self.old_version)),
            ("To", format!("v{}", self.new_version)),
            ("State", self.state.to_owned()),
            ("Why", or_dash(&self.reason)),
            ("Steps", or_dash(&steps.join(" "))),
            ("Step", at),
            ("Begun", age(self.create_time)),
            ("Moved", age(self.update_time)),
            ("By", or_dash(&self.creator)),
        ];
        let routes = format!("those of the app {} change after the last step", self.app);
        pairs.extend(Some(("Routes", routes)).filter(|_| !self.app.is_empty()));
        let tallies = [("Old version", &self.old_tally), ("New version", &self.new_tally)];
        pairs.extend(tallies.into_iter().filter_map(|(name, tally)| Some((name, tally.as_ref()?.text()))));
        let others = self.functions.iter().filter(|other| other.function != self.function);
        pairs.extend(others.map(|other| ("Together with", other.text())));
        pairs
    }
}

impl RolloutFunctionView {
    fn text(&self) -> String {
        let moves = format!("{} v{} to v{}", self.function, self.old_version, self.new_version);
        let tallies = [("old", &self.old_tally), ("new", &self.new_tally)].into_iter();
        let tallies = tallies.filter_map(|(which, tally)| Some(format!("; {which}: {}", tally.as_ref()?.text())));
        tallies.fold(moves, |text, tally| text + &tally)
    }
}

impl TallyView {
    fn text(&self) -> String {
        let Self { calls, failures, traps, .. } = self;
        let p99 = self.p99_ms.as_ref().map_or_else(String::new, |p99| format!(", p99 {}", p99.text()));
        format!("{calls} calls in this step, {failures} failed, {traps} of them trapped{p99}")
    }
}
