//! Signing in, contexts, tokens, keys and namespaces.

use std::os::unix::fs::PermissionsExt;

use dunlin_proto::v1;
use serde_json::json;

use crate::{fake::TOKEN, harness::User};

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_makes_a_private_context_that_later_commands_use() {
    let mut user = User::signed_in().await;
    let url = user.fake.url.clone();
    user.token = None;
    let nobody = user.run("list").await;
    assert!(nobody.code == 4 && nobody.err.contains("dunlin login"), "{nobody:?}");
    let bad = user.run_with_input("login --token-stdin", "nonsense").await;
    assert_eq!(bad.code, 4, "{bad:?}");
    let wrong = user.run_with_input("login --token-stdin", "a.b.c").await;
    assert!(wrong.code == 4 && wrong.err.contains("the token is not valid"), "{wrong:?}");
    assert!(!user.path().join(".config/dunlin/config.toml").exists(), "a refused token is not kept");
    let ran = user.run_with_input(&format!("login {url} --token-stdin --context work -n shop"), TOKEN).await.ok();
    assert_eq!(ran.err, format!("signed in to {url} as zoe (developer in shop, operator); context work is in use\n"));
    let file = user.path().join(".config/dunlin/config.toml");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = user.run("context list").await.ok();
    assert_eq!(
        listed.out,
        format!("   NAME  URL{:1$}NAMESPACE  TOKEN\n*  work  {url}  shop       yes\n", "", url.len() - 1)
    );
    let who = user.run("whoami -o json").await.ok().json();
    assert_eq!(
        (&who["subject"], &who["grants"][0]),
        (&json!("zoe"), &json!({"namespace": "shop", "role": "developer"}))
    );
    assert_eq!((&who["token_id"], &who["address"]), (&json!("0198c5b2"), &json!("127.0.0.1")));
    let text = user.run("whoami").await.ok().out;
    for line in [
        "May:        in shop: do what a viewer may, deploy",
        "May:        do everything in every",
        "Address:    127.0.0.1\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let listed = user.run("list").await.ok();
    assert!(listed.err.contains("namespace shop"), "the context's namespace is used: {listed:?}");
    assert_eq!(user.run("--context nope list").await.code, 3);
    user.run("context delete work").await.ok();
    assert_eq!(user.run("list").await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_the_data_and_their_end_is_talk() {
    let user = User::signed_in().await;
    let ran = user.run("token create --call --scope read -n shop --lifetime 5m").await.ok();
    assert_eq!(ran.out, "a.new.token\n");
    assert!(ran.err.starts_with("valid until "), "{ran:?}");
    user.run("token create --role viewer --role admin@pay --role operator --subject ci").await.ok();
    let asked = std::mem::take(&mut user.fake.state().tokens);
    assert_eq!((asked[0].purpose(), asked[0].parent.as_str()), (v1::TokenPurpose::Call, "namespaces/shop"));
    assert_eq!((asked[0].scopes[0].as_str(), asked[0].lifetime.unwrap().seconds), ("read", 300));
    let grants: Vec<_> = asked[1].grants.iter().map(|grant| (grant.namespace.as_str(), grant.role())).collect();
    assert_eq!(grants, [("default", v1::Role::Viewer), ("pay", v1::Role::Admin), ("", v1::Role::Operator)]);
    assert_eq!((asked[1].subject.as_str(), asked[1].parent.as_str()), ("ci", ""));
    for wrong in [
        "token create",
        "token create --call --role viewer",
        "token create --role king",
        "token create --role viewer --scope x",
    ] {
        assert_eq!(user.run(wrong).await.code, 2, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_is_the_data_and_what_to_do_with_it_is_talk() {
    let user = User::signed_in().await;
    let ran = user.run("join-token create worker --name w-1 --lifetime 5m").await.ok();
    assert_eq!(ran.out, "join.JOIN_ROLE_WORKER.w-1\n");
    assert!(ran.err.contains("dunlin worker join"), "{ran:?}");
    let json = user.run("join-token create gateway -o json").await.ok().json();
    assert_eq!(json["token"], "join.JOIN_ROLE_GATEWAY.");
    for wrong in ["join-token create", "join-token create scheduler", "join-token create worker --name W"] {
        assert_eq!(user.run(wrong).await.code, 2, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_shown_once_and_listed_without_their_secret() {
    let user = User::signed_in().await;
    let made = user.run("key create till --function hello --lifetime 30d").await.ok();
    assert_eq!(made.out, "dk_secret\n");
    let listed = user.run("key list").await.ok();
    assert_eq!(
        listed.out,
        "ID            NAME  STATE  FUNCTIONS  PLAN  CREATED  EXPIRES\nabcDEF123456  till  valid  hello      -     5m       never\n"
    );
    let json = user.run("key create other -o json").await.ok().json();
    assert_eq!((&json["secret"], &json["key"]["id"]), (&json!("dk_secret"), &json!("abcDEF123456")));
    assert_eq!(user.run("key revoke abcDEF123456").await.code, 2, "nobody was asked");
    user.run("key revoke abcDEF123456 -y").await.ok();
    assert!(user.run("key list").await.ok().out.contains("revoked"));
    assert_eq!(user.run("key revoke zzzzzzzzzzzz -y").await.code, 3);
    assert_eq!(user.run("key revoke ../../x -y").await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gets_a_new_secret_beside_its_old_one() {
    let user = User::signed_in().await;
    user.run("key create till").await.ok();
    let rotated = user.run("key rotate abcDEF123456 --overlap 7d").await.ok();
    assert_eq!(rotated.out, "dk_new\n");
    assert!(rotated.err.contains("the old one is valid until 20"), "{}", rotated.err);
    assert!(user.run("key list").await.ok().out.contains("valid, old secret until 20"));
    let json = user.run("key rotate abcDEF123456 --overlap 0s -o json").await.ok().json();
    assert_eq!((&json["secret"], &json["key"]["old_secret_expire_time"]), (&json!("dk_new"), &json!(null)));
    let finished = user.run("key rotate abcDEF123456 --finish").await.ok();
    assert_eq!((finished.out.as_str(), finished.err.as_str()), ("", "the old secret of key abcDEF123456 has ended\n"));
    assert_eq!(user.run("key rotate abcDEF123456 --finish --overlap 1h").await.code, 2);
    assert_eq!(user.run("key rotate zzzzzzzzzzzz").await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_set_listed_and_kept_while_keys_are_under_them() {
    let user = User::signed_in().await;
    let set = user.run("plan set basic --rate 60/m --burst 5 --quota 10000/month").await.ok();
    assert_eq!(set.err, "plan basic: 60/m with a burst of 5, 10000/month for each key\n");
    assert_eq!(
        user.run("plan ls").await.ok().out,
        "PLAN   RATE  BURST  QUOTA        AT ONCE  KEYS  CREATED\nbasic  -     -      10000/month  -        3     5m\n"
    );
    let json = user.run("plan set basic --quota 5/day --on-unknown refuse -o json").await.ok().json();
    assert_eq!((&json["quota"]["on_unknown"], &json["rate"]), (&json!("refuse"), &json!(null)));
    assert_eq!(user.run("plan delete basic --yes").await.code, 7);
    let narrow = user.run("plan set narrow --max-concurrency 4").await.ok();
    assert_eq!(narrow.err, "plan narrow: 4 at once for each key\n");
    for wrong in ["plan set basic --burst 5", "plan set basic --quota 5/week", "plan set A --rate 5/s", "plan set"] {
        assert_eq!(user.run(wrong).await.code, 2, "{wrong}");
    }
    user.run("key create till --plan basic").await.ok();
    let usage = user.run("key usage abcDEF123456").await.ok();
    assert!(usage.out.contains("under plan basic") && usage.out.contains("42 of 100/day used"), "{}", usage.out);
    let moved = user.run("key update abcDEF123456 --no-plan").await.ok();
    assert_eq!(moved.err, "key abcDEF123456 is under no plan\n");
    assert!(user.run("key usage abcDEF123456").await.ok().out.contains("under no plan"));
    assert_eq!(user.run("key update abcDEF123456").await.code, 2);
    assert_eq!(user.run("key usage zzzzzzzzzzzz").await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_made_listed_and_deleted() {
    let user = User::signed_in().await;
    assert_eq!(user.run("namespace create shop").await.ok().err, "made namespace shop\n");
    assert_eq!(
        user.run("ns ls").await.ok().out,
        "NAME     FUNCTIONS  CONCURRENCY  RATE  QUOTA  CREATED  DESCRIPTION\n\
         default  2          -            -     -      5m       for tests\n\
         shop     2          -            -     -      5m       for tests\n"
    );
    let changed = user.run("namespace update shop --max-concurrency 5 -o json").await.ok();
    assert_eq!(changed.json()["max_concurrency"], 5);
    assert_eq!(user.run("namespace update shop --max-concurrency none").await.ok().err, "changed namespace shop\n");
    let changed = user.run("namespace update shop --quota 900/day --on-unknown refuse -o json").await.ok().json();
    assert_eq!(changed["quota"], json!({ "quota": "900/day", "requests": 900, "on_unknown": "refuse" }));
    assert_eq!(user.run("namespace update shop --quota none -o json").await.ok().json()["quota"], json!(null));
    for wrong in ["namespace update shop --quota 0/day", "namespace update shop --on-unknown refuse"] {
        assert_eq!(user.run(wrong).await.code, 2, "{wrong}");
    }
    let kept = user.run("namespace set shop --log-retention 7d --log-bytes 200MB -o json").await.ok().json();
    assert_eq!((&kept["log_retention_ms"], &kept["log_bytes"]), (&json!(604_800_000), &json!(200_000_000)));
    let unset = user.run("namespace set shop --log-retention none --log-bytes none -o json").await.ok().json();
    assert_eq!((&unset["log_retention_ms"], &unset["log_bytes"]), (&json!(null), &json!(null)));
    let shown = user.run("namespace show shop").await.ok().out;
    assert!(shown.contains("Functions:") && shown.contains("as long as gateways and workers are set to"), "{shown}");
    for wrong in
        ["namespace update shop", "namespace update shop --max-concurrency many", "namespace set shop --log-bytes many"]
    {
        assert_eq!(user.run(wrong).await.code, 2, "{wrong}");
    }
    assert_eq!(user.run("namespace create taken").await.code, 7);
    user.run("namespace delete shop --yes").await.ok();
    assert_eq!(user.fake.state().deleted, ["namespaces/shop"]);
    for wrong in ["../x", "A", "ünïcode", "a--b"] {
        assert_eq!(user.args(&["namespace", "create", wrong]).await.code, 2, "{wrong}");
    }
}
