//! `dunlin alias`, `dunlin traffic` and `dunlin promote`: what they send, and golden texts.

use dunlin_proto::v1;

use crate::harness::User;

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_divided_listed_and_promoted() {
    let user = User::signed_in().await;
    let set = user.run("traffic set hello v1=90,v2=10").await.ok();
    assert_eq!(set.err, "calls of default/hello: v1 90%, v2 10%\n");
    let set = user.run("alias set shop/hello beta 2 --sticky header:X-User --sticky cookie").await.ok();
    assert_eq!(set.err, "calls of shop/hello:beta: v2\n");
    let table = user.run("alias ls hello").await.ok();
    assert_eq!(
        table.out,
        "ALIAS  CALLS           STICKY                 CHANGED\n\
         live   v1 90%, v2 10%  -                      5m\n\
         beta   v2              header:X-User, cookie  5m\n"
    );
    user.fake.state().lagging = vec!["gateway-2".to_owned()];
    let promoted = user.run("promote hello").await.ok();
    assert_eq!(
        promoted.err,
        "all calls of default/hello go to version 2\n\
         gateways that have not said that they know, and will once they are reached: gateway-2\n"
    );
    let promoted = user.run("promote shop/hello:beta 1 -o json").await.ok();
    let json = promoted.json();
    assert_eq!((&json["version"], &json["alias"]["lagging_gateways"][0]), (&1.into(), &"gateway-2".into()));
    let refused = user.run("alias delete shop/hello beta").await;
    assert!(refused.code == 2 && refused.err.contains("-y"), "{refused:?}");
    user.run("alias delete shop/hello beta -y").await.ok();
    assert_eq!(user.run("alias delete shop/hello beta -y").await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_are_no_whole_are_refused_before_anything_is_sent() {
    let user = User::signed_in().await;
    for (weights, message) in [("v1=90,v2=20", "add up to 110"), ("v1=50", "add up to 50"), ("v1", "")] {
        let ran = user.run(&format!("traffic set hello {weights}")).await;
        assert!(ran.code == if message.is_empty() { 0 } else { 2 } && ran.err.contains(message), "{ran:?}");
    }
    assert_eq!(user.fake.state().aliases.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_and_a_called_alias_arrive() {
    let user = User::signed_in().await;
    let file = user.file("x.wasm", "\0asm\x01\0\0\0");
    user.args(&["deploy", &file, "--name", "hello", "--canary", "10"]).await.ok();
    assert_eq!(user.fake.state().created[0].canary_percent, Some(10));
    for bad in [&["--canary", "0"][..], &["--canary", "100"], &["--canary", "10", "--no-traffic"]] {
        let words = [&["deploy", file.as_str(), "--name", "hello"][..], bad].concat();
        assert_eq!(user.args(&words).await.code, 2, "{bad:?}");
    }
    user.run("invoke hello:beta").await;
    user.run("route add x /x --function hello:beta").await.ok();
    let state = user.fake.state();
    assert_eq!(state.invoked[0].name, "namespaces/default/functions/hello/aliases/beta");
    let Some(v1::route::Target::Function(target)) = &state.routes["namespaces/default/routes/x"].target else {
        panic!()
    };
    assert_eq!((target.function.as_str(), target.alias.as_str()), ("hello", "beta"));
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_move_together() {
    let user = User::signed_in().await;
    let begun = user.run("rollout start hello=3 till --steps 5,50").await.ok();
    assert_eq!(begun.err, "5 % of the calls go to the new versions in default: hello v1 to v3, till v1 to v2\n");
    let shown = user.run("rollout show hello").await.ok().out;
    assert!(shown.contains("till v1 to v2; old: 1900 calls in this step, 2 failed"), "{shown}");
    let json = user.run("rollout show hello -o json").await.ok().json();
    assert_eq!((&json["functions"][0]["new_version"], &json["functions"][1]["function"]), (&3.into(), &"till".into()));
    user.run("rollout start --all").await.ok();
    assert!(user.fake.state().rollouts.contains_key("namespaces/default/functions/all"));
    for bad in ["rollout start", "rollout start hello --all", "rollout start hello=x", "rollout start hello 2 till"] {
        assert_eq!(user.run(bad).await.code, 2, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_begins_is_shown_and_ends() {
    let user = User::signed_in().await;
    user.fake.state().lagging = vec!["gateway-2".to_owned()];
    let begun = user.run("rollout start hello 2 --steps 5,50 --step-time 2m --step-calls 600").await.ok();
    assert_eq!(
        begun.err,
        "5 % of the calls of default/hello go to version 2, the others to version 1\n\
         gateways that have not said that they know, and will once they are reached: gateway-2\n"
    );
    let sent = user.fake.state().rollouts["namespaces/default/functions/hello"].clone();
    assert_eq!((sent.steps, sent.step_time.unwrap().seconds, sent.step_calls), (vec![5, 50], 120, 600));
    let shown = user.run("rollout show hello").await.ok().out;
    for line in [
        "1 of 2: 5% of the calls",
        "5% 50%",
        "1900 calls in this step, 2 failed",
        "100 calls in this step, 3 failed, 1 of them trapped, p99 12",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let json = user.run("rollout show hello -o json").await.ok().json();
    assert_eq!((&json["state"], &json["new_tally"]["p99_ms"]), (&"running".into(), &12.into()));
    let stopped = user.run("rollout stop hello --promote").await.ok();
    assert!(stopped.err.contains("from version 1 to 2: stopped, zoe ended it, promote true"), "{stopped:?}");
    assert_eq!(user.run("rollout show other").await.code, 3);
    for bad in
        ["rollout start hello --steps 0,5", "rollout start hello --steps 5,100", "rollout start hello --step-time x"]
    {
        assert_eq!(user.run(bad).await.code, 2, "{bad}");
    }
}
