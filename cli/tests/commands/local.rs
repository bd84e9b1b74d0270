//! What needs no cluster: help, exit codes, templates, completion, an address where nobody is, doctor.

use serde_json::json;

use crate::harness::User;

#[tokio::test(flavor = "multi_thread")]
async fn help_lists_the_exit_codes_and_wrong_use_has_code_2() {
    let user = User::signed_in().await;
    let help = user.run("--help").await.ok();
    assert!(help.out.contains("Exit codes:\n  0  done\n") && help.out.contains("\n  7  "), "{}", help.out);
    for wrong in ["", "frobnicate", "list --nonsense", "deploy -e NOVALUE", "list -n Bad_Name", "list --url ftp://x"] {
        let ran = user.run(wrong).await;
        assert!(ran.code == 2 && ran.out.is_empty(), "{wrong}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_address_is_exit_code_5_with_the_fix() {
    let user = User::signed_in().await;
    let ran = user.run("list --url http://127.0.0.1:9").await;
    assert_eq!(ran.code, 5);
    assert!(ran.err.contains("http://127.0.0.1:9") && ran.err.contains("dunlin up"), "{}", ran.err);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let other = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    });
    let ran = user.run(&format!("list --url http://{address}")).await;
    assert!(ran.code == 5 && ran.err.starts_with("error: "), "{ran:?}");
    other.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_are_scripts() {
    let user = User::signed_in().await;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = user.run(&format!("completion {shell}")).await.ok().out;
        assert!(script.len() > 500 && script.contains("rollback"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_template_lists_those_there_are() {
    let user = User::signed_in().await;
    let ran = user.run("new -t cobol mine").await;
    assert!(ran.code == 2 && ran.err.contains("hint: choose one with -t: "), "{ran:?}");
    assert!(!user.path().join("mine").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_what_is_wrong_and_the_fix() {
    let user = User::signed_in().await;
    user.file("dunlin.toml", "name = 'a'\nsource = 'a.wasm'\n[build]\ncommand = 'no-such-tool-at-all'\n");
    let ran = user.run("doctor -o json").await;
    assert_eq!(ran.code, 1);
    let findings = ran.json();
    let of = |check: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {findings}")).clone()
    };
    assert_eq!(of("tool")["fix"], "install no-such-tool-at-all, or put its folder into PATH");
    assert_eq!((&of("source")["state"], &of("source")["fix"]), (&json!("warning"), &json!("run: dunlin build")));
    assert_eq!((&of("identity")["state"], &of("workers")["state"]), (&json!("ok"), &json!("failed")));
    let ran = user.run("doctor --url http://127.0.0.1:9").await;
    assert!(
        ran.code == 1 && ran.out.contains("127.0.0.1:9") && ran.out.contains("fix: start one with: dunlin up"),
        "{ran:?}"
    );
}
