//! `dunlin webhook`: what it sends, and golden texts.

use crate::harness::User;

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_set_shown_tested_and_deleted() {
    let user = User::signed_in().await;
    assert_eq!(user.run("webhook show").await.code, 3);
    let set = user.run("webhook set https://example.com/hook").await.ok();
    assert_eq!(set.out, "whsec_aGVsbG8=\n");
    assert!(set.err.contains("it is not shown again"), "{}", set.err);
    let again = user.run("webhook set https://example.com/other").await.ok();
    assert_eq!(again.out, "", "it keeps its secret");
    let json = user.run("webhook set https://example.com/hook -o json").await.ok().json();
    assert_eq!((&json["webhook"]["url"], json["secret"].is_null()), (&"https://example.com/hook".into(), true));
    assert_eq!(user.run("webhook rotate-secret").await.ok().out, "whsec_bmV3\n");
    let shown = user.run("webhook show").await.ok();
    assert_eq!(
        shown.out,
        "url:     https://example.com/hook\n\
         set up:  5m ago by zoe\n\
         \n\
         AGE  TYPE             SUBJECT                     STATE      TRIES  NEXT TRY  LAST ERROR\n\
         5m   dev.dunlin.test  namespaces/default/webhook  delivered  1      -         -\n"
    );
    let json = user.run("webhook show -o json").await.ok().json();
    assert_eq!((&json["deliveries"][0]["status"], &json["deliveries"][0]["state"]), (&204.into(), &"delivered".into()));
    assert!(user.run("webhook test").await.ok().err.contains("has taken event event-1"));
    user.run("webhook set https://example.com/down").await.ok();
    let failed = user.run("webhook test").await;
    assert_eq!(failed.code, 1);
    assert!(failed.err.contains("the receiver answered 503"), "{}", failed.err);
    let shown = user.run("webhook show").await.ok().out;
    let told = "waiting:      1 event\nfailed last:  dev.dunlin.test - ago: the receiver answered 503\n";
    assert!(shown.contains(told), "{shown}");
    let json = user.run("webhook show -o json").await.ok().json();
    assert_eq!((&json["pending"], &json["last_failure"]["status"]), (&1.into(), &503.into()));
    assert_eq!(user.run("webhook delete").await.code, 2, "nobody was asked");
    user.run("webhook delete -y").await.ok();
    assert_eq!(user.run("webhook show").await.code, 3);
}
