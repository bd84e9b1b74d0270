//! `dunlin list`, `describe`, `versions`, `rollback`, `delete`, `invoke`: golden texts in both forms.

use bytes::Bytes;
use dunlin_proto::v1;
use serde_json::json;

use crate::{
    fake::{ago, micros},
    harness::User,
};

const HELLO: &str = "namespaces/default/functions/hello";

/// Somebody with three functions, one of which has two versions.
async fn with_functions() -> User {
    let user = User::signed_in().await;
    for (name, note) in [("hello", "first"), ("hello", "second"), ("a-much-longer-name", ""), ("third", "")] {
        let file = user.file("x.wasm", format!("\0asm\x01\0\0\0{name}{note}"));
        user.args(&["deploy", &file, "--name", name, "--note", note, "--public"]).await.ok();
    }
    user
}

fn call() -> v1::Invocation {
    v1::Invocation {
        name: format!("{HELLO}/invocations/0198c5b2-7a43-7000-8000-3f1f6d1c1a2b"),
        version: 2,
        start_time: ago(42),
        method: "POST".into(),
        path: "/x\x1b[2J".into(),
        status: 502,
        outcome: "function_failed".into(),
        error: "it trapped".into(),
        receipt: Some(v1::Receipt {
            queue: micros(12),
            start: micros(0),
            run: micros(1_240),
            cpu: micros(900),
            peak_memory_bytes: 1_114_112,
            bytes_in: 3,
            bytes_out: 2_048,
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_listed_over_all_pages() {
    let user = with_functions().await;
    let table = user.run("list").await.ok();
    assert_eq!(
        table.out,
        "NAME                TRAFFIC  ACCESS  UPDATED  URL\n\
         a-much-longer-name  v1       public  5m       http://127.0.0.1:8080/default/a-much-longer-name/\n\
         hello               v2       public  5m       http://127.0.0.1:8080/default/hello/\n\
         third               v1       public  5m       http://127.0.0.1:8080/default/third/\n"
    );
    assert_eq!(table.err, "");
    let json = user.run("ls -o json").await.ok().json();
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert_eq!(
        json[1],
        json!({
            "resource": HELLO, "namespace": "default", "name": "hello", "uid": "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b",
            "description": "", "public": true, "direct": false, "disabled": false, "latest_version": 2, "traffic": [{"version": 2, "percent": 100}],
            "urls": ["http://127.0.0.1:8080/default/hello/"], "create_time": "TIME", "update_time": "TIME",
        })
    );
    let nothing = user.run("list -n empty").await.ok();
    assert!(nothing.out.is_empty() && nothing.err.contains("no functions in namespace empty yet"), "{nothing:?}");
    assert_eq!(user.run("list -n empty -o json").await.ok().out, "[]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_rollback() {
    let user = with_functions().await;
    let expected = "VERSION  TRAFFIC  KIND      SIZE  CREATED  BY   NOTE\n\
                    v2       100%     http-0.2  19 B  5m       zoe  second\n\
                    v1       -        http-0.2  18 B  5m       zoe  first\n";
    assert_eq!(user.run("versions hello").await.ok().out, expected);
    let refused = user.run("rollback hello").await;
    assert!(refused.code == 2 && refused.err.contains("-y") && user.fake.state().rollbacks.is_empty(), "{refused:?}");
    let ran = user.args(&["rollback", "hello", "-m", "it was bad", "-y"]).await.ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "all calls of default/hello go to version 1\n"));
    let asked = user.fake.state().rollbacks[0].clone();
    assert_eq!((asked.version, asked.reason.as_str()), (0, "it was bad"));
    let json = user.run("rollback default/hello 2 -y -o json").await.ok().json();
    assert_eq!((&json["version"], &json["function"]["traffic"][0]["version"]), (&json!(2), &json!(2)));
    assert_eq!(user.run("rollback hello 0 -y").await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_described_on_one_page() {
    let user = with_functions().await;
    user.fake.state().invocations = vec![call()];
    let page = user.run("describe hello").await.ok().out;
    assert!(page.starts_with("degraded: namespaces/default/functions/hello was judged\n"), "{page}");
    for line in [
        "  - 1 of 90 calls failed: \\u{1b}[31mred 1\n      dunlin why 0198c5b2\n",
        "90 calls, 1 failed, 3 cold starts, p50 -, p99 -\n",
        "  none; set one up with: dunlin webhook set URL\n",
        "\nLast failures\n",
        "Function:     default/hello\n",
        "Access:       public (anybody may call it)\n",
        "Traffic:      v2\n",
        "Workers:      none now; the next call starts it\n",
        "Limits:       memory 128 MiB, CPU 10s, timeout 30s, request 6 MiB, response 6 MiB, logs 64 KiB\n",
        "Scaling:      0 to 100 sandboxes a worker, idle 1m, 0 any number of workers\n",
        "\nVersions\nVERSION  TRAFFIC  KIND",
        "42s      hello@v2  POST /x\\u{1b}[2J  502     function_failed  1.24 ms  900 us  1.1 MiB  0198c5b2",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
    let json = user.run("describe hello -o json").await.ok().json();
    assert_eq!(json["invocations"][0]["receipt"]["run_ms"], json!(1.24));
    assert_eq!((&json["health"]["state"], &json["health"]["activity"]["calls"]), (&json!("degraded"), &json!(90)));
    assert_eq!((&json["versions"][0]["note"], &json["workers"]), (&json!("second"), &json!([])));
    assert!(json["health"]["webhook"].is_null());
    user.run("webhook set https://example.com/hook").await.ok();
    let page = user.run("describe hello").await.ok().out;
    assert!(page.contains("set, 2 events waiting\n"), "{page}");
    let missing = user.run("describe nope").await;
    assert!(missing.code == 3 && missing.err.contains("functions/nope was not found"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_deleted_only_when_asked_for() {
    let user = with_functions().await;
    let refused = user.run("delete hello").await;
    assert!(refused.code == 2 && refused.err.contains("hint: say so beforehand with -y"), "{refused:?}");
    assert!(user.fake.state().deleted.is_empty());
    user.run("delete hello -y").await.ok();
    assert_eq!(user.fake.state().deleted, [HELLO]);
    assert_eq!(user.run("delete hello -y").await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_named_for_programs() {
    let user = with_functions().await;
    let deleted = |name: &str| json!({ "name": name, "deleted": true });
    assert_eq!(user.run("delete hello -y -o json").await.ok().json(), deleted(HELLO));
    let namespace = user.run("namespace delete shop -y -o json").await.ok();
    assert_eq!(namespace.json(), deleted("namespaces/shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_sends_what_was_asked_and_prints_the_body_as_data() {
    let user = User::signed_in().await;
    let header = v1::HttpHeader { name: "content-type".into(), value: Bytes::from_static(b"text/plain") };
    user.fake.state().response = v1::InvokeResponse {
        status: 200,
        headers: vec![header],
        body: Bytes::from_static(b"hi\x1b[1m"),
        invocation: Some(v1::Invocation { status: 200, outcome: "ok".into(), error: String::new(), ..call() }),
        trace: None,
    };
    let file = user.file("body", "from a file");
    let ran = user
        .args(&[
            "invoke",
            "hello",
            "-d",
            &format!("@{file}"),
            "-X",
            "PUT",
            "-H",
            "X-A: b",
            "--path",
            "/p?q=1",
            "--version",
            "2",
        ])
        .await
        .ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("hi\x1b[1m", ""), "a pipe gets the bytes as they are");
    let shown = user.run_with_input("invoke hello -d - -i", "from a pipe").await.ok();
    assert_eq!(
        shown.err,
        "status: 200\ncontent-type: text/plain\n\
         invocation: 0198c5b2-7a43-7000-8000-3f1f6d1c1a2b on v2, ok\n\
         receipt: queue 12 us, start 0, run 1.24 ms, CPU 900 us, memory 1.1 MiB, in 3 B, out 2 KiB, host calls 0\n"
    );
    user.run("invoke shop/hello").await.ok();
    let invoked = std::mem::take(&mut user.fake.state().invoked);
    let sent: Vec<_> = invoked
        .iter()
        .map(|call| (call.name.as_str(), call.method.as_str(), call.path.as_str(), &call.body[..]))
        .collect();
    assert_eq!(
        sent,
        [
            ("namespaces/default/functions/hello/versions/2", "PUT", "/p?q=1", &b"from a file"[..]),
            (HELLO, "POST", "/", b"from a pipe"),
            ("namespaces/shop/functions/hello", "GET", "/", b""),
        ]
    );
    assert_eq!((invoked[0].headers[0].name.as_str(), &invoked[0].headers[0].value[..]), ("x-a", &b"b"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_shows_where_its_time_went_when_asked() {
    let user = User::signed_in().await;
    let span = |name: &str, depth, micros: i32| v1::InvocationSpan {
        name: name.into(),
        depth,
        at: None,
        took: Some(prost_types::Duration { seconds: 0, nanos: micros * 1_000 }),
    };
    let trace = v1::InvocationTrace {
        trace_id: "0af7".into(),
        spans: vec![span("GET hello", 0, 3_000), span("queue", 1, 1_000), span("invoke", 1, 2_000)],
        exported: false,
        note: "the trace is not exported: there is no collector".into(),
    };
    user.fake.state().response = v1::InvokeResponse {
        status: 200,
        body: Bytes::from_static(b"hi"),
        invocation: Some(v1::Invocation { status: 200, outcome: "ok".into(), error: String::new(), ..call() }),
        trace: Some(trace),
        ..Default::default()
    };
    let ran = user.run("invoke hello --trace").await.ok();
    assert!(user.fake.state().invoked[0].trace);
    assert_eq!(ran.out, "hi");
    assert_eq!(
        ran.err,
        "GET hello 200 3.00 ms  invocation 0198c5b2-7a43-7000-8000-3f1f6d1c1a2b trace 0af7\n\
         ├─ queue   1.00 ms\n└─ invoke  2.00 ms\nnote: the trace is not exported: there is no collector\n"
    );
    let json = user.run("invoke hello --trace -o json").await.ok().json();
    assert_eq!((&json["trace"]["exported"], &json["trace"]["spans"][2]["took_ms"]), (&json!(false), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_has_an_exit_code_of_its_own() {
    let user = User::signed_in().await;
    user.fake.state().response = v1::InvokeResponse {
        status: 502,
        body: Bytes::from_static(&[0xff]),
        invocation: Some(call()),
        ..Default::default()
    };
    let ran = user.run("invoke hello -o json").await;
    assert_eq!((ran.code, &ran.json()["body_base64"]), (6, &json!("/w==")));
    user.fake.state().response.body = Bytes::new();
    let ran = user.run("invoke hello").await;
    assert_eq!((ran.code, ran.err.as_str()), (6, "error: status 502: it trapped\n"));
    let ran = user.run("invoke nothing").await;
    assert_eq!((ran.code, ran.err.as_str()), (3, "error: function default/nothing was not found\n"));
    for wrong in ["invoke ../x", "invoke hello -X G(T", "invoke hello -H nocolon", "invoke hello --path x"] {
        assert_eq!(user.run(wrong).await.code, 2, "{wrong}");
    }
}
