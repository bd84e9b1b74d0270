//! Whether a function is healthy, as a part of its page: the same verdict as the command's.

use super::view::visible;
use crate::admin::model::{Health, HealthState};

/// What the page says of a function's health.
#[derive(Debug)]
pub(super) struct HealthNote {
    /// How the note looks.
    pub(super) class: &'static str,
    pub(super) summary: String,
    pub(super) problems: Vec<Problem>,
}

/// Something that is wrong or worth knowing.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) id: String,
    pub(super) text: String,
    /// What to type next; may be empty.
    pub(super) command: String,
}

impl HealthNote {
    /// The note about a function.
    pub(super) fn new(health: &Health) -> Self {
        let problem = |(place, problem): (usize, &crate::admin::model::HealthProblem)| Problem {
            id: format!("problem-{place}"),
            text: visible(&problem.text),
            command: visible(&problem.command),
        };
        Self {
            class: class(health.state),
            summary: visible(&health.summary),
            problems: health.problems.iter().enumerate().map(problem).collect(),
        }
    }
}

fn class(state: HealthState) -> &'static str {
    match state {
        HealthState::Healthy => "ok",
        HealthState::Degraded => "warn",
        HealthState::Failing | HealthState::Disabled => "bad",
        HealthState::NoTraffic => "",
    }
}
