//! Explanations as people read them.

use dunlin_proto::model::from_wire_duration;

use super::*;

const ID: &str = "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b";

fn nanos(micros: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: 0, nanos: micros * 1_000 })
}

fn record() -> v1::Invocation {
    v1::Invocation {
        name: format!("namespaces/shop/functions/pay/invocations/{ID}"),
        version: 3,
        start_time: Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 }),
        method: "GET".into(),
        path: "/x".into(),
        status: 200,
        gateway: "g1".into(),
        worker: "w1".into(),
        outcome: "ok".into(),
        remote_address: "192.0.2.7".into(),
        endpoint: "w1/0".into(),
        worker_choice: v1::WorkerChoice::Ready.into(),
        tries: 1,
        receipt: Some(v1::Receipt {
            queue: nanos(40),
            gateway_queue: nanos(30),
            run: nanos(900),
            cpu: nanos(700),
            peak_memory_bytes: 1 << 20,
            bytes_out: 5,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn refusal(status: u32, outcome: &str, error: &str) -> v1::Invocation {
    v1::Invocation {
        status,
        outcome: outcome.into(),
        error: error.into(),
        refused: true,
        version: 0,
        worker: String::new(),
        receipt: Some(v1::Receipt { queue: nanos(20), gateway_queue: nanos(20), ..Default::default() }),
        ..record()
    }
}

fn line(micros: i32, text: &str) -> v1::LogLine {
    let time = Some(prost_types::Timestamp { seconds: 1_000, nanos: micros * 1_000 });
    v1::LogLine { time, text: text.into(), ..Default::default() }
}

/// The whole explanation, a line a step.
fn text(record: v1::Invocation, lines: &[v1::LogLine]) -> String {
    let explanation = explain(record, lines);
    let steps = explanation.steps.iter();
    let steps = steps.map(|step| format!("{} {} {}", from_wire_duration(step.at).as_micros(), step.stage, step.text));
    let frames = explanation.backtrace.iter().map(|frame| format!("at {frame}"));
    let all: Vec<_> =
        [explanation.summary].into_iter().chain(steps).chain(frames).chain([explanation.advice]).collect();
    all.join("\n")
}

#[test]
fn a_good_call_is_told_from_its_acceptance_to_its_answer_with_its_lines() {
    let expected = "GET /x of pay v3 answered 200 after 940 µs
0 accepted GET /x from 192.0.2.7, by gateway g1
0 route the automatic address of pay
0 caller anybody may call it
0 limits none was reached
30 worker w1/0: it had the version ready
40 sandbox one stood ready
40 run 900 µs, CPU 700 µs, memory 1 MiB
40 log before its time
500 log hello
940 log after its time
940 answer 200, 5 B
";
    let lines = [line(10, "before its time"), line(500, "hello"), line(5_000, "after its time")];
    assert_eq!(text(record(), &lines), expected);
}

#[test]
fn a_cold_call_says_what_its_waiting_was_for() {
    let mut cold = record();
    cold.route = "users".into();
    cold.caller = Some(v1::InvocationCaller { key: "abcDEF123456".into(), ..Default::default() });
    cold.worker_choice = v1::WorkerChoice::Standby.into();
    cold.tries = 2;
    cold.receipt = Some(v1::Receipt {
        queue: nanos(60_000),
        gateway_queue: nanos(5_000),
        fetch: nanos(30_000),
        load: nanos(20_000),
        start: nanos(2_000),
        host_calls: 31,
        outbound_requests: 1,
        ..cold.receipt.unwrap()
    });
    let expected = "GET /x of pay v3 answered 200 after 62.9 ms
0 accepted GET /x from 192.0.2.7, by gateway g1
0 route route users, to pay
0 caller key abcDEF123456
0 limits none was reached
0 waiting 5 ms in the gateway for a worker
5000 worker w1/0: the version ran nowhere, and this worker had its code on disk; 1 asked before took it not
5000 fetch 30 ms to have the code on the worker, checked
35000 load 20 ms to load it
55000 queue 5 ms on the worker for its turn
60000 sandbox 2 ms to make a sandbox
62000 run 900 µs, CPU 700 µs, memory 1 MiB, 31 host calls, 1 outbound request
62900 answer 200, 5 B
";
    assert_eq!(text(cold, &[]), expected);
}

#[test]
fn a_trap_has_its_backtrace_beside_its_words() {
    let mut trapped = record();
    (trapped.status, trapped.outcome) = (502, "function_failed".into());
    trapped.error = "the function trapped: wasm `unreachable` instruction executed\n  at charge\n  at _start".into();
    let expected = "GET /x of pay v3 failed after 940 µs (function_failed): the function trapped: wasm `unreachable` instruction executed
0 accepted GET /x from 192.0.2.7, by gateway g1
0 route the automatic address of pay
0 caller anybody may call it
0 limits none was reached
30 worker w1/0: it had the version ready
40 sandbox one stood ready
40 run 900 µs, CPU 700 µs, memory 1 MiB
940 failed function_failed: the function trapped: wasm `unreachable` instruction executed
940 answer 502
at charge
at _start
the guest trapped where its backtrace says, innermost function first; what it wrote before: dunlin logs pay";
    assert_eq!(text(trapped, &[]), expected);
}

#[test]
fn a_refusal_says_what_refused_it_and_what_to_do() {
    let mut refused = refusal(429, "too_many_requests", "function shop/pay has had its 5 calls a minute");
    refused.hint = "try again in 3 s".into();
    let expected =
        "GET /x of pay was refused with 429 before any function ran: function shop/pay has had its 5 calls a minute
0 accepted GET /x from 192.0.2.7, by gateway g1
0 route the automatic address of pay
20 refused with 429 too_many_requests: function shop/pay has had its 5 calls a minute
try again in 3 s";
    assert_eq!(text(refused, &[]), expected);
    let mut nowhere = refusal(404, "not_found", "nothing is served at this path");
    nowhere.name = format!("namespaces/shop/invocations/{ID}");
    let told = text(nowhere, &[]);
    assert!(
        told.starts_with("GET /x was refused with 404 before any function ran: nothing") && !told.contains("route")
    );
    assert!(text(refusal(401, "unauthenticated", "no credential"), &[]).ends_with("with a token"));
}

#[test]
fn what_never_came_to_a_worker_says_so() {
    let mut waited = refusal(503, "unavailable", "no worker has this version ready");
    waited.refused = false;
    let told = text(waited.clone(), &[]);
    assert!(told.contains("0 waiting no worker took it") && told.contains("20 answer 503"), "{told}");
    waited.receipt = Some(v1::Receipt::default());
    waited.lasted = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let waiting = explain(waited.clone(), &[]).steps.into_iter().find(|step| step.stage == "waiting").unwrap();
    assert_eq!((waiting.at, waiting.took), (Some(prost_types::Duration::default()), waited.lasted));
    let told = text(waited, &[]);
    assert!(told.contains("failed after 5 s") && told.contains("5 s in the gateway, and no worker took it"), "{told}");
}

#[test]
fn the_platforms_id_is_meant_before_a_callers_own() {
    let other = v1::Invocation { name: record().name.replace("0198", "0199"), request_id: ID.into(), ..record() };
    assert_eq!(of(vec![other.clone(), record()], ID).unwrap().name, record().name);
    let mine = |record: v1::Invocation| v1::Invocation { request_id: "mine".into(), ..record };
    assert_eq!(of(vec![mine(record()), mine(other.clone())], "mine").unwrap().name, other.name, "the newest");
    assert_eq!(of(vec![record(), other], "mine"), None);
    assert_eq!(of(Vec::new(), ID), None);
}

#[test]
fn what_is_not_kept_is_shown_by_its_group() {
    let answered = |status| v1::Invocation { status, ..record() };
    let around = [record(), record(), answered(404), answered(503), refusal(401, "unauthenticated", "")];
    let explanation = unknown(ID, &around);
    assert_eq!(explanation.summary, format!("no record of {ID} is kept in this namespace"));
    let group: Vec<_> = explanation.group.iter().map(|g| (g.function.as_str(), g.outcome.as_str(), g.count)).collect();
    assert_eq!(group, [("pay", "answered_5xx", 1), ("pay", "ok", 3), ("pay", "unauthenticated", 1)]);
    assert!(unknown("mine", &[]).advice.contains("Dunlin-Request-Id"));
}

#[test]
fn an_id_says_when_its_request_was() {
    let time = time_of(ID.parse().unwrap()).unwrap();
    assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis(), 0x0198_c5b2_7a43);
}
