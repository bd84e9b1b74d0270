//! What is wrong with a function, or worth knowing, each with the command to type next: pure rules over what is known.

use std::{
    cmp::Reverse,
    time::{Duration, SystemTime},
};

use dunlin_proto::{ErrorCode, model::Quota, v1};

use super::{Facts, count};
use crate::admin::model::{Time, id_in};

/// From this share of failures on, most callers are affected: one half.
const MOST: u64 = 2;
/// From this share on, some are: one in a hundred.
const SOME: u64 = 100;
/// For how long a version that was taken back is a problem rather than the past.
const TAKEN_BACK: Duration = Duration::from_secs(86_400);
/// For how long an event that was given up is a problem rather than the past.
const GIVEN_UP: Duration = Duration::from_secs(86_400);
/// For how long a version may be what is wrong because it is new.
const NEW: Duration = Duration::from_secs(3_600);
/// How long before its end a certificate should have been renewed.
const RENEWED: Duration = Duration::from_secs(7 * 86_400);

/// All of them, the worst first.
pub(super) fn of(health: &v1::FunctionHealth, facts: &Facts<'_>) -> Vec<v1::HealthProblem> {
    let name = Name::of(facts.function);
    let told = [service(facts, &name), calls(health, &name), worse(health, facts, &name)];
    let mut problems: Vec<_> = told.into_iter().flatten().collect();
    problems.extend(capacity(health, facts, &name));
    problems.extend(refusals(health, &name));
    problems.extend(budget(health, &name));
    problems.extend(health.quotas.iter().filter_map(|quota| of_quota(quota, &name)));
    problems.extend(rollout(health, facts, &name));
    problems.extend(health.domains.iter().filter_map(|domain| of_domain(domain, facts.now, &name)));
    problems.extend(webhook(health, facts, &name));
    problems.extend(lost(health, facts, &name));
    problems.sort_by_key(|problem| Reverse(problem.grade));
    problems
}

/// A function's name in commands.
struct Name<'n> {
    namespace: &'n str,
    function: &'n str,
}

impl<'n> Name<'n> {
    fn of(function: &'n v1::Function) -> Self {
        Self { namespace: id_in(&function.name, "namespaces"), function: id_in(&function.name, "functions") }
    }

    /// A command about the function.
    fn command(&self, verb: &str) -> String {
        format!("dunlin {verb} {}/{}", self.namespace, self.function)
    }

    /// A command about its namespace.
    fn in_namespace(&self, command: &str) -> String {
        format!("dunlin {command} --namespace {}", self.namespace)
    }
}

fn problem(grade: v1::HealthGrade, text: String, command: String) -> v1::HealthProblem {
    v1::HealthProblem { grade: grade.into(), text, command }
}

/// How bad it is that so many of all go wrong.
fn grade(bad: u64, all: u64) -> v1::HealthGrade {
    match bad {
        0 => v1::HealthGrade::Note,
        _ if bad.saturating_mul(MOST) >= all => v1::HealthGrade::Failing,
        _ if bad.saturating_mul(SOME) >= all => v1::HealthGrade::Degraded,
        _ => v1::HealthGrade::Note,
    }
}

/// Whether it is in service at all.
fn service(facts: &Facts<'_>, name: &Name<'_>) -> Option<v1::HealthProblem> {
    let function = facts.function;
    if function.disabled {
        let text = "somebody disabled it: every call is refused with 503".to_owned();
        return Some(problem(v1::HealthGrade::Failing, text, name.command("function enable")));
    }
    if !function.traffic.is_empty() {
        return None;
    }
    let text = "no version gets calls".to_owned();
    let command = match function.latest_version {
        0 => name.in_namespace("deploy"),
        _ => name.command("promote"),
    };
    Some(problem(v1::HealthGrade::Failing, text, command))
}

/// Whether calls go well.
fn calls(health: &v1::FunctionHealth, name: &Name<'_>) -> Option<v1::HealthProblem> {
    let activity = health.activity.as_ref().filter(|activity| activity.failures > 0)?;
    let kinds = listed(&activity.errors);
    let text = format!("{} of {} failed: {kinds}", activity.failures, count(activity.calls, "call"));
    let command = match health.failures.first() {
        Some(last) => name.in_namespace(&format!("why {}", id_in(&last.name, "invocations"))),
        // The function answers so itself.
        None => name.command("logs"),
    };
    Some(problem(grade(activity.failures, activity.calls), text, command))
}

/// Whether most calls fail since a version was deployed: the one before it may do better.
fn worse(health: &v1::FunctionHealth, facts: &Facts<'_>, name: &Name<'_>) -> Option<v1::HealthProblem> {
    let (activity, deploy) = (health.activity.as_ref()?, health.last_deploy.as_ref()?);
    let came = SystemTime::try_from(deploy.create_time?).ok()?;
    let is_new = facts.now.duration_since(came).is_ok_and(|age| age < NEW);
    let takes_all = facts.function.traffic.iter().all(|target| target.version == deploy.version);
    let fails = activity.failures > 0 && grade(activity.failures, activity.calls) == v1::HealthGrade::Failing;
    let text = format!("most calls fail since v{} was deployed; the version before it may do better", deploy.version);
    (is_new && takes_all && fails && deploy.version > 1)
        .then(|| problem(v1::HealthGrade::Failing, text, name.command("rollback")))
}

/// `function_failed 3, deadline_exceeded 1`.
fn listed(counts: &[v1::OutcomeCount]) -> String {
    counts.iter().map(|count| format!("{} {}", count.outcome, count.count)).collect::<Vec<_>>().join(", ")
}

/// Whether workers can run it.
fn capacity(health: &v1::FunctionHealth, facts: &Facts<'_>, name: &Name<'_>) -> Vec<v1::HealthProblem> {
    let workers = || "dunlin worker list".to_owned();
    if !facts.has_workers {
        return vec![problem(v1::HealthGrade::Failing, "no worker is connected to this gateway".to_owned(), workers())];
    }
    let of_version = |version: &v1::VersionCapacity| {
        let v1::VersionCapacity { version, ready_workers, reachable_workers, wanted_workers, .. } = *version;
        if ready_workers > 0 && reachable_workers == 0 {
            let text =
                format!("v{version} is ready on {} that can't be reached", count(ready_workers.into(), "worker"));
            return Some(problem(v1::HealthGrade::Failing, text, workers()));
        }
        let text =
            format!("v{version} wants {} and is ready on {ready_workers}", count(wanted_workers.into(), "worker"));
        (ready_workers < wanted_workers).then(|| problem(v1::HealthGrade::Degraded, text, name.command("versions")))
    };
    health.versions.iter().filter_map(of_version).collect()
}

/// Whether callers are let in.
fn refusals(health: &v1::FunctionHealth, name: &Name<'_>) -> Vec<v1::HealthProblem> {
    let Some(activity) = &health.activity else { return Vec::new() };
    let refused: u64 = activity.refusals.iter().map(|refusal| refusal.count).sum();
    let all = activity.calls.saturating_add(refused);
    let of_kind = |refusal: &v1::OutcomeCount| {
        let requests = count(refusal.count, "request");
        let code = ErrorCode::from_text(&refusal.outcome);
        let (grade, why) = match code {
            Some(ErrorCode::TooManyRequests) => (grade(refusal.count, all), "over a limit"),
            Some(ErrorCode::Unavailable) => (grade(refusal.count, all), "since nothing could take them"),
            // What callers do wrong says nothing of the function.
            _ => (v1::HealthGrade::Note, "before the function ran"),
        };
        let text = format!("{requests} of {all} refused {why}: {}", refusal.outcome);
        problem(grade, text, name.command("invocations") + " --refused")
    };
    activity.refusals.iter().map(of_kind).collect()
}

/// Whether its namespace may go on.
fn budget(health: &v1::FunctionHealth, name: &Name<'_>) -> Option<v1::HealthProblem> {
    let budget = health.budget.as_ref()?;
    let enforced = budget.budget.as_ref().is_some_and(|budget| budget.enforce);
    let bounds = [budget.cpu_seconds.as_ref(), budget.calls.as_ref()];
    let worst = bounds.into_iter().flatten().max_by_key(|bound| bound.state)?;
    let end = worst.period_end.map(|end| format!(" until {}", Time::from(end).for_people())).unwrap_or_default();
    let (grade, text) = match (worst.state(), enforced) {
        (v1::BudgetState::UsedUp, true) => {
            (v1::HealthGrade::Failing, format!("the namespace's budget is used up: calls are refused{end}"))
        }
        (v1::BudgetState::UsedUp, false) => {
            (v1::HealthGrade::Note, format!("the namespace's budget is used up{end}; nothing is refused"))
        }
        (v1::BudgetState::Warning, _) => {
            (v1::HealthGrade::Note, format!("the namespace's budget is nearly used up{end}"))
        }
        (v1::BudgetState::Ok | v1::BudgetState::Unspecified, _) => return None,
    };
    Some(problem(grade, text, name.in_namespace("budget show")))
}

/// A quota that is used up, or nearly so.
fn of_quota(quota: &v1::QuotaUse, name: &Name<'_>) -> Option<v1::HealthProblem> {
    let (whose, usage) = (quota.whose.as_str(), quota.usage.as_ref()?);
    let limit = Quota::from_wire("quota", usage.quota?).ok()?;
    let end = usage.period_end.map(|end| format!(" until {}", Time::from(end).for_people())).unwrap_or_default();
    let (grade, text) = match usage.used {
        used if used >= limit.requests => {
            (v1::HealthGrade::Failing, format!("the {whose}'s quota of {limit} is used up: calls are refused{end}"))
        }
        used if used.saturating_mul(5) >= limit.requests.saturating_mul(4) => {
            (v1::HealthGrade::Note, format!("the {whose}'s quota of {limit} is nearly used up: {used} calls{end}"))
        }
        _ => return None,
    };
    let command = match whose {
        "namespace" => format!("dunlin namespace show {}", name.namespace),
        // A larger one comes with a version.
        _ => name.command("describe"),
    };
    Some(problem(grade, text, command))
}

/// What became of the last rollout, as long as it matters.
fn rollout(health: &v1::FunctionHealth, facts: &Facts<'_>, name: &Name<'_>) -> Option<v1::HealthProblem> {
    let rollout = health.rollout.as_ref()?;
    let (new, old) = (rollout.new_version, rollout.old_version);
    let age = rollout.update_time.and_then(|time| Time::from(time).age(facts.now)).unwrap_or_default();
    let is_newest = new == facts.function.latest_version && age < TAKEN_BACK;
    let (grade, text) = match rollout.state() {
        v1::RolloutState::Running => (v1::HealthGrade::Note, format!("a rollout from v{old} to v{new} is under way")),
        v1::RolloutState::Quarantined if is_newest => {
            (v1::HealthGrade::Degraded, format!("v{new} is in quarantine, v{old} serves: {}", rollout.reason))
        }
        v1::RolloutState::Back if is_newest => {
            (v1::HealthGrade::Degraded, format!("v{new} was taken back, v{old} serves: {}", rollout.reason))
        }
        _ => return None,
    };
    Some(problem(grade, text, name.command("rollout show")))
}

/// Whether it is served on a domain of its routes.
fn of_domain(domain: &v1::Domain, now: SystemTime, name: &Name<'_>) -> Option<v1::HealthProblem> {
    let host = id_in(&domain.name, "domains");
    let command = name.in_namespace(&format!("domain show {host}"));
    let degraded = |text| Some(problem(v1::HealthGrade::Degraded, text, command.clone()));
    if domain.proof.as_ref().is_some_and(|proof| proof.state() != v1::DomainProofState::Proved) {
        return degraded(format!("{host} is not proved to be the namespace's, so that nothing is served there"));
    }
    let certificate = domain.certificate.as_ref().filter(|_| domain.tls() != v1::DomainTls::None)?;
    let end = certificate.expire_time.map(|end| Time::from(end).at());
    match end {
        None if certificate.error.is_empty() => None,
        None => degraded(format!("{host} has no certificate: {}", certificate.error)),
        Some(end) if end <= now => degraded(format!("the certificate of {host} has expired: {}", certificate.error)),
        Some(end) if end <= now + RENEWED && certificate.failures > 0 => {
            degraded(format!("the certificate of {host} ends soon and is not renewed: {}", certificate.error))
        }
        Some(_) => None,
    }
}

/// Whether somebody would be told of what happens to it. Callers are not affected.
fn webhook(health: &v1::FunctionHealth, facts: &Facts<'_>, name: &Name<'_>) -> Option<v1::HealthProblem> {
    let webhook = health.webhook.as_ref()?;
    let note = |text: String, command: &str| problem(v1::HealthGrade::Note, text, name.in_namespace(command));
    if webhook.gone_time.is_some() {
        let text =
            "the receiver of the namespace's webhook answered that it is gone: nothing is told any more".to_owned();
        return Some(note(text, "webhook set URL"));
    }
    let failed = webhook.last_failure.as_ref()?;
    let age = failed.last_time.and_then(|time| Time::from(time).age(facts.now)).unwrap_or_default();
    let text = match failed.state() {
        v1::DeliveryState::GivenUp if age < GIVEN_UP => format!("the webhook was not told of {}", failed.r#type),
        v1::DeliveryState::GivenUp | v1::DeliveryState::Delivered => return None,
        v1::DeliveryState::Pending | v1::DeliveryState::Unspecified => match webhook.pending {
            1 => "1 event waits for the webhook".to_owned(),
            pending => format!("{pending} events wait for the webhook"),
        },
    };
    Some(note(format!("{text}: {}", failed.error), "webhook show"))
}

/// What of the evidence is missing.
fn lost(health: &v1::FunctionHealth, facts: &Facts<'_>, name: &Name<'_>) -> Vec<v1::HealthProblem> {
    let note = |text: String, command: String| problem(v1::HealthGrade::Note, text, command);
    let records = (health.lost_records > 0).then(|| {
        let records = count(health.lost_records, "record");
        note(format!("{records} of invocations were lost: the numbers are too low"), "dunlin doctor".to_owned())
    });
    let lines = (health.lost_log_lines > 0).then(|| {
        let lines = count(health.lost_log_lines, "log line");
        let text = format!("{lines} of the namespace were lost among the last 1,000 of {}", name.function);
        note(text, name.command("logs"))
    });
    let silent = (!facts.unreachable.is_empty()).then(|| {
        let text = format!("without what these know, who did not answer: {}", facts.unreachable.join(", "));
        note(text, "dunlin doctor".to_owned())
    });
    [records, lines, silent].into_iter().flatten().collect()
}
