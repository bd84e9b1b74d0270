//! The audit log: listed, exported, and verified by the command itself.

use serde_json::json;

use crate::harness::User;

async fn with_entries(count: u64) -> User {
    let user = User::signed_in().await;
    user.fake.state().audit.write(count);
    user
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_listed_and_what_is_wanted_is_asked_for() {
    let user = with_entries(7).await;
    let listed = user.run("audit list --limit 5").await.ok();
    assert!(listed.out.starts_with("SEQ  AGE"), "{}", listed.out);
    assert_eq!(listed.out.lines().count(), 6);
    assert!(listed.out.lines().nth(1).unwrap().starts_with("7 "), "{}", listed.out);
    let line = "audit list -n shop --actor zoe --action route --resource namespaces/shop/routes --since 1h -o json";
    let json = user.run(line).await.ok().json();
    assert_eq!(json.as_array().unwrap().len(), 7);
    assert_eq!((&json[0]["subject"], &json[0]["after"]), (&json!("zoe"), &json!(r#"{"path":"/"}"#)));
    let state = user.fake.state();
    let asked = state.audit.asked.last().unwrap();
    assert_eq!(
        (asked.parent.as_str(), asked.subject.as_str(), asked.action.as_str()),
        ("namespaces/shop", "zoe", "route")
    );
    assert!(asked.resource == "namespaces/shop/routes" && asked.since.is_some() && !asked.oldest_first);
    assert_eq!(state.audit.asked[0].parent, "", "a context's own namespace is not meant");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_a_line_of_json_for_each_entry_oldest_first() {
    let user = with_entries(7).await;
    let ran = user.run("audit export").await.ok();
    let lines: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sequences: Vec<_> = lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(lines[0]["time"], "2023-11-14T22:13:20.000001Z");
    assert_eq!(user.run("audit list --limit 0").await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_touched_is_verified_from_a_saved_head() {
    let user = with_entries(4).await;
    let head = user.run("audit head -o json").await.ok();
    let file = user.file("head.json", &head.out);
    user.fake.state().audit.write(3);
    let ran = user.run(&format!("audit verify --since {file}")).await.ok();
    assert_eq!(
        ran.out,
        "entries 1 to 7 are as they were written, and the head is signed; the saved head (entry 4) lies on it\n"
    );
    let json = user.run("audit verify -o json").await.ok().json();
    assert_eq!((&json["ok"], &json["sequence"], &json["since"]), (&json!(true), &json!(7), &json!(null)));
    let shown = user.run("audit head").await.ok();
    assert!(shown.out.starts_with("7 entries") && shown.err.contains("head.json"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changed_is_found_and_named() {
    let user = with_entries(6).await;
    let file = user.file("head.json", user.run("audit head -o json").await.ok().out);
    let verify = format!("audit verify --since {file}");
    let untouched = user.fake.state().audit.entries.clone();
    user.fake.state().audit.entries[2].0.subject = "eve".into();
    let changed = user.run(&verify).await;
    assert!(changed.code == 1 && changed.err.contains("entry 3: its hash does not fit"), "{changed:?}");
    let json = user.run("audit verify -o json").await;
    assert!(json.code == 1 && json.out.contains("\"bad_sequence\": 3"), "{json:?}");
    user.fake.state().audit.entries = untouched[..4].to_vec();
    let short = user.run(&verify).await;
    assert!(short.code == 1 && short.err.contains("entry 5: it is missing"), "{short:?}");
    // An entry behind the end that the cluster has signed.
    let mut forged = untouched.clone();
    let mut entry = forged[5].0.clone();
    entry.sequence = 7;
    let hash = entry.hash_after(&forged[5].1);
    forged.push((entry, hash));
    user.fake.state().audit.entries = forged;
    let longer = user.run(&verify).await;
    assert!(longer.code == 1 && longer.err.contains("entry 7: it stands behind the signed end"), "{longer:?}");
    // Another cluster's log, in which everything is in order.
    user.fake.state().audit = crate::fake::Log::default();
    user.fake.state().audit.write(6);
    let other = user.run(&verify).await;
    assert!(other.code == 1 && other.err.contains("another key"), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_head_and_who_may_not_is_told() {
    let user = with_entries(2).await;
    let file = user.file("head.json", "{}");
    let wrong = user.run(&format!("audit verify --since {file}")).await;
    assert!(wrong.code == 2 && wrong.err.contains("audit head -o json"), "{wrong:?}");
    assert_eq!(user.run("audit verify --since nothing.json").await.code, 2);
    user.fake.state().audit.denied = true;
    assert_eq!(user.run("audit verify").await.code, 4);
}
