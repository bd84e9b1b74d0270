//! Invocations: answers, bodies both ways, back-pressure, limits.

use std::time::Duration;

use dunlin_proto::internal::v1::{InvocationPolicy, open_session_request::Frame as Ask, open_session_response::Frame};
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, eventually},
    gateway::Gateway,
    guests,
};

#[tokio::test]
async fn a_small_call_takes_three_messages_and_has_a_receipt() {
    let mut cluster = Cluster::with_worker().await;
    let hello = cluster.deploy("hello", guests::HELLO).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    const CALLS: u64 = 10;
    let mut fewest = usize::MAX;
    for _ in 0..CALLS {
        let answer = gateway.call(&hello, b"ignored").await;
        assert_eq!((answer.status, answer.body.as_slice(), answer.whole), (200, &b"hello"[..], true));
        assert_eq!(answer.end.outcome, "ok");
        fewest = fewest.min(answer.messages);
        let receipt = answer.end.receipt.unwrap();
        assert!(receipt.run_nanos > 0 && receipt.cpu_nanos > 0 && receipt.peak_memory_bytes >= 65_536, "{receipt:?}");
        assert!(receipt.host_calls > 0, "{receipt:?}");
        assert_eq!((receipt.bytes_in, receipt.bytes_out), (0, 5));
    }
    // A guest that loses its processor between its last byte and its end needs one message more for that end.
    assert_eq!(fewest, 3);
    eventually("the scheduler learns of the calls", || cluster.load_of(&hello).unwrap().started_total == CALLS).await;
    eventually("a sandbox stands ready", || cluster.load_of(&hello).unwrap().prepared > 0).await;
    let answer = gateway.call(&hello, b"").await;
    assert_eq!(answer.end.receipt.unwrap().start_nanos, 0, "it was ready");
}

#[tokio::test]
async fn bodies_stream_both_ways_and_credit_follows_the_guest() {
    let mut cluster = Cluster::with_worker().await;
    let echo = cluster.deploy("echo", guests::ECHO).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let mut call = gateway.begin(&echo, b"first", false).await;
    assert!(matches!(call.next().await, Frame::Head(head) if head.status == 200));
    assert_eq!(call.next_body().await.data, "first");
    // The answer to one piece comes before the next is sent.
    for piece in ["second", "third"] {
        call.body(piece.as_bytes(), false).await;
        let body = call.next_body().await;
        assert_eq!((body.data, body.last), (piece.into(), false));
    }
    // Everything that the credit allows, unread: the guest stops reading when its answer finds no credit.
    let chunk = vec![b'x'; 64 << 10];
    let sent_before = "firstsecondthird".len();
    for _ in 0..3 {
        call.body(&chunk, false).await;
    }
    call.body(&chunk[..(64 << 10) - sent_before], false).await;
    let mut received = sent_before;
    let mut granted = 0;
    while received < 256 << 10 {
        match call.next().await {
            Frame::Body(body) => received += body.data.len(),
            Frame::Credit(bytes) => granted += bytes,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, 256 << 10, "no more than its credit");
    while granted < 128 << 10 {
        let Frame::Credit(bytes) = call.next().await else { panic!("no credit") };
        granted += bytes;
    }
    for _ in 0..2 {
        call.body(&chunk, false).await;
    }
    call.ask(Ask::Credit(1000)).await;
    assert_eq!(call.next_body().await.data.len(), 1000, "exactly what was granted");
    call.ask(Ask::Credit(10 << 20)).await;
    call.body(b"", true).await;
    let answer = call.finish().await;
    assert_eq!((answer.end.outcome.as_str(), answer.whole), ("ok", true));
    assert_eq!(answer.body.len() + 1000, 128 << 10);
    let receipt = answer.end.receipt.unwrap();
    assert_eq!((receipt.bytes_in, receipt.bytes_out), (384 << 10, 384 << 10));
}

#[tokio::test]
async fn a_large_body_arrives_unchanged() {
    let mut cluster = Cluster::with_worker().await;
    let echo = cluster.deploy("echo", guests::ECHO).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let body: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 249) as u8).collect();
    let mut call = gateway.begin(&echo, b"", false).await;
    let (mut sent, mut credit, mut received, mut last) = (0, 256 << 10, Vec::new(), false);
    while !last {
        while sent < body.len() && credit > 0 {
            let piece = (body.len() - sent).min(credit).min(60_000);
            call.body(&body[sent..sent + piece], sent + piece == body.len()).await;
            (sent, credit) = (sent + piece, credit - piece);
        }
        match call.next().await {
            Frame::Body(piece) => {
                received.extend_from_slice(&piece.data);
                call.ask(Ask::Credit(piece.data.len() as u64)).await;
                last = piece.last;
            }
            Frame::Credit(bytes) => credit += usize::try_from(bytes).unwrap(),
            Frame::Head(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(received == body);
    assert_eq!(call.finish().await.end.outcome, "ok");
}

#[tokio::test]
async fn a_slow_reader_holds_back_only_itself() {
    let mut cluster = Cluster::with_worker().await;
    let (echo, hello) = (cluster.deploy("echo", guests::ECHO).await, cluster.deploy("hello", guests::HELLO).await);
    let mut gateway = Gateway::connect(cluster.address).await;
    let mut slow = gateway.begin(&echo, b"", false).await;
    for _ in 0..4 {
        slow.body(&[1; 64 << 10], false).await;
    }
    let mut other = gateway.begin(&echo, b"other", false).await;
    for round in 0..200 {
        assert_eq!(gateway.call(&hello, b"").await.body, b"hello", "{round}");
    }
    assert!(matches!(other.next().await, Frame::Head(_)));
    assert_eq!(other.next_body().await.data, "other");
    other.body(b"", true).await;
    assert_eq!(other.finish().await.end.outcome, "ok");
    slow.body(b"", true).await;
    loop {
        if let Frame::Body(body) = slow.next().await
            && body.last
        {
            break;
        }
    }
    assert_eq!(slow.finish().await.end.outcome, "ok");
}

#[tokio::test]
async fn a_cancelled_call_ends_at_once_with_its_reason() {
    let mut cluster = Cluster::with_worker().await;
    let (echo, spin) = (cluster.deploy("echo", guests::ECHO).await, cluster.deploy("spin", guests::SPIN).await);
    let mut gateway = Gateway::connect(cluster.address).await;
    for (reason, outcome) in [
        ("caller_gone", "cancelled"),
        ("deadline_exceeded", "deadline_exceeded"),
        ("request_timeout", "request_timeout"),
    ] {
        for version in [&echo, &spin] {
            // Where the machine stands still just then, it is tried again. Left alone, both would go on for ten seconds.
            let mut times = Vec::new();
            while times.iter().all(|time| *time >= Duration::from_secs(1)) {
                assert!(times.len() < 3, "{reason}: {times:?}");
                let call = gateway.begin(version, b"", false).await;
                eventually("it runs", || cluster.load_of(version).is_some_and(|load| load.in_flight == 1)).await;
                let began = Instant::now();
                call.cancel(reason).await;
                let end = call.finish().await.end;
                times.push(began.elapsed());
                assert_eq!((end.outcome.as_str(), end.reason.as_str()), (outcome, "cancelled"));
                eventually("it has ended", || cluster.load_of(version).unwrap().in_flight == 0).await;
            }
        }
    }
}

#[tokio::test]
async fn time_that_is_up_is_up_wherever_it_was_spent() {
    let mut cluster = Cluster::with_worker().await;
    let mut only_one = cluster.version("spin", guests::SPIN);
    only_one.max_sandboxes = 1;
    let spin = cluster.assign(only_one).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    // The first one runs for so long that the others come and go meanwhile, also where the machine stands still for a while.
    let time = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let running = gateway.begin_with(&spin, b"", true, |begin| begin.time_left = time(4, 0)).await;
    let waiting = gateway.begin_with(&spin, b"", true, |begin| begin.time_left = time(0, 100_000_000)).await;
    let late = gateway.begin_with(&spin, b"", true, |begin| begin.time_left = None).await;
    for refused in [waiting, late] {
        let refusal = refused.finish().await.refusal.expect("its guest never started");
        assert_eq!(refusal.code, "deadline_exceeded");
    }
    let answer = running.finish().await;
    assert_eq!((answer.end.outcome.as_str(), answer.end.reason.as_str()), ("deadline_exceeded", "deadline_exceeded"));
    assert!(!answer.whole);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_with_its_time() {
    let mut cluster = Cluster::with_worker().await;
    let echo = cluster.deploy("echo", guests::ECHO).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    // Enough for its head, whatever happens.
    let time_left = Some(prost_types::Duration { seconds: 4, nanos: 0 });
    let mut call = gateway.begin_with(&echo, b"", false, |begin| begin.time_left = time_left).await;
    let mut sent = 0;
    let end = loop {
        match call.next().await {
            // Sends all that it may, and grants nothing.
            Frame::Head(_) => {
                for _ in 0..4 {
                    call.body(&[0; 64 << 10], false).await;
                }
            }
            Frame::Credit(bytes) if sent < 2 => {
                sent += 1;
                call.body(&vec![0; usize::try_from(bytes).unwrap().min(64 << 10)], false).await;
            }
            Frame::End(end) => break end,
            _ => {}
        }
    };
    assert_eq!(end.outcome, "deadline_exceeded");
}

#[tokio::test]
async fn who_finds_the_functions_line_full_is_refused_and_told_when_to_come_back() {
    let mut cluster = Cluster::with_worker().await;
    let mut small = cluster.version("echo", guests::ECHO);
    small.max_sandboxes = 2;
    let echo = cluster.assign(small).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let mut calls = Vec::new();
    for _ in 0..22 {
        calls.push(gateway.begin(&echo, b"", false).await);
    }
    eventually("two run and twenty wait", || {
        cluster.load_of(&echo).is_some_and(|load| (load.in_flight, load.queued) == (2, 20))
    })
    .await;
    let refusal = gateway.call(&echo, b"").await.refusal.expect("there is no room");
    assert_eq!(refusal.code, "too_many_requests");
    assert!(refusal.message.contains("limit of 2 sandboxes") && refusal.retry_after_millis > 0, "{refusal:?}");
    let delay = cluster.load_of(&echo).unwrap().queue_delay.unwrap();
    assert!(delay.seconds > 0 || delay.nanos > 0);
    for call in calls {
        call.body(b"done", true).await;
        let answer = call.finish().await;
        assert_eq!((answer.end.outcome.as_str(), answer.body.as_slice()), ("ok", &b"done"[..]));
    }
    assert_eq!(gateway.call(&echo, b"again").await.body, b"again");
}

#[tokio::test]
async fn a_failure_is_told_apart_and_leaves_the_worker_well() {
    let mut cluster = Cluster::with_worker().await;
    let trap = cluster.deploy("trap", guests::TRAP).await;
    let mut limited = cluster.version("echo", guests::ECHO);
    limited.policy =
        limited.policy.map(|policy| InvocationPolicy { request_body_bytes: 10, response_body_bytes: 5, ..policy });
    let limited = cluster.assign(limited).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    for (version, body, outcome, reason) in [
        (&trap, &b""[..], "function_failed", "trap"),
        (&limited, b"01234567890", "payload_too_large", "request_too_large"),
        (&limited, b"012345", "response_too_large", "response_too_large"),
        (&limited, b"01234", "ok", ""),
    ] {
        let end = gateway.call(version, body).await.end;
        assert_eq!((end.outcome.as_str(), end.reason.as_str()), (outcome, reason));
        assert!(end.receipt.is_some());
    }
}

#[tokio::test]
async fn many_calls_on_one_session_get_their_own_answers() {
    let mut cluster = Cluster::with_worker().await;
    let echo = cluster.deploy("echo", guests::ECHO).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    for round in 0..10 {
        let mut calls = Vec::new();
        for number in 0..20 {
            let text = format!("{round}/{number}");
            calls.push((gateway.begin(&echo, text.as_bytes(), true).await, text));
        }
        for (call, text) in calls {
            assert_eq!(call.finish().await.body, text.as_bytes());
        }
    }
}

#[tokio::test]
async fn who_finds_the_worker_full_is_told_that_it_is_not_the_functions_limit() {
    let mut cluster = Cluster::new().await;
    cluster.start_worker(|config| config.capacity = 1).await;
    let other = cluster.deploy("other", guests::ECHO).await;
    let mut small = cluster.version("echo", guests::ECHO);
    small.max_sandboxes = 1;
    let echo = cluster.assign(small).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let busy = gateway.begin(&other, b"", false).await;
    eventually("the worker is taken", || cluster.load_of(&other).is_some_and(|load| load.in_flight == 1)).await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(gateway.begin(&echo, b"", true).await);
    }
    eventually("ten wait", || cluster.load_of(&echo).is_some_and(|load| load.queued == 10)).await;
    let refusal = gateway.call(&echo, b"").await.refusal.expect("there is no room");
    assert_eq!((refusal.code.as_str(), refusal.retry_after_millis > 0), ("unavailable", true), "{refusal:?}");
    busy.body(b"", true).await;
    for call in [busy].into_iter().chain(waiting) {
        assert_eq!(call.finish().await.end.outcome, "ok");
    }
}
