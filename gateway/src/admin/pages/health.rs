//! Whether a function is healthy, as a part of its page: the same verdict as the command's.

use super::view::visible;
use crate::admin::model::{Health, HealthState, WebhookHealth};

/// What the page says of a function's health.
#[derive(Debug)]
pub(super) struct HealthNote {
    /// How the note looks.
    pub(super) class: &'static str,
    pub(super) summary: String,
    pub(super) problems: Vec<Problem>,
    /// Whether somebody is told of what happens.
    pub(super) webhook: String,
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
            webhook: webhook(health),
        }
    }
}

/// Whether somebody is told of what happens, in a sentence. What does not work is among the problems.
fn webhook(health: &Health) -> String {
    match &health.webhook {
        Some(WebhookHealth { pending: 0, .. }) => "A webhook is set; no event waits for it.".to_owned(),
        Some(WebhookHealth { pending: 1, .. }) => "A webhook is set; 1 event waits for it.".to_owned(),
        Some(WebhookHealth { pending, .. }) => format!("A webhook is set; {pending} events wait for it."),
        // It may have one.
        None if health.unreachable.iter().any(|silent| silent.starts_with("the scheduler")) => String::new(),
        None => "No webhook is set: nobody is told where a version is rolled back or put in quarantine.".to_owned(),
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
