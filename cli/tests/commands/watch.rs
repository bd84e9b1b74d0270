//! `dunlin logs`, `invocations` and `worker`.

use std::time::{Duration, SystemTime};

use dunlin_proto::v1::{self, read_logs_response::Event};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{fake::ago, harness::User};

fn line(second: u64, text: &str) -> v1::ReadLogsResponse {
    let line = v1::LogLine {
        time: Some((SystemTime::UNIX_EPOCH + Duration::from_secs(second)).into()),
        function: "namespaces/default/functions/hello".into(),
        version: 3,
        invocation: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".into(),
        stream: v1::LogStream::Stderr.into(),
        text: text.into(),
        worker: "w1".into(),
        dropped_bytes: 0,
        boot: 4,
        sequence: second,
    };
    v1::ReadLogsResponse { event: Some(Event::Line(line)), cursor: format!("after-{second}") }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_lines_of_text_or_of_json() {
    let user = User::signed_in().await;
    let lost = v1::ReadLogsResponse { event: Some(Event::UnreachableWorker("w2".into())), cursor: String::new() };
    let gap = v1::LogGap { lines: 3, worker: "w1".into(), reason: 2, boot: 4, sequence: 1, ..Default::default() };
    let gap = v1::ReadLogsResponse { event: Some(Event::Gap(gap)), cursor: String::new() };
    user.fake.state().logs =
        vec![gap, line(2, "one"), lost, line(3, "two\x1b[2J\ttab"), line(4, r#"{"level":"WARN"}"#)];
    let ran = user.run("logs hello --since 1970-01-01T00:00:01Z --lines 7 --request-id r --search s").await.ok();
    assert_eq!(
        ran.out,
        " [3 lines are missing here: worker w1 could not write to its disk]\n\
         1970-01-01T00:00:02.000Z v3 3f1f6d1c1a2b one\n\
         1970-01-01T00:00:03.000Z v3 3f1f6d1c1a2b two\\u{1b}[2J\ttab\n\
         1970-01-01T00:00:04.000Z v3 3f1f6d1c1a2b {\"level\":\"WARN\"}\n"
    );
    assert_eq!(ran.err, "warning: w2 did not answer; its lines are missing here\n");
    let asked = user.fake.state().log_requests.remove(0);
    assert_eq!((asked.parent.as_str(), asked.lines, asked.follow), ("namespaces/default/functions/hello", 7, false));
    assert_eq!((asked.request_id.as_str(), asked.search.as_str(), asked.since.unwrap().seconds), ("r", "s", 1));
    let ran = user.run("tail -o json").await.ok();
    let lines: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!((&lines[0]["gap"], &lines[0]["lines"]), (&json!("disk"), &json!(3)));
    assert_eq!((&lines[3]["level"], &lines[3]["fields"]), (&json!("warn"), &json!({"level": "WARN"})));
    assert_eq!(
        lines[2],
        json!({
            "time": "1970-01-01T00:00:03.000Z", "namespace": "default", "function": "hello", "version": 3,
            "invocation": "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b", "stream": "stderr", "text": "two\u{1b}[2J\ttab",
            "worker": "w1", "dropped_bytes": 0, "boot": 4, "sequence": 3, "cursor": "after-3",
        })
    );
    assert_eq!(user.run("logs hello --since soon").await.code, 2);
    assert_eq!(user.run("logs hello --lines 0").await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_has_no_empty_log_and_no_empty_list_of_calls() {
    let user = User::signed_in().await;
    for command in ["logs nope", "invocations nope"] {
        let ran = user.run(command).await;
        assert!(ran.code == 3 && ran.err.contains("nope was not found"), "{command}: {ran:?}");
        assert!(ran.out.is_empty(), "{command}: {ran:?}");
    }
    user.fake.state().logs = vec![line(2, "one")];
    assert!(user.run("logs nope").await.ok().out.contains("one"), "it was deleted, and its lines are still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn following_survives_a_broken_connection_without_repeating_lines() {
    let user = User::signed_in().await;
    user.fake.state().logs = vec![line(1, "one"), line(2, "two")];
    let mut child = user.command(&["logs", "hello", "-f"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for text in ["one", "two"] {
        assert!(lines.next_line().await.unwrap().unwrap().ends_with(text));
    }
    let asked_again = async {
        while user.fake.state().log_requests.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked_again).await.unwrap();
    let again = user.fake.state().log_requests[1].clone();
    assert_eq!((again.cursor.as_str(), again.since), ("after-2", None));
    user.fake.state().logs.push(line(3, "three"));
    assert!(lines.next_line().await.unwrap().unwrap().ends_with("three"), "what comes twice is shown once");
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_are_listed_and_missing_ones_told() {
    let user = User::signed_in().await;
    user.fake.state().invocations = vec![v1::Invocation {
        name: "namespaces/default/functions/hello/invocations/1".into(),
        version: 1,
        start_time: ago(300),
        method: "GET".into(),
        path: "/".into(),
        status: 200,
        outcome: "ok".into(),
        ..Default::default()
    }];
    let ran = user.run("invocations").await.ok();
    assert_eq!(
        ran.out,
        "STARTED  FUNCTION  CALL   STATUS  OUTCOME  RUN  CPU  MEMORY  ID\n\
         5m       hello@v1  GET /  200     ok       0    0    0 B     1\n"
    );
    assert_eq!(ran.err, "warning: gateways/lost did not answer; its calls are missing here\n");
    assert_eq!(user.run("invocations hello -o json").await.ok().json()[0]["status"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_of_invocations_is_asked_for() {
    let user = User::signed_in().await;
    let all =
        "invocations --status 5xx --since 10m --slower 500ms --key abcDEF123456 --version 7 --failed --search pay";
    user.run(all).await.ok();
    let asked = user.fake.state().listed.pop().unwrap();
    assert_eq!((asked.status.as_str(), asked.key.as_str(), asked.version), ("5xx", "abcDEF123456", 7));
    assert_eq!(asked.search, "pay");
    assert_eq!(asked.min_duration, Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 }));
    assert!(asked.failed_only && asked.since.is_some() && asked.until.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_took_too_long_goes_on_and_says_where_it_ended() {
    let user = User::signed_in().await;
    user.fake.state().searched_from = Some(prost_types::Timestamp { seconds: 7, nanos: 0 });
    user.fake.state().invocations = vec![v1::Invocation { path: "/found".into(), ..Default::default() }];
    let ran = user.run("invocations --search pay").await.ok();
    assert!(ran.out.contains("/found"), "{}", ran.out);
    let said = "calls that began before 1970-01-01T00:00:07.000Z were not looked for; ask with --until 1970-01-01T00:00:07.000Z";
    assert!(ran.err.contains(said), "{}", ran.err);
    let asked: Vec<_> = user.fake.state().listed.drain(..).map(|request| request.page_token).collect();
    assert_eq!(asked, ["", "older"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_explained_and_one_that_is_not_kept_ends_as_what_is_not_there() {
    let user = User::signed_in().await;
    user.fake.state().invocations = vec![v1::Invocation {
        name: "namespaces/default/functions/hello/invocations/1".into(),
        method: "GET".into(),
        path: "/".into(),
        ..Default::default()
    }];
    let ran = user.run("why 1").await.ok();
    assert!(
        ran.out.starts_with("GET / was explained\n\n") && ran.out.contains("log       \\u{1b}[31mred"),
        "{}",
        ran.out
    );
    assert_eq!(ran.err, "warning: gateways/lost did not answer and may know more\n");
    assert_eq!(user.run("why 1 -o json").await.ok().json()["steps"][0]["stage"], "accepted");
    let ran = user.run("why 2").await;
    assert!(ran.code == 3 && ran.out.contains("7  hello ok"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_drained_and_resumed() {
    let user = User::signed_in().await;
    user.fake.state().workers = vec![v1::Worker {
        name: "workers/w1".into(),
        state: v1::WorkerState::Ready.into(),
        capacity: 100,
        in_flight: 3,
        memory_bytes: 64 << 20,
        cpu_millis: 1_250,
        heard_time: ago(300),
        ..Default::default()
    }];
    assert_eq!(
        user.run("worker list").await.ok().out,
        "NAME  STATE  RUNNING  PREPARED  VERSIONS  CPU   MEMORY  HEARD\n\
         w1    ready  3/100    0         0         1.25  64 MiB  5m\n"
    );
    assert_eq!(user.run("worker drain w1").await.ok().err, "worker w1 is draining, with 3 calls running\n");
    assert_eq!(user.run("worker resume w1 -o json").await.ok().json()["state"], "ready");
    let missing = user.run("worker drain w9").await;
    assert_eq!((missing.code, missing.err.as_str()), (3, "error: workers/w9 was not found\n"));
}
