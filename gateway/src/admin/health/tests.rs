//! Tables of verdicts: what is known, and what is said of it.

use std::time::Duration;

use super::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn function() -> v1::Function {
    v1::Function {
        name: "namespaces/shop/functions/pay".into(),
        traffic: vec![v1::TrafficTarget { version: 2, percent: 100 }],
        latest_version: 2,
        ..Default::default()
    }
}

fn counts(counts: &[(&str, u64)]) -> Vec<v1::OutcomeCount> {
    let count = |(outcome, count): &(&str, u64)| v1::OutcomeCount {
        outcome: (*outcome).to_owned(),
        count: *count,
        ..Default::default()
    };
    counts.iter().map(count).collect()
}

fn calls(calls: u64, errors: &[(&str, u64)], refusals: &[(&str, u64)]) -> v1::FunctionHealth {
    let activity = v1::FunctionActivity {
        calls,
        failures: errors.iter().map(|(_, count)| count).sum(),
        errors: counts(errors),
        refusals: counts(refusals),
        ..Default::default()
    };
    let window = Some(prost_types::Duration { seconds: 300, nanos: 0 });
    v1::FunctionHealth { activity: Some(activity), window, ..Default::default() }
}

fn at(seconds_from_now: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: NOW.as_secs() as i64 + seconds_from_now, nanos: 0 })
}

fn judge(health: v1::FunctionHealth, function: &v1::Function) -> v1::FunctionHealth {
    let now = SystemTime::UNIX_EPOCH + NOW;
    judged(health, &Facts { function, has_workers: true, unreachable: &[], now })
}

/// The state's word, the worst problem's text and the command.
fn told(health: v1::FunctionHealth, function: &v1::Function) -> (&'static str, String, String) {
    let judged = judge(health, function);
    let first = judged.problems.first().cloned().unwrap_or_default();
    (word(judged.state()), first.text, first.command)
}

#[test]
fn calls_say_how_a_function_does() {
    for (health, state, text) in [
        (calls(0, &[], &[]), "no traffic", ""),
        (calls(1_000, &[], &[]), "healthy", ""),
        (calls(1_000, &[("function_failed", 9)], &[]), "healthy", "9 of 1000 calls failed: function_failed 9"),
        (calls(1_000, &[("function_failed", 10)], &[]), "degraded", "10 of 1000 calls failed: function_failed 10"),
        (
            calls(4, &[("deadline_exceeded", 1), ("answered_5xx", 1)], &[]),
            "failing",
            "2 of 4 calls failed: deadline_exceeded 1, answered_5xx 1",
        ),
        (calls(1, &[("internal", 1)], &[]), "failing", "1 of 1 call failed: internal 1"),
        (
            calls(90, &[], &[("too_many_requests", 10)]),
            "degraded",
            "10 requests of 100 refused over a limit: too_many_requests",
        ),
        (
            calls(0, &[], &[("too_many_requests", 3)]),
            "failing",
            "3 requests of 3 refused over a limit: too_many_requests",
        ),
        (
            calls(1, &[], &[("unauthenticated", 9)]),
            "healthy",
            "9 requests of 10 refused before the function ran: unauthenticated",
        ),
    ] {
        let (is, first, _) = told(health, &function());
        assert_eq!((is, first.as_str()), (state, text));
    }
}

#[test]
fn each_problem_has_the_next_command() {
    let mut failed = calls(1, &[("internal", 1)], &[]);
    let name = "namespaces/shop/functions/pay/invocations/0198c5b2-7a43-7000-8000-3f1f6d1c1a2b";
    failed.failures = vec![v1::Invocation { name: name.into(), ..Default::default() }];
    let command = "dunlin why 0198c5b2-7a43-7000-8000-3f1f6d1c1a2b --namespace shop";
    assert_eq!(told(failed, &function()).2, command);
    for (changed, state, command) in [
        (v1::Function { disabled: true, ..function() }, "disabled", "dunlin function enable shop/pay"),
        (v1::Function { traffic: Vec::new(), ..function() }, "failing", "dunlin promote shop/pay"),
    ] {
        let (is, _, next) = told(calls(5, &[], &[]), &changed);
        assert_eq!((is, next.as_str()), (state, command));
    }
}

#[test]
fn where_a_new_version_fails_the_one_before_is_offered() {
    let deployed = |version, seconds: i64, failures| v1::FunctionHealth {
        last_deploy: Some(v1::Deploy { version, create_time: at(-seconds), ..v1::Deploy::default() }),
        ..calls(10, &[("function_failed", failures)], &[])
    };
    for (health, expected) in [
        (deployed(2, 60, 10), true),
        (deployed(2, 60, 1), false),
        (deployed(2, 4_000, 10), false),
        (deployed(1, 60, 10), false),
        (deployed(3, 60, 10), false),
    ] {
        let offered =
            judge(health.clone(), &function()).problems.iter().any(|it| it.command == "dunlin rollback shop/pay");
        assert_eq!(offered, expected, "{health:?}");
    }
}

#[test]
fn what_stands_around_a_function_counts_too() {
    let base = || calls(5, &[], &[]);
    let capacity = |ready_workers, reachable_workers, wanted_workers| v1::FunctionHealth {
        versions: vec![v1::VersionCapacity {
            version: 2,
            percent: 100,
            ready_workers,
            reachable_workers,
            wanted_workers,
        }],
        ..base()
    };
    let budget = |state: v1::BudgetState, enforce| v1::FunctionHealth {
        budget: Some(v1::GetBudgetResponse {
            budget: Some(v1::Budget { enforce, ..Default::default() }),
            calls: Some(v1::BudgetUse { state: state.into(), ..Default::default() }),
            cpu_seconds: None,
        }),
        ..base()
    };
    let quota = |used| v1::FunctionHealth {
        quotas: vec![v1::QuotaUse {
            whose: "namespace".into(),
            usage: Some(v1::QuotaUsage {
                used,
                quota: Some("100/day".parse::<dunlin_proto::model::Quota>().unwrap().into()),
                ..Default::default()
            }),
        }],
        ..base()
    };
    let rollout = |state: v1::RolloutState, new_version, moved| v1::FunctionHealth {
        rollout: Some(v1::Rollout { state: state.into(), new_version, update_time: at(moved), ..Default::default() }),
        ..base()
    };
    for (health, state, problems) in [
        (capacity(0, 0, 0), "healthy", 0),
        (capacity(2, 2, 2), "healthy", 0),
        (capacity(1, 1, 2), "degraded", 1),
        (capacity(2, 0, 2), "failing", 1),
        (budget(v1::BudgetState::UsedUp, true), "failing", 1),
        (budget(v1::BudgetState::UsedUp, false), "healthy", 1),
        (budget(v1::BudgetState::Ok, true), "healthy", 0),
        (quota(79), "healthy", 0),
        (quota(80), "healthy", 1),
        (quota(100), "failing", 1),
        (rollout(v1::RolloutState::Running, 2, -5), "healthy", 1),
        (rollout(v1::RolloutState::Quarantined, 2, -5), "degraded", 1),
        (rollout(v1::RolloutState::Quarantined, 2, -100_000), "healthy", 0),
        (rollout(v1::RolloutState::Back, 1, -5), "healthy", 0),
        (v1::FunctionHealth { lost_records: 1, lost_log_lines: 2, ..base() }, "healthy", 2),
    ] {
        let judged = judge(health, &function());
        assert_eq!((word(judged.state()), judged.problems.len()), (state, problems), "{}", judged.summary);
    }
}

#[test]
fn a_domain_that_is_not_served_or_soon_will_not_be_is_a_problem() {
    let domain = |proof: v1::DomainProofState, end: Option<i64>, failures, error: &str| v1::Domain {
        name: "namespaces/shop/domains/example.com".into(),
        proof: Some(v1::DomainProof { state: proof.into(), ..Default::default() }),
        certificate: Some(v1::DomainCertificateState {
            expire_time: end.and_then(at),
            failures,
            error: error.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let proved = v1::DomainProofState::Proved;
    for (domain, degraded) in [
        (domain(v1::DomainProofState::Pending, None, 0, ""), true),
        (domain(proved, None, 0, ""), false),
        (domain(proved, None, 1, "no route"), true),
        (domain(proved, Some(-1), 3, "no route"), true),
        (domain(proved, Some(86_400), 1, "no route"), true),
        (domain(proved, Some(86_400), 0, ""), false),
        (domain(proved, Some(60 * 86_400), 1, "no route"), false),
    ] {
        let (state, _, command) = told(v1::FunctionHealth { domains: vec![domain], ..calls(1, &[], &[]) }, &function());
        let expected = if degraded { "degraded" } else { "healthy" };
        assert_eq!(state, expected);
        assert!(!degraded || command == "dunlin domain show example.com --namespace shop", "{command}");
    }
}

#[test]
fn a_webhook_that_is_not_told_is_worth_knowing() {
    let failed = |state: v1::DeliveryState, tried: i64| v1::WebhookDelivery {
        r#type: "dev.dunlin.rollback".into(),
        state: state.into(),
        last_time: at(-tried),
        error: "the receiver answered 500".into(),
        ..Default::default()
    };
    let webhook = |pending, last_failure| v1::WebhookHealth { pending, last_failure, ..Default::default() };
    let (pending, given_up) = (v1::DeliveryState::Pending, v1::DeliveryState::GivenUp);
    let gone = v1::WebhookHealth { gone_time: at(-5), ..webhook(0, Some(failed(given_up, 5))) };
    for (webhook, text, command) in [
        (None, "", ""),
        (Some(webhook(3, None)), "", ""),
        (
            Some(webhook(1, Some(failed(pending, 5)))),
            "1 event waits for the webhook: the receiver answered 500",
            "show",
        ),
        (
            Some(webhook(2, Some(failed(pending, 90_000)))),
            "2 events wait for the webhook: the receiver answered 500",
            "show",
        ),
        (
            Some(webhook(2, Some(failed(given_up, 5)))),
            "the webhook was not told of dev.dunlin.rollback: the receiver answered 500",
            "show",
        ),
        (Some(webhook(2, Some(failed(given_up, 90_000)))), "", ""),
        (
            Some(gone),
            "the receiver of the namespace's webhook answered that it is gone: nothing is told any more",
            "set URL",
        ),
    ] {
        let (state, said, next) = told(v1::FunctionHealth { webhook, ..calls(1, &[], &[]) }, &function());
        let command =
            if command.is_empty() { String::new() } else { format!("dunlin webhook {command} --namespace shop") };
        assert_eq!((state, said.as_str(), next), ("healthy", text, command));
    }
}

#[test]
fn the_worst_comes_first_and_is_in_the_sentence() {
    let mut health = calls(100, &[("internal", 2)], &[("too_many_requests", 200)]);
    health.lost_records = 1;
    let silent = ["gateway-3".to_owned()];
    let now = SystemTime::UNIX_EPOCH + NOW;
    let facts = Facts { function: &function(), has_workers: false, unreachable: &silent, now };
    let judged = judged(health, &facts);
    assert_eq!(judged.summary, "failing: no worker is connected to this gateway (last 5 min)");
    let grades: Vec<_> = judged.problems.iter().map(v1::HealthProblem::grade).collect();
    assert!(grades.is_sorted_by(|a, b| a >= b) && grades.len() == 5, "{grades:?}");
    let healthy = judge(calls(1, &[], &[]), &function());
    assert_eq!(healthy.summary, "healthy: 1 call, none failed, p50 0 µs, p99 0 µs (last 5 min)");
}
