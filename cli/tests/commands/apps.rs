//! `dunlin deploy` of an app: everything is looked at first, then made, then activated in one step.

use dunlin_proto::{ApiError, ErrorCode, v1};
use serde_json::json;

use crate::harness::User;

const MODULE: &[u8] = b"\0asm\x0d\0\x01\0and the rest";
const PAY: &str = "namespaces/default/functions/pay";
const MAIL: &str = "namespaces/default/functions/mail";
const MANIFEST: &str = "app = 'shop'\n\
    [functions.pay]\nsource = 'pay.wasm'\npublic = true\n\
    [functions.pay.build]\ncommand = 'echo noise && cp seed pay.wasm'\n\
    [functions.mail]\nsource = 'mail.wasm'\n\
    [[routes]]\nname = 'pay'\npath = '/pay/{id}'\nfunction = 'pay'\n\
    [[routes]]\nname = 'mail'\npath = '/mail'\nfunction = 'mail'\n";

/// A version that differs in something.
fn preview(version: u32, wider: bool) -> v1::DeployPreview {
    let difference = v1::Difference {
        subject: format!("functions/pay/versions/{version}"),
        field: "artifact".to_owned(),
        before: "sha256:1".to_owned(),
        after: "sha256:2".to_owned(),
    };
    let needs_allow_new_capabilities = wider;
    v1::DeployPreview { version, differences: vec![difference], needs_allow_new_capabilities, ..Default::default() }
}

/// Somebody with an app, of which the cluster knows nothing.
async fn user() -> User {
    let user = User::signed_in().await;
    user.file("seed", MODULE);
    user.file("mail.wasm", MODULE);
    user.file("dunlin.toml", MANIFEST);
    for name in [PAY, MAIL] {
        user.fake.state().previews.insert(name.to_owned(), preview(1, false));
    }
    user
}

/// An app that has been deployed, whose functions would change now.
async fn deployed() -> User {
    let user = user().await;
    user.run("deploy -q").await.ok();
    user.fake.state().activated.clear();
    user.fake.state().created.clear();
    user
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_looked_at_made_and_activated() {
    let user = user().await;
    let ran = user.run("deploy").await.ok();
    assert_eq!(ran.out, "FUNCTION  VERSION  WHAT\nmail      1        new\npay       1        new\n");
    assert!(ran.err.contains("noise\n") && ran.err.ends_with("deployed app shop: release 3\n"), "{}", ran.err);
    let state = user.fake.state();
    let [checked, activated] = state.activated.as_slice() else { panic!("{:?}", state.activated) };
    assert!(checked.validate_only && checked.functions.iter().all(|it| it.version == 0), "{checked:?}");
    assert_eq!((activated.name.as_str(), activated.routes.len()), ("namespaces/default/apps/shop", 2));
    assert_eq!(activated.routes[0].name, "namespaces/default/routes/pay");
    let versions: Vec<_> = activated.functions.iter().map(|it| (it.function.as_str(), it.version)).collect();
    assert_eq!(versions, [("mail", 1), ("pay", 1)]);
    assert!(state.created.iter().all(|it| it.hold_traffic && it.load && !it.dry_run), "{:?}", state.created);
    let public: Vec<_> = state.created.iter().map(|it| (it.parent.as_str(), it.public)).collect();
    assert_eq!(public, [(MAIL, None), (PAY, Some(true))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_same_gets_no_version() {
    let user = deployed().await;
    user.fake.state().previews.insert(PAY.to_owned(), v1::DeployPreview { version: 2, ..Default::default() });
    let json = user.run("deploy -o json").await.ok().json();
    assert_eq!((&json["app"], &json["release"]["number"]), (&json!("shop"), &json!(3)));
    let functions: Vec<_> = json["functions"].as_array().unwrap().iter().map(|it| it["is_new"].clone()).collect();
    assert_eq!((functions, &json["functions"][1]["version"]), (vec![json!(true), json!(false)], &json!(1)));
    let state = user.fake.state();
    assert_eq!(state.created.len(), 1);
    assert_eq!(state.activated[1].functions[1].version, 0, "it keeps its calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_makes_nothing() {
    let user = deployed().await;
    user.fake.state().previews.insert(PAY.to_owned(), preview(2, true));
    let ran = user.run("deploy --dry-run").await.ok();
    assert!(ran.out.contains("functions/pay/versions/2") && ran.out.contains("routes/mail"), "{}", ran.out);
    assert!(
        ran.err.contains("refused without --allow-new-capabilities") && ran.err.contains("before: pay"),
        "{}",
        ran.err
    );
    let json = user.run("deploy --dry-run -o json").await.ok().json();
    assert_eq!(json["needs_allow_new_capabilities"], json!(["pay"]));
    assert!(user.fake.state().created.is_empty() && user.fake.state().activated.iter().all(|it| it.validate_only));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_refused_is_refused_before_anything_is_made() {
    let user = deployed().await;
    user.fake.state().previews.insert(PAY.to_owned(), preview(2, true));
    let ran = user.run("deploy").await;
    assert!(ran.code == 7 && ran.err.contains("may reach more than those that have the calls: pay"), "{ran:?}");
    user.fake.state().app_refusal = Some(ApiError::new(ErrorCode::AlreadyExists, "the route pay conflicts"));
    let ran = user.run("deploy --allow-new-capabilities").await;
    assert!(ran.code == 7 && ran.err.contains("the route pay conflicts"), "{ran:?}");
    user.file("dunlin.toml", MANIFEST.replace("echo noise &&", "false &&"));
    let ran = user.run("deploy --allow-new-capabilities").await;
    assert!(ran.code == 1 && ran.err.contains("the build failed"), "{ran:?}");
    user.file("dunlin.toml", MANIFEST.replace("function = 'mail'", "function = 'male'"));
    let ran = user.run("deploy").await;
    assert!(ran.code == 2 && ran.err.contains("the manifest declares no function male"), "{ran:?}");
    assert!(user.fake.state().created.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_the_calls_leave_the_routes_for_later() {
    let user = deployed().await;
    for (flags, activations) in [("--canary 10", 2), ("--no-traffic", 1)] {
        user.fake.state().activated.clear();
        let ran = user.run(&format!("deploy {flags}")).await.ok();
        assert!(ran.err.contains("the routes are still as they were"), "{flags}: {}", ran.err);
        let state = user.fake.state();
        assert_eq!(state.activated.len(), activations, "{flags}");
        let last = state.activated.last().unwrap();
        assert!(last.validate_only || (last.keep_routes && last.canary_percent == Some(10)), "{flags}: {last:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_an_app_brings_its_routes() {
    let user = deployed().await;
    let ran = user.run("deploy --steps 5,25").await.ok();
    assert!(ran.err.contains("the routes change once the new versions have all calls"), "{}", ran.err);
    let state = user.fake.state();
    assert!(state.activated.iter().all(|it| it.validate_only), "{:?}", state.activated);
    let rollout = &state.rollouts[MAIL];
    assert_eq!((rollout.functions.len(), rollout.steps.as_slice(), &*rollout.app), (2, &[5, 25][..], "shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_function_of_an_app_goes_alone() {
    let user = user().await;
    let ran = user.run("deploy --only pay -e A=1").await.ok();
    assert!(ran.err.contains("deployed default/pay version 1"), "{}", ran.err);
    assert!(user.fake.state().activated.is_empty() && user.fake.state().created.len() == 1);
    let ran = user.run("deploy --only nothing").await;
    assert!(ran.code == 2 && ran.err.contains("its functions: mail, pay"), "{ran:?}");
    let ran = user.run("deploy -e A=1").await;
    assert!(ran.code == 2 && ran.err.contains("--env is about one function"), "{ran:?}");
    let built = user.run("build -o json").await.ok().json();
    assert_eq!((&built[0]["function"], &built[1]["file"]), (&json!("mail"), &json!("./pay.wasm")));
    let doctor = user.run("doctor").await;
    assert!(doctor.out.contains("function mail is described well"), "{doctor:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_with_routes_is_an_app_of_its_name() {
    let user = user().await;
    user.file("dunlin.toml", "name = 'mail'\nsource = 'mail.wasm'\nroutes = []\n");
    user.run("deploy").await.ok();
    let state = user.fake.state();
    assert_eq!(state.activated[1].name, "namespaces/default/apps/mail");
    assert!(!state.activated[1].keep_routes && state.activated[1].routes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_are_listed_and_shown() {
    let user = User::signed_in().await;
    assert_eq!(
        user.run("app ls").await.ok().out,
        "NAME  FUNCTIONS  ROUTES  RELEASE  WHAT             AGE\n\
         shop  mail,pay   1       2        deploy app shop  5m\n"
    );
    assert_eq!(
        user.run("app get shop").await.ok().out,
        "App:           shop\n\
         Namespace:     default\n\
         Functions:     mail, pay\n\
         Routes:        users\n\
         Last changed:  release 2 of default, 5m ago by ada: deploy app shop\n"
    );
    let json = user.run("app show shop -o json").await.ok().json();
    assert_eq!((&json["functions"], &json["release"]["number"]), (&json!(["mail", "pay"]), &json!(2)));
    assert_eq!(user.run("app list -o json").await.ok().json()[0]["routes"], json!(["users"]));
    assert_eq!(user.run("app show other").await.code, 3);
    assert_eq!(user.run("app show Shop").await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_no_rollout_can_take_are_refused_before_anything_is_made() {
    let user = user().await;
    for steps in ["5,3", "5,5", "0", "100"] {
        for command in ["deploy --steps", "rollout start pay --steps"] {
            let ran = user.run(&format!("{command} {steps}")).await;
            assert!(ran.code == 2 && ran.err.contains("--steps"), "{command} {steps}: {ran:?}");
        }
    }
    assert!(user.fake.state().created.is_empty() && user.fake.state().artifacts.is_empty());
}
