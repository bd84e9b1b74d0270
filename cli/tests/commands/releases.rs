//! `dunlin release`: what it sends, and golden texts.

use crate::harness::User;

#[tokio::test(flavor = "multi_thread")]
async fn releases_are_listed_shown_and_compared() {
    let user = User::signed_in().await;
    let table = user.run("release ls").await.ok();
    assert_eq!(
        table.out,
        "RELEASE  WHAT                     WHO  AGE\n\
         2        divide pay: v1=90,v2=10  ada  5m\n\
         1        deploy pay@1             -    5m\n"
    );
    let shown = user.run("release show 2").await.ok();
    assert_eq!(shown.err, "release 2 of default, 5m ago by ada: divide pay: v1=90,v2=10\nno routes\n");
    assert_eq!(
        shown.out,
        "FUNCTION     CALLS           POLICY\n\
         default/pay  v1 90%, v2 10%  public, disabled\n"
    );
    let json = user.run("release show 2 -o json").await.ok().json();
    assert_eq!((&json["number"], &json["functions"][0]["aliases"][0]["traffic"][1]["version"]), (&2.into(), &2.into()));
    let diff = user.run("release diff 2").await.ok();
    assert_eq!(
        diff.out,
        "WHAT           FIELD    BEFORE  AFTER\n\
         functions/pay  traffic  v1=100  v1=90,v2=10\n\
         routes/a       path     -       /a\n"
    );
    let json = user.run("release diff 2 --from 1 -o json").await.ok().json();
    assert_eq!((&json["from"], &json["differences"][1]["after"]), (&1.into(), &"/a".into()));
    assert_eq!(user.run("release show 9").await.code, 3);
    for bad in ["release show 0", "release diff x", "release diff 2 --from 0"] {
        assert_eq!(user.run(bad).await.code, 2, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_is_asked_for_and_names_who_lags() {
    let user = User::signed_in().await;
    let refused = user.run("release rollback 1").await;
    assert!(refused.code == 2 && refused.err.contains("-y"), "{refused:?}");
    user.fake.state().lagging = vec!["gateway-2".to_owned()];
    let back = user.run("release rollback 1 -y").await.ok();
    assert_eq!(
        back.err,
        "callers of default get again what they got in release 1: release 3\n\
         gateways that have not said that they know, and will once they are reached: gateway-2\n"
    );
    let json = user.run("release rollback 1 -y -o json").await.ok().json();
    assert_eq!((&json["release"]["number"], &json["lagging_gateways"][0]), (&3.into(), &"gateway-2".into()));
    assert_eq!(user.run("release rollback 9 -y").await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_what_a_deploy_would_change_and_deploys_nothing() {
    let user = User::signed_in().await;
    let file = user.file("x.wasm", "\0asm\x01\0\0\0");
    let ran = user.args(&["deploy", &file, "--name", "hello", "--dry-run"]).await.ok();
    assert_eq!(
        ran.out,
        "WHAT             FIELD    BEFORE  AFTER\n\
         functions/hello  traffic  v2=100  v3=100\n"
    );
    assert!(ran.err.contains("refused without --allow-new-capabilities"), "{ran:?}");
    assert!(ran.err.ends_with("nothing has been changed; a deploy would make version 3\n"), "{ran:?}");
    let json = user.args(&["deploy", &file, "--name", "hello", "--dry-run", "-o", "json"]).await.ok().json();
    assert_eq!((&json["version"], &json["differences"][0]["after"]), (&3.into(), &"v3=100".into()));
    assert!(user.fake.state().created.is_empty());
}
