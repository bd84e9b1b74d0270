//! `dunlin deploy` and `dunlin build`: what travels, what is said, what is refused before it travels.

use dunlin_proto::{ApiError, ErrorCode};
use serde_json::json;

use crate::harness::User;

const MODULE: &[u8] = b"\0asm\x0d\0\x01\0and the rest";
const HELLO: &str = "namespaces/default/functions/hello";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_a_version_and_its_address_is_the_data() {
    let user = User::signed_in().await;
    let file = user.file("hello.wasm", MODULE);
    let ran = user
        .args(&["deploy", &file, "--public", "-e", "A=1", "--allow-host", "https://x.example", "--note", "first"])
        .await
        .ok();
    assert_eq!(ran.out, "http://127.0.0.1:8080/default/hello/\n");
    let expected = "uploading 20 B\ncompiling\nplacing on workers\n\
                    deployed default/hello version 1 with 100% of the traffic\n\
                    call it: curl http://127.0.0.1:8080/default/hello/\n";
    assert_eq!(ran.err, expected);
    let state = user.fake.state();
    let request = &state.created[0];
    let spec = request.spec.as_ref().unwrap();
    assert_eq!((request.parent.as_str(), request.public, request.note.as_str()), (HELLO, Some(true), "first"));
    assert_eq!((spec.environment["A"].as_str(), spec.allowed_outbound_hosts[0].as_str()), ("1", "https://x.example"));
    assert_eq!(state.artifacts.values().next().unwrap(), MODULE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_in_chunks_and_only_once() {
    let user = User::signed_in().await;
    let mut bytes = MODULE.to_vec();
    bytes.resize(3 << 20, 7);
    let file = user.file("big.wasm", &bytes);
    user.args(&["deploy", &file]).await.ok();
    assert_eq!(user.fake.state().largest_chunk, 256 << 10);
    let again = user.args(&["deploy", &file]).await.ok();
    assert!(again.err.contains("the cluster has this file already"), "{}", again.err);
    assert_eq!(user.fake.state().created.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_built_and_deployed_by_its_manifest() {
    let user = User::signed_in().await;
    user.file("seed", MODULE);
    let manifest = "name = 'check-out'\nsource = 'out/a.wasm'\ndescription = 'pays'\n[limits]\nmemory = '64MiB'\n\
                    [environment]\nA = 'manifest'\nB = 'kept'\n\
                    [build]\ncommand = 'echo noise && mkdir -p out && cp seed out/a.wasm'\n";
    user.file("dunlin.toml", manifest);
    let built = user.run("build -o json").await.ok();
    assert_eq!(built.json()["file"], "./out/a.wasm");
    assert!(built.err.contains("noise"), "what the build prints is talk: {built:?}");
    let ran = user.run("deploy -e A=flag --no-traffic -o json -n shop").await.ok();
    let json = ran.json();
    assert_eq!(json["function"]["resource"], "namespaces/shop/functions/check-out");
    assert_eq!((&json["version"]["version"], &json["version"]["traffic_percent"]), (&json!(1), &json!(0)));
    assert_eq!(json["version"]["spec"]["memory_bytes"], 64 << 20);
    let state = user.fake.state();
    let request = &state.created[0];
    assert!(request.hold_traffic);
    assert_eq!((request.description.as_deref(), request.public), (Some("pays"), None));
    let environment = &request.spec.as_ref().unwrap().environment;
    assert_eq!((environment["A"].as_str(), environment["B"].as_str()), ("flag", "kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_cluster_is_tried_again_with_the_same_request_id() {
    let user = User::signed_in().await;
    let file = user.file("hello.wasm", MODULE);
    user.fake.state().unavailable = 2;
    let ran = user.args(&["deploy", &file, "-q"]).await.ok();
    assert_eq!(ran.err, "", "asked to be quiet");
    let state = user.fake.state();
    assert_eq!(state.created.len(), 3);
    assert!(state.created.iter().all(|request| request.request_id == state.created[0].request_id));
    assert_eq!(state.versions[HELLO].len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_cluster_is_told_with_its_hint() {
    let user = User::signed_in().await;
    let file = user.file("hello.wasm", MODULE);
    let refusal = || ApiError::new(ErrorCode::InvalidArtifact, "it imports wasi:gpu/x\x1b[2J").hint("build without it");
    user.fake.state().refusal = Some(refusal());
    let ran = user.args(&["deploy", &file]).await;
    assert_eq!((ran.code, ran.out.as_str()), (7, ""));
    assert!(ran.err.ends_with("error: it imports wasi:gpu/x\\u{1b}[2J\n  hint: build without it\n"), "{}", ran.err);
    user.fake.state().refusal = Some(refusal());
    let ran = user.args(&["deploy", &file, "-q", "-o", "json"]).await;
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["exit_code"]), (&json!("invalid_artifact"), &json!(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_does_not_travel() {
    let user = User::signed_in().await;
    let text = user.file("text.wasm", "hello");
    let native = user.file("native.wasm", b"\x7fELF\x02\x01\x01");
    let wat = user.file("a.wasm", "(module)");
    let cut = user.file("cut.wasm", b"\0asm\x01");
    let large = user.file("large.wasm", "");
    std::fs::File::create(&large).unwrap().set_len(100_000_000).unwrap();
    for (file, why) in [
        (&text, "text.wasm is not a WebAssembly file"),
        (&native, "is compiled code, not WebAssembly"),
        (&wat, "is WebAssembly in text form"),
        (&cut, "ends within its first eight bytes"),
        (&large, "has 95.4 MiB, but an artifact may have 64 MiB at most"),
        (&"/nowhere.wasm".to_owned(), "cannot read /nowhere.wasm"),
    ] {
        let ran = user.args(&["deploy", file]).await;
        assert!(ran.code == 2 && ran.err.contains(why) && ran.out.is_empty(), "{file}: {ran:?}");
    }
    assert!(user.fake.state().created.is_empty() && user.fake.state().artifacts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_manifest_is_named_by_line_and_a_failed_build_by_its_command() {
    let user = User::signed_in().await;
    user.file("dunlin.toml", "name = 'a'\nsorce = 'a.wasm'\n");
    let ran = user.run("deploy").await;
    let expected = "error: ./dunlin.toml:2:1: unknown field \"sorce\"\n  hint: did you mean \"source\"? known fields: ";
    assert!(ran.code == 2 && ran.err.starts_with(expected), "{ran:?}");
    user.file("dunlin.toml", "name = 'a'\nsource = 'a.wasm'\n[build]\ncommand = 'no-such-tool-at-all'\n");
    let ran = user.run("build").await;
    assert!(ran.code == 1 && ran.err.contains("not installed") && ran.err.contains("dunlin doctor"), "{ran:?}");
    let ran = user.run("deploy --no-build").await;
    assert!(ran.code == 2 && ran.err.contains("there is no ./a.wasm"), "{ran:?}");
}
