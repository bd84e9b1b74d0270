//! What an app's manifest says becomes true in one transaction, or nothing changes.

use std::{collections::BTreeMap, time::Duration};

use dunlin_proto::{ErrorCode, names::ReleaseName, v1};

use super::{Bench, config_version, conformance, deploy, function, namespace, new_version, number, refused};
use crate::{
    model::{Policy, RolloutRecord, RolloutState, RouteRecord, Share, Time},
    store::{Activated, Activation, AliasChange, Import, Move, NewRollout, NewVersion, Owner},
};

conformance!(
    an_app_is_activated_in_one_release_and_comes_back_with_it,
    an_app_is_shown_with_what_it_has_and_the_release_that_changed_it,
    the_same_again_changes_nothing,
    an_app_changes_its_own_routes_alone,
    what_is_refused_leaves_everything_as_it_was,
    a_check_changes_nothing_and_takes_functions_to_come,
    a_canary_of_an_app_puts_a_caller_on_one_side,
    routes_come_with_the_last_step_of_a_rollout,
    a_rollout_that_goes_back_forgets_its_routes,
    routes_that_do_not_fit_in_any_more_hold_no_rollout_up,
);

fn route(name: &str, path: &str, function: &str) -> RouteRecord {
    let target = v1::FunctionTarget { function: function.into(), ..Default::default() };
    let target = Some(v1::route::Target::Function(target));
    let wire = v1::Route { path: path.into(), target, ..Default::default() };
    let owner = Owner::App("till".parse().unwrap());
    RouteRecord {
        name: format!("namespaces/shop/routes/{name}").parse().unwrap(),
        spec: owner.mark(wire.try_into().unwrap()),
        creator: "zoe".into(),
        create_time: Time(1),
        update_time: Time(1),
    }
}

fn app(functions: &[(&str, u32)], routes: &[(&str, &str, &str)]) -> Activation {
    let version = |(name, version): &(&str, u32)| (name.parse().unwrap(), (*version > 0).then(|| number(*version)));
    Activation {
        app: "namespaces/shop/apps/till".parse().unwrap(),
        functions: functions.iter().map(version).collect::<BTreeMap<_, _>>(),
        routes: Some(routes.iter().map(|(name, path, function)| route(name, path, function)).collect()),
        canary: None,
        validate_only: false,
    }
}

/// A version without calls that lets anybody call its function once it has them.
async fn held(bench: &Bench, name: &str) {
    let policy = Policy { public: Some(true), direct: None };
    let held = NewVersion { activation: false, policy, ..new_version(&function("shop", name)) };
    bench.store.version_create(&held, None).await.unwrap();
}

async fn two_functions(bench: &Bench) {
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    for name in ["pay", "mail"] {
        deploy(bench, &function("shop", name)).await;
        held(bench, name).await;
    }
}

async fn traffic(bench: &Bench, name: &str) -> Vec<(u32, u32)> {
    let function = bench.store.function_fetch(&function("shop", name)).await.unwrap();
    function.traffic.iter().map(|Share(version, percent)| (version.get(), *percent)).collect()
}

async fn routes(bench: &Bench) -> Vec<String> {
    let routes = bench.store.route_list(&"shop".parse().unwrap(), "", 99).await.unwrap();
    routes.into_iter().map(|route| format!("{} {}", route.name.route, route.spec)).collect()
}

async fn newest(bench: &Bench) -> (u32, String) {
    let found = bench.store.release_list(&"shop".parse().unwrap(), i64::MAX, 1).await.unwrap();
    found.into_iter().next().map(|release| (release.number, release.cause)).unwrap_or_default()
}

fn lines(activated: &Activated) -> Vec<String> {
    let line = |it: &crate::releases::Difference| format!("{} {}: {} -> {}", it.subject, it.field, it.before, it.after);
    activated.differences.iter().map(line).collect()
}

async fn an_app_is_activated_in_one_release_and_comes_back_with_it(bench: &Bench) {
    two_functions(bench).await;
    let (before, (release, _)) = (config_version(bench).await, newest(bench).await);
    let wanted = app(&[("pay", 2), ("mail", 2)], &[("a", "/pay/{id}", "pay"), ("b", "/mail", "mail")]);
    let done = bench.store.app_activate(&wanted).await.unwrap();
    assert_eq!(done.release.as_ref().unwrap().number, release + 1);
    assert_eq!(
        (newest(bench).await, config_version(bench).await),
        ((release + 1, "deploy app till".into()), before + 1)
    );
    assert_eq!((traffic(bench, "pay").await, traffic(bench, "mail").await), (vec![(2, 100)], vec![(2, 100)]));
    assert!(bench.store.function_fetch(&function("shop", "pay")).await.unwrap().public, "its policy came along");
    let said = lines(&done);
    for expected in [
        "functions/pay traffic: v1=100 -> v2=100",
        "functions/mail public: false -> true",
        "routes/a path:  -> /pay/{id}",
        "routes/b app:  -> till",
    ] {
        assert!(said.iter().any(|line| line == expected), "{expected:?} is not in {said:?}");
    }
    // Without one of its routes, and back.
    bench.store.app_activate(&app(&[("pay", 2), ("mail", 1)], &[("b", "/mail", "mail")])).await.unwrap();
    assert_eq!((routes(bench).await, traffic(bench, "mail").await), (vec!["b /mail".to_owned()], vec![(1, 100)]));
    let back: ReleaseName = format!("namespaces/shop/releases/{}", release + 1).parse().unwrap();
    bench.store.release_restore(&back, None).await.unwrap();
    assert_eq!(
        (routes(bench).await, traffic(bench, "mail").await),
        (vec!["a /pay/{id}".into(), "b /mail".into()], vec![(2, 100)])
    );
    let found = bench.store.route_fetch(&"namespaces/shop/routes/a".parse().unwrap()).await.unwrap();
    assert_eq!(found.spec.app.unwrap().as_str(), "till", "it is the app's again");
}

async fn an_app_is_shown_with_what_it_has_and_the_release_that_changed_it(bench: &Bench) {
    two_functions(bench).await;
    let (shop, till) = ("shop".parse().unwrap(), "namespaces/shop/apps/till".parse().unwrap());
    assert!(bench.store.app_list(&shop).await.unwrap().is_empty());
    refused(bench.store.app_list(&"bank".parse().unwrap()).await, ErrorCode::NotFound);
    bench.store.app_activate(&app(&[("pay", 2)], &[("b", "/b", "pay"), ("a", "/a", "pay")])).await.unwrap();
    let shown = async || {
        let app = bench.store.app_fetch(&till).await.unwrap();
        assert_eq!(bench.store.app_list(&shop).await.unwrap(), std::slice::from_ref(&app));
        let functions: Vec<_> = app.functions.iter().map(ToString::to_string).collect();
        let routes: Vec<_> = app.routes.iter().map(ToString::to_string).collect();
        (functions.join(" "), routes.join(" "), app.release.map(|release| (release.number, release.cause)))
    };
    let first = newest(bench).await;
    assert_eq!(shown().await, ("pay".to_owned(), "a b".to_owned(), Some(first.clone())));
    // What its routes do not name is not its own, and changes nothing of it.
    bench.store.app_activate(&Activation { routes: None, ..app(&[("mail", 2)], &[]) }).await.unwrap();
    assert_eq!((newest(bench).await.0, shown().await.2), (first.0 + 1, Some(first)));
    bench.store.function_roll_back(&function("shop", "pay"), Some(number(1)), None, "").await.unwrap();
    assert_eq!(shown().await.2, Some((newest(bench).await.0, "roll back pay@1".to_owned())));
    bench.store.app_activate(&app(&[], &[])).await.unwrap();
    assert!(bench.store.app_list(&shop).await.unwrap().is_empty());
    refused(bench.store.app_fetch(&till).await, ErrorCode::NotFound);
}

async fn the_same_again_changes_nothing(bench: &Bench) {
    two_functions(bench).await;
    let wanted = app(&[("pay", 2), ("mail", 0)], &[("a", "/a", "pay")]);
    bench.store.app_activate(&wanted).await.unwrap();
    let before = (newest(bench).await, config_version(bench).await);
    let again = bench.store.app_activate(&wanted).await.unwrap();
    assert_eq!((lines(&again).len(), again.release.unwrap().number), (0, before.0.0));
    assert_eq!((newest(bench).await, config_version(bench).await), before);
    assert_eq!(traffic(bench, "mail").await, [(1, 100)], "without a version, its calls stay as they are");
}

async fn an_app_changes_its_own_routes_alone(bench: &Bench) {
    let store = &bench.store;
    two_functions(bench).await;
    let alone = |name: &str, path: &str| {
        let mut alone = route(name, path, "pay");
        alone.spec.app = None;
        alone
    };
    store.route_put(&alone("mine", "/mine"), false).await.unwrap();
    let mut imported = alone("pets", "/pets");
    imported.spec = Owner::Api("pets".parse().unwrap()).mark(imported.spec);
    let import = Import {
        namespace: "shop".parse().unwrap(),
        api: "pets".parse().unwrap(),
        routes: vec![imported],
        prune: false,
        validate_only: false,
        creator: String::new(),
    };
    store.routes_import(&import).await.unwrap();
    store.app_activate(&app(&[("pay", 2)], &[("a", "/a", "pay"), ("b", "/b", "pay")])).await.unwrap();
    // A route may take the path of one that goes in the same step.
    store.app_activate(&app(&[("pay", 2)], &[("c", "/a", "pay")])).await.unwrap();
    assert_eq!(routes(bench).await, ["c /a", "mine /mine", "pets /pets"]);
    let kept = Activation { routes: None, ..app(&[("pay", 1)], &[]) };
    store.app_activate(&kept).await.unwrap();
    assert_eq!((routes(bench).await.len(), traffic(bench, "pay").await), (3, vec![(1, 100)]));
    let message = refused(
        store.routes_import(&Import { routes: vec![alone("c", "/c")], ..import }).await,
        ErrorCode::AlreadyExists,
    );
    assert!(message.contains("belongs to the app till"), "{message}");
}

async fn what_is_refused_leaves_everything_as_it_was(bench: &Bench) {
    two_functions(bench).await;
    let mut alone = route("mine", "/users/{id}", "pay");
    alone.spec.app = None;
    bench.store.route_put(&alone, false).await.unwrap();
    bench.store.app_activate(&app(&[], &[("a", "/a", "pay")])).await.unwrap();
    let before = (config_version(bench).await, newest(bench).await, routes(bench).await);
    let both = [("pay", 2), ("mail", 2)];
    for (wanted, code, words) in [
        (
            app(&both, &[("a", "/a", "pay"), ("b", "/users/{name}", "mail")]),
            ErrorCode::AlreadyExists,
            ["route b (/users/{name})", "route mine (/users/{id})"],
        ),
        (app(&both, &[("mine", "/m", "pay")]), ErrorCode::AlreadyExists, ["route mine", "was put alone; the app till"]),
        (app(&both, &[("b", "/b", "nothing")]), ErrorCode::NotFound, ["route b: ", "nothing"]),
        (app(&both, &[("b", "/b", "pay"), ("b", "/c", "pay")]), ErrorCode::InvalidArgument, ["route b", "twice"]),
        (app(&[("pay", 2), ("mail", 9)], &[]), ErrorCode::NotFound, ["mail", "versions/9"]),
        (app(&[("pay", 2), ("nothing", 0)], &[]), ErrorCode::NotFound, ["function", "nothing"]),
    ] {
        let message = refused(bench.store.app_activate(&wanted).await, code);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert_eq!((config_version(bench).await, newest(bench).await, routes(bench).await), before);
        assert_eq!((traffic(bench, "pay").await, traffic(bench, "mail").await), (vec![(1, 100)], vec![(1, 100)]));
    }
    let nowhere = Activation { app: "namespaces/none/apps/till".parse().unwrap(), ..app(&[], &[]) };
    refused(bench.store.app_activate(&nowhere).await, ErrorCode::NotFound);
}

async fn a_check_changes_nothing_and_takes_functions_to_come(bench: &Bench) {
    two_functions(bench).await;
    let before = (config_version(bench).await, newest(bench).await);
    let wanted = app(&[("pay", 2), ("news", 0)], &[("a", "/a", "news"), ("b", "/b", "pay")]);
    let checked = bench.store.app_activate(&Activation { validate_only: true, ..wanted.clone() }).await.unwrap();
    assert!(checked.release.is_none());
    let said = lines(&checked);
    assert!(said.iter().any(|line| line == "routes/a target:  -> function news"), "{said:?}");
    assert!(said.iter().any(|line| line == "functions/pay traffic: v1=100 -> v2=100"), "{said:?}");
    assert_eq!((config_version(bench).await, newest(bench).await), before);
    assert_eq!((routes(bench).await, traffic(bench, "pay").await), (vec![], vec![(1, 100)]));
    refused(bench.store.app_activate(&wanted).await, ErrorCode::NotFound);
    let unknown = Activation { validate_only: true, ..app(&[("pay", 0)], &[("a", "/a", "news")]) };
    refused(bench.store.app_activate(&unknown).await, ErrorCode::NotFound);
}

async fn a_canary_of_an_app_puts_a_caller_on_one_side(bench: &Bench) {
    two_functions(bench).await;
    held(bench, "news").await;
    let canary = |functions| Activation { canary: Some(10), routes: None, ..app(functions, &[]) };
    bench.store.app_activate(&canary(&[("pay", 2), ("mail", 2), ("news", 1)])).await.unwrap();
    assert_eq!(traffic(bench, "pay").await, [(1, 90), (2, 10)]);
    assert_eq!(traffic(bench, "news").await, [(1, 100)], "the first version of all");
    let seed = async |name| bench.store.function_fetch(&function("shop", name)).await.unwrap().seed;
    assert!(seed("pay").await.is_some() && seed("pay").await == seed("mail").await);
    held(bench, "pay").await;
    let message =
        refused(bench.store.app_activate(&canary(&[("pay", 3), ("mail", 0)])).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("divided already"), "{message}");
    bench.store.app_activate(&app(&[("pay", 3), ("mail", 2)], &[])).await.unwrap();
    assert_eq!((traffic(bench, "pay").await, traffic(bench, "mail").await), (vec![(3, 100)], vec![(2, 100)]));
    let live = function("shop", "pay").alias("live".parse().unwrap());
    let shares = vec![Share(number(1), 50), Share(number(3), 50)];
    bench.store.alias_set(&live, "", &AliasChange { shares, sticky: None }).await.unwrap();
    assert_eq!(seed("pay").await, None, "a division by hand has its own places");
}

fn rollout(routes: &[(&str, &str, &str)]) -> NewRollout {
    let routes = routes.iter().map(|(name, path, function)| route(name, path, function)).collect();
    NewRollout {
        namespace: "shop".parse().unwrap(),
        targets: vec![(function("shop", "pay"), None), (function("shop", "mail"), None)],
        steps: vec![50],
        step_time: Duration::from_secs(60),
        step_calls: 500,
        creator: "zoe".to_owned(),
        routes: Some(("till".parse().unwrap(), routes)),
    }
}

/// A rollout of both functions which brings a route and takes another one away.
async fn begun(bench: &Bench) -> RolloutRecord {
    two_functions(bench).await;
    bench.store.app_activate(&app(&[], &[("a", "/a", "pay")])).await.unwrap();
    let rollout = bench.store.rollout_start(&rollout(&[("b", "/b", "mail")])).await.unwrap();
    assert_eq!(routes(bench).await, ["a /a"], "routes wait");
    let found = bench.store.rollout_running().await.unwrap();
    assert_eq!(found[0].app.as_ref().unwrap().as_str(), "till");
    rollout
}

async fn left(bench: &Bench) -> usize {
    sqlx::query("SELECT rollout FROM rollout_routes").fetch_all(&bench.store.pool).await.unwrap().len()
}

async fn routes_come_with_the_last_step_of_a_rollout(bench: &Bench) {
    let rollout = begun(bench).await;
    let ((release, _), before) = (newest(bench).await, config_version(bench).await);
    let ended = bench.store.rollout_move(&rollout, &Move::Advance).await.unwrap().unwrap();
    assert_eq!((ended.state, routes(bench).await), (RolloutState::Promoted, vec!["b /b".to_owned()]));
    assert_eq!(
        (newest(bench).await, config_version(bench).await),
        ((release + 1, "promote mail@2, pay@2".into()), before + 1)
    );
    let made = bench.store.route_fetch(&"namespaces/shop/routes/b".parse().unwrap()).await.unwrap();
    assert_eq!((made.spec.app.unwrap().as_str(), &*made.creator), ("till", "zoe"));
    assert_eq!((traffic(bench, "pay").await, left(bench).await), (vec![(2, 100)], 0));
    bench.store.release_restore(&format!("namespaces/shop/releases/{release}").parse().unwrap(), None).await.unwrap();
    assert_eq!(routes(bench).await, ["a /a"]);
}

async fn a_rollout_that_goes_back_forgets_its_routes(bench: &Bench) {
    let rollout = begun(bench).await;
    let back = Move::Back(RolloutState::Back, "it was worse".to_owned());
    bench.store.rollout_move(&rollout, &back).await.unwrap();
    assert_eq!((routes(bench).await, left(bench).await), (vec!["a /a".to_owned()], 0));
    // Whoever gives the app's versions their calls meanwhile ends it, too.
    let rollout = bench.store.rollout_start(&self::rollout(&[])).await.unwrap();
    bench.store.app_activate(&app(&[("pay", 2), ("mail", 2)], &[("c", "/c", "pay")])).await.unwrap();
    let over = bench.store.rollout_move(&rollout, &Move::Advance).await.unwrap().unwrap();
    assert_eq!((over.state, routes(bench).await), (RolloutState::Superseded, vec!["c /c".to_owned()]));
    assert_eq!(left(bench).await, 0);
}

async fn routes_that_do_not_fit_in_any_more_hold_no_rollout_up(bench: &Bench) {
    let begun = begun(bench).await;
    let mut alone = route("mine", "/b", "pay");
    alone.spec.app = None;
    bench.store.route_put(&alone, false).await.unwrap();
    let promote = Move::Promote(RolloutState::Stopped, "zoe ended it".to_owned());
    let ended = bench.store.rollout_move(&begun, &promote).await.unwrap().unwrap();
    assert!(
        ended.reason.starts_with("zoe ended it; the app till keeps its routes: the route b (/b) conflicts"),
        "{ended:?}"
    );
    assert_eq!(
        (traffic(bench, "pay").await, routes(bench).await),
        (vec![(2, 100)], vec!["a /a".into(), "mine /b".into()])
    );
    // What could not be there now does not begin.
    held(bench, "pay").await;
    held(bench, "mail").await;
    let message = refused(bench.store.rollout_start(&rollout(&[("b", "/b", "mail")])).await, ErrorCode::AlreadyExists);
    assert!(message.contains("route mine (/b)"), "{message}");
    assert_eq!((traffic(bench, "pay").await, left(bench).await), (vec![(2, 100)], 0));
}
