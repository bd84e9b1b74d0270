//! A sandbox that serves several calls: what stays is the guest's memory, and nothing else of a call reaches the next one.

use std::time::Duration;

use dunlin_worker::sandbox::{Left, Limits, Policy, Program, Sandbox};
use tokio_util::sync::CancellationToken;

use super::http::hostile;
use super::http3::hostile as hostile3;
use super::support::{Answer, Growth, call_in, get, limits_of, patient, policy, post, wat};

/// Calls more than once; what is left serves the next call of a test.
async fn visit(sandbox: Sandbox, path: &str) -> (Answer, Option<Sandbox>) {
    let (answer, left) = call_in(sandbox, 100, get(path), CancellationToken::new()).await;
    (answer, ready(left))
}

fn ready(left: Left) -> Option<Sandbox> {
    match left {
        Left::Ready(sandbox) => Some(*sandbox),
        Left::Nothing | Left::Spent(_) | Left::Unclean(_) => None,
    }
}

async fn count_to_three(program: &Program) {
    let mut sandbox = Some(program.prepare().await.unwrap());
    for round in 0..3 {
        let before = sandbox.take().unwrap();
        assert_eq!(before.is_used(), round > 0);
        let (answer, left) = visit(before, "/count").await;
        assert_eq!((answer.code(), answer.text(), answer.ended), ("ok", round.to_string(), true));
        let usage = answer.completion.usage;
        assert_eq!((usage.bytes_out, usage.reused, usage.start.is_zero()), (1, round > 0, round > 0));
        sandbox = left;
    }
    assert!(sandbox.is_some());
}

#[tokio::test]
async fn memory_stays_and_each_call_has_an_account_of_its_own() {
    count_to_three(&hostile(Policy::default())).await;
}

#[tokio::test]
async fn the_same_with_wasi_0_3() {
    count_to_three(&hostile3(Policy::default())).await;
}

#[tokio::test]
async fn a_body_is_read_by_the_call_that_it_came_with() {
    let mut sandbox = hostile3(policy(patient())).prepare().await.unwrap();
    for text in ["one", "another"] {
        let (answer, left) = call_in(sandbox, 100, post("/forward", text), CancellationToken::new()).await;
        assert_eq!((answer.text().as_str(), answer.completion.usage.bytes_in), (text, text.len() as u64));
        sandbox = ready(left).unwrap();
    }
}

#[tokio::test]
async fn lines_and_their_budget_belong_to_one_call() {
    let limits = Limits { log_bytes: 100, ..patient() };
    let mut sandbox = hostile(policy(limits)).prepare().await.unwrap();
    for _ in 0..3 {
        let (answer, left) = visit(sandbox, "/print?2").await;
        assert_eq!((answer.logs.len(), answer.completion.usage.log_bytes_dropped), (4, 0), "{:?}", answer.logs);
        sandbox = left.unwrap();
    }
}

#[tokio::test]
async fn after_the_last_call_and_after_any_failure_nothing_is_left() {
    let within = |path| hostile(policy(Limits { memory_bytes: 32 << 20, ..limits_of(path) }));
    for path in ["/panic", "/exit", "/loop", "/sleep", "/silent", "/error", "/length?2", "/trap-after-body"] {
        let program = within(path);
        let (_, used) = visit(program.prepare().await.unwrap(), "/count").await;
        let (answer, left) = call_in(used.unwrap(), 100, get(path), CancellationToken::new()).await;
        assert_ne!(answer.code(), "ok", "{path}");
        assert!(matches!(left, Left::Nothing), "{path}: {left:?}");
        assert!(answer.took < Duration::from_secs(40), "{path} took {:?}", answer.took);
    }
    let program = within("/count");
    let (_, once) = call_in(program.prepare().await.unwrap(), 2, get("/count"), CancellationToken::new()).await;
    let (answer, twice) = call_in(ready(once).unwrap(), 2, get("/count"), CancellationToken::new()).await;
    assert_eq!((answer.text().as_str(), matches!(twice, Left::Spent(_))), ("1", true));
}

#[tokio::test]
async fn a_cancelled_call_leaves_nothing() {
    let (_, used) = visit(hostile(policy(patient())).prepare().await.unwrap(), "/count").await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let (answer, left) = call_in(used.unwrap(), 100, get("/sleep"), cancel).await;
    assert_eq!((answer.code(), matches!(left, Left::Nothing)), ("cancelled", true));
}

#[tokio::test]
async fn who_leaves_something_of_the_call_open_serves_no_other() {
    let program = hostile(policy(patient()));
    for (path, text) in [("/hold", "held"), ("/leak-body", "")] {
        let (answer, left) = call_in(program.prepare().await.unwrap(), 100, get(path), CancellationToken::new()).await;
        assert_eq!(answer.text(), text);
        assert!(matches!(left, Left::Unclean(what) if what.contains("request, response, body or timer")), "{left:?}");
    }
    let program = hostile3(policy(patient()));
    let (answer, left) = call_in(program.prepare().await.unwrap(), 100, get("/leave"), CancellationToken::new()).await;
    assert_eq!(answer.text(), "some");
    assert!(matches!(left, Left::Unclean(what) if what.contains("stream")), "{left:?}");
}

#[tokio::test]
async fn a_command_serves_one_call() {
    let sandbox = wat("hello.wat", Policy::default()).prepare().await.unwrap();
    let (answer, left) = call_in(sandbox, 100, get("/"), CancellationToken::new()).await;
    assert!(answer.code() == "ok" && matches!(left, Left::Unclean(_)), "{left:?}");
}

#[tokio::test]
async fn each_call_counts_its_own_calls_of_the_host() {
    let mut sandbox = hostile(policy(patient())).prepare().await.unwrap();
    let mut counts = vec![];
    for _ in 0..4 {
        let (answer, left) = visit(sandbox, "/count").await;
        counts.push(answer.completion.usage.host_calls);
        sandbox = left.unwrap();
    }
    // It is the same work each time, but for what is made once.
    assert!(counts.iter().all(|count| (counts[3]..counts[3] + 5).contains(count)) && counts[3] > 0, "{counts:?}");
    let (answer, _) = visit(sandbox, "/keep?10000000").await;
    assert!(answer.completion.usage.host_calls > 0, "{:?}", answer.completion.usage);
}

#[tokio::test]
async fn t04_the_memory_limit_holds_over_all_calls_together() {
    let mut sandbox = hostile(policy(Limits { memory_bytes: 32 << 20, ..patient() })).prepare().await.unwrap();
    let mut peak = 0;
    for _ in 0..2 {
        let (answer, left) = visit(sandbox, "/keep?10000000").await;
        let before = std::mem::replace(&mut peak, answer.completion.usage.peak_memory_bytes);
        assert!(peak >= before + 10_000_000, "{peak}");
        sandbox = left.unwrap();
    }
    let (answer, left) = visit(sandbox, "/count").await;
    assert_eq!(answer.completion.usage.peak_memory_bytes, peak, "what was kept counts for later calls too");
    let (answer, left) = visit(left.unwrap(), "/keep?20000000").await;
    assert_eq!((answer.code(), left.is_none()), ("memory_exceeded", true));
}

#[tokio::test]
async fn t08_many_calls_do_not_make_the_host_hold_more() {
    let growth = Growth::since_now().await;
    for program in [hostile(policy(patient())), hostile3(policy(patient()))] {
        let mut sandbox = program.prepare().await.unwrap();
        for _ in 0..2_000 {
            let (_, left) = call_in(sandbox, u32::MAX, get("/"), CancellationToken::new()).await;
            sandbox = ready(left).unwrap();
        }
    }
    growth.is_small();
}

#[tokio::test]
async fn a_sandbox_that_takes_long_to_let_go_is_let_go_before_its_call_ends() {
    let program = hostile(policy(patient()));
    for (path, is_small) in [("/count", true), ("/keep?20000000", false)] {
        let (answer, left) = call_in(program.prepare().await.unwrap(), 1, get(path), CancellationToken::new()).await;
        assert_eq!(answer.code(), "ok");
        assert_eq!((matches!(left, Left::Spent(_)), matches!(left, Left::Nothing)), (is_small, !is_small), "{path}");
    }
}
