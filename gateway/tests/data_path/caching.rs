//! Routes that store answers, from outside: what is answered without the function, and who never gets what others were told.

use std::time::Duration;

use dunlin_proto::{
    internal::v1::{CachePurges, ConfigDelta, OwnedDomain, OwnedDomains, PurgePosition, TrafficShare},
    v1::{self, route::Target},
};

use crate::harness::{Answer, Cluster, KEYS, PRIVATE, PUBLIC, Plan, connect, eventually, get, h1_on, key, send};

const FRESH: (&str, &str) = ("x-say", "cache-control: max-age=60");

fn route(name: &str, path: &str, function: &str) -> v1::Route {
    let target = v1::FunctionTarget { function: function.into(), ..Default::default() };
    v1::Route {
        name: format!("namespaces/shop/routes/{name}"),
        path: path.into(),
        target: Some(Target::Function(target)),
        cache: true,
        ..Default::default()
    }
}

/// A cluster that serves these routes of `shop`, which owns `shop.example`; its public function is version 1 alone.
async fn with(routes: Vec<v1::Route>) -> Cluster {
    let cluster = Cluster::with(Plan::default()).await;
    // The first call may wait for a session.
    cluster.call("GET", "/", &[], "").await;
    let domain = OwnedDomain { domain: "shop.example".into(), namespace: "shop".into() };
    let domains = Some(OwnedDomains { domains: vec![domain] });
    let functions = cluster.scheduler.config.functions.iter().cloned().map(|mut function| {
        function.traffic = vec![TrafficShare { version: 1, percent: 100 }];
        function
    });
    let functions = functions.collect();
    let delta = ConfigDelta { base_version: 7, version: 8, functions, routes, domains, ..Default::default() };
    apply(&cluster, delta).await;
    cluster
}

async fn all() -> Cluster {
    with(vec![route("all", "/{path*}", PUBLIC)]).await
}

/// Sends a change, and waits until the gateway has it.
async fn apply(cluster: &Cluster, delta: ConfigDelta) {
    let version = delta.version;
    cluster.scheduler.deltas.send(delta).unwrap();
    eventually("the change", async || {
        get(cluster.functions(), "/.well-known/dunlin/health").await.json()["config_version"] == version
    })
    .await;
}

/// Asks on the namespace's own domain.
async fn ask(cluster: &Cluster, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = [("host", "shop.example")].into_iter().chain(headers.iter().copied()).collect();
    send(cluster.functions(), method, path, &headers, "").await
}

fn status(answer: &Answer) -> String {
    answer.header("cache-status")
}

/// How many calls the function had.
fn calls(cluster: &Cluster) -> usize {
    cluster.workers[0].begins().len()
}

#[tokio::test]
async fn an_answer_is_used_again_and_says_so() {
    let cluster = all().await;
    let first = ask(&cluster, "GET", "/say?a", &[FRESH]).await;
    assert_eq!((first.status, status(&first).as_str()), (200, "dunlin; fwd=uri-miss; stored; ttl=60"));
    assert!(!first.header("server-timing").is_empty() && first.header("age").is_empty(), "{first:?}");
    let second = ask(&cluster, "GET", "/say?a", &[]).await;
    assert_eq!((second.text(), second.header("cache-control")), (first.text(), "max-age=60".to_owned()));
    assert!(status(&second).starts_with("dunlin; hit; ttl="), "{second:?}");
    assert!(second.header("age").parse::<u64>().unwrap() < 20, "{second:?}");
    assert!(second.header("server-timing").is_empty(), "nobody ran: {second:?}");
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(second.headers.get_all("x-request-id").iter().count(), 1);
    let head = ask(&cluster, "HEAD", "/say?a", &[]).await;
    assert_eq!((head.body.len(), head.header("content-length")), (0, first.body.len().to_string()));
    let other = ask(&cluster, "GET", "/say?b", &[]).await;
    assert_eq!(status(&other), "dunlin; fwd=uri-miss", "nothing says for how long");
    // Below the namespace on a shared host is another address; there it is stored once more.
    let shared = send(cluster.functions(), "GET", "/shop/say?a", &[FRESH], "").await;
    assert!(status(&shared).starts_with("dunlin; fwd=uri-miss; stored"), "{shared:?}");
    assert!(status(&send(cluster.functions(), "GET", "/shop/say?a", &[FRESH], "").await).contains("hit"));
}

#[tokio::test]
async fn what_the_function_forbids_is_not_stored() {
    let cluster = all().await;
    for (path, say) in [
        ("/say/no-store", "cache-control: no-store, max-age=60"),
        ("/say/private", "cache-control: private, max-age=60"),
        ("/say/cookie", "cache-control: max-age=60, public|set-cookie: a=b"),
        ("/say/star", "cache-control: max-age=60|vary: *"),
        ("/say/address", "cache-control: max-age=60|vary: x-forwarded-for"),
    ] {
        for _ in 0..2 {
            let answer = ask(&cluster, "GET", path, &[("x-say", say)]).await;
            assert_eq!(status(&answer), "dunlin; fwd=uri-miss", "{say}");
        }
    }
    // Kept until the end of time, and never used: requests for parts, with bodies, and by other methods.
    ask(&cluster, "GET", "/say/kept", &[FRESH]).await;
    let range = ask(&cluster, "GET", "/say/kept", &[FRESH, ("range", "bytes=0-1")]).await;
    assert_eq!(status(&range), "dunlin; fwd=bypass");
    let body = send(cluster.functions(), "GET", "/say/kept", &[("host", "shop.example"), FRESH], "body").await;
    assert_eq!(status(&body), "dunlin; fwd=bypass");
    assert_eq!(status(&ask(&cluster, "OPTIONS", "/say/kept", &[FRESH]).await), "dunlin; fwd=method");
    assert!(status(&ask(&cluster, "GET", "/say/kept", &[]).await).starts_with("dunlin; hit"));
}

#[tokio::test]
async fn callers_get_the_answer_for_their_headers() {
    let cluster = all().await;
    let say = ("x-say", "cache-control: max-age=60|vary: accept-language");
    let of = async |language| ask(&cluster, "GET", "/say", &[say, ("accept-language", language)]).await;
    let german = of("de").await;
    let english = of("en").await;
    assert_eq!(status(&english), "dunlin; fwd=vary-miss; stored; ttl=60");
    assert_eq!((of("de").await.text(), of("en").await.text()), (german.text(), english.text()));
    assert_ne!(german.text(), english.text());
}

#[tokio::test]
async fn what_one_caller_is_told_others_do_not_get() {
    let cluster = with(vec![route("all", "/{path*}", PUBLIC), route("closed", "/say/closed", PRIVATE)]).await;
    let key = key(KEYS[0]);
    let of_cookies = [("cookie", "session=1"), ("cookie", "dunlin-caller=1; session=1")];
    for (number, credential) in
        [("authorization", "Bearer mine"), ("x-api-key", "mine")].into_iter().chain(of_cookies).enumerate()
    {
        let path = format!("/say/{number}");
        let answer = ask(&cluster, "GET", &path, &[FRESH, credential]).await;
        assert_eq!(status(&answer), "dunlin; fwd=uri-miss", "{credential:?}");
        let public = ("x-say", "cache-control: public, max-age=60");
        let answer = ask(&cluster, "GET", &path, &[public, credential]).await;
        assert_eq!(status(&answer), "dunlin; fwd=uri-miss; stored; ttl=60", "{credential:?}");
        assert!(status(&ask(&cluster, "GET", &path, &[]).await).starts_with("dunlin; hit"));
    }
    let divided = ask(&cluster, "GET", "/say/divided", &[FRESH, ("cookie", "dunlin-caller=1")]).await;
    assert_eq!(status(&divided), "dunlin; fwd=uri-miss; stored; ttl=60", "it says nothing of who calls");
    // What is stored is for those alone who may call.
    let public = ("x-say", "cache-control: public, max-age=60");
    assert_eq!(ask(&cluster, "GET", "/say/closed", &[public, ("x-api-key", &key)]).await.status, 200);
    assert_eq!(ask(&cluster, "GET", "/say/closed", &[]).await.status, 401);
    assert!(status(&ask(&cluster, "GET", "/say/closed", &[("x-api-key", &key)]).await).starts_with("dunlin; hit"));
}

#[tokio::test]
async fn requests_say_what_they_take() {
    let cluster = all().await;
    let say = [("x-say", "cache-control: max-age=60|etag: \"a\"")];
    let with = async |name, value| ask(&cluster, "GET", "/say", &[say[0], (name, value)]).await;
    let nothing = with("cache-control", "only-if-cached").await;
    assert_eq!((nothing.status, nothing.code().as_str()), (504, "not_found"));
    assert_eq!(status(&with("cache-control", "no-store").await), "dunlin; fwd=uri-miss");
    let first = with("if-none-match", "\"other\"").await;
    assert_eq!(status(&first), "dunlin; fwd=uri-miss; stored; ttl=60");
    assert_eq!(with("cache-control", "only-if-cached").await.text(), first.text());
    let known = with("if-none-match", "\"b\", W/\"a\"").await;
    assert_eq!((known.status, known.body.len(), known.header("etag").as_str()), (304, 0, "\"a\""));
    assert!(status(&known).starts_with("dunlin; hit"), "{known:?}");
    let confirmed = with("cache-control", "no-cache").await;
    assert_eq!((confirmed.text(), confirmed.header("x-confirmed")), (first.text(), "yes".to_owned()));
    assert_eq!(status(&confirmed), "dunlin; fwd=request; fwd-status=304; stored; ttl=60");
    // What a caller has already is stored for others all the same.
    let known = ask(&cluster, "GET", "/say/known", &[say[0], ("if-none-match", "\"a\"")]).await;
    assert_eq!((known.status, status(&known)), (304, "dunlin; fwd=uri-miss; stored; ttl=60".to_owned()));
    eventually("the whole answer", async || {
        status(&ask(&cluster, "GET", "/say/known", &[("cache-control", "only-if-cached")]).await).contains("hit")
    })
    .await;
}

#[tokio::test]
async fn what_a_caller_has_compressed_has_the_tag_and_the_vary_of_the_whole_answer() {
    let cors = Some(v1::CorsPolicy { allow_origins: vec!["https://a.example".into()], ..Default::default() });
    let cluster = with(vec![v1::Route { compress: true, cors, ..route("all", "/{path*}", PUBLIC) }]).await;
    let say = [("x-say", "cache-control: max-age=60|etag: \"a\""), ("accept-encoding", "gzip"), ("x-fill", "300")];
    let told = |answer: &Answer| {
        let vary: Vec<_> = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
        (answer.header("etag"), vary.join(", "))
    };
    let whole = ask(&cluster, "GET", "/say/z", &say).await;
    assert_eq!((whole.status, whole.header("content-encoding").as_str()), (200, "gzip"), "{whole:?}");
    assert_eq!(told(&whole), ("W/\"a\"".to_owned(), "origin, accept-encoding".to_owned()));
    let known = ask(&cluster, "GET", "/say/z", &[say[0], say[1], say[2], ("if-none-match", "W/\"a\"")]).await;
    assert_eq!((known.status, told(&known)), (304, told(&whole)));
    let head = ask(&cluster, "HEAD", "/say/z", &say).await;
    assert_eq!((head.status, told(&head)), (200, told(&whole)));
}

#[tokio::test]
async fn a_stale_answer_is_confirmed_or_replaced() {
    let cluster = all().await;
    let say = ("x-say", "cache-control: no-cache|etag: \"a\"|x-a: 1");
    let first = ask(&cluster, "GET", "/say", &[say]).await;
    let say = ("x-say", "cache-control: no-cache|etag: \"a\"|x-a: 2|x-a: 3");
    let second = ask(&cluster, "GET", "/say", &[say, ("if-none-match", "\"mine\"")]).await;
    assert_eq!((second.status, second.text()), (200, first.text()));
    assert_eq!(second.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(status(&second), "dunlin; fwd=stale; fwd-status=304; stored; ttl=0");
    let third = ask(&cluster, "GET", "/say", &[("x-say", "cache-control: no-cache|etag: \"b\"")]).await;
    assert_ne!(third.text(), first.text());
    assert_eq!(status(&third), "dunlin; fwd=stale; stored; ttl=0");
}

#[tokio::test]
async fn a_stale_answer_is_used_while_a_new_one_is_asked_for_and_where_there_is_none() {
    let cluster = all().await;
    let say = ("x-say", "cache-control: max-age=0, stale-while-revalidate=600");
    let first = ask(&cluster, "GET", "/say/while", &[say]).await;
    let second = ask(&cluster, "HEAD", "/say/while", &[FRESH]).await;
    assert!(status(&second).starts_with("dunlin; hit; ttl="), "{second:?}");
    eventually("the new answer", async || {
        let answer = ask(&cluster, "GET", "/say/while", &[("cache-control", "only-if-cached")]).await;
        answer.status == 200 && answer.text() != first.text()
    })
    .await;
    let say = ("x-say", "cache-control: max-age=0, stale-if-error=600");
    let first = ask(&cluster, "GET", "/say/error", &[say]).await;
    let failed = ask(&cluster, "GET", "/say/error", &[say, ("x-status", "503")]).await;
    assert_eq!((failed.status, failed.text()), (200, first.text()));
    assert!(status(&failed).starts_with("dunlin; fwd=stale; fwd-status=503; ttl="), "{failed:?}");
    cluster.workers[0].seen.broken.send_replace(true);
    let failed = ask(&cluster, "GET", "/say/error", &[say]).await;
    assert_eq!((failed.status, failed.text()), (200, first.text()));
    assert!(status(&failed).ends_with("detail=stale-if-error"), "{failed:?}");
}

#[tokio::test]
async fn a_change_forgets_what_is_stored_unless_it_fails() {
    let mut write = route("write", "/{path*}", PUBLIC);
    (write.methods, write.cache) = (vec!["POST".into(), "DELETE".into()], false);
    let cluster = with(vec![route("all", "/{path*}", PUBLIC), write]).await;
    let stored = async || status(&ask(&cluster, "GET", "/say/a", &[FRESH]).await);
    stored().await;
    ask(&cluster, "POST", "/say/a", &[("x-status", "400")]).await;
    ask(&cluster, "POST", "/say/b", &[]).await;
    assert!(stored().await.starts_with("dunlin; hit"));
    let deleted = ask(&cluster, "DELETE", "/say/a", &[("x-status", "204")]).await;
    assert_eq!((deleted.status, status(&deleted).as_str()), (204, ""), "this route stores nothing");
    assert_eq!(stored().await, "dunlin; fwd=uri-miss; stored; ttl=60");
    // Another version, or another route, has nothing yet.
    let mut function = cluster.scheduler.config.functions.iter().find(|it| it.function == PUBLIC).unwrap().clone();
    function.traffic = vec![TrafficShare { version: 2, percent: 100 }];
    apply(&cluster, ConfigDelta { base_version: 8, version: 9, functions: vec![function], ..Default::default() }).await;
    assert_eq!(stored().await, "dunlin; fwd=uri-miss; stored; ttl=60");
    assert!(stored().await.starts_with("dunlin; hit"));
    let routes = vec![v1::Route { compress: true, ..route("all", "/{path*}", PUBLIC) }];
    apply(&cluster, ConfigDelta { base_version: 9, version: 10, routes, ..Default::default() }).await;
    assert_eq!(stored().await, "dunlin; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn of_many_at_once_one_asks_and_the_others_get_its_answer() {
    let cluster = all().await;
    let before = calls(&cluster);
    let waiting = [FRESH, ("x-wait", "1")];
    let many = futures::future::join_all((0..20).map(|_| ask(&cluster, "GET", "/say/many", &waiting)));
    let go = async {
        eventually("the first", async || calls(&cluster) > before).await;
        // The others have come by now, or find what is stored.
        tokio::task::yield_now().await;
        cluster.workers[0].seen.go.send_replace(true);
    };
    let (answers, ()) = tokio::join!(many, go);
    assert_eq!(calls(&cluster), before + 1);
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.text() == answers[0].text()), "{answers:?}");
    let stored = answers.iter().filter(|answer| status(answer) == "dunlin; fwd=uri-miss; stored; ttl=60");
    assert_eq!(stored.count(), 1);
}

#[tokio::test]
async fn nobody_waits_for_what_is_not_for_others() {
    let cluster = all().await;
    let before = calls(&cluster);
    // The head says that it is for its caller alone; its body takes its time.
    let private = [("x-say", "cache-control: private"), ("x-wait-body", "1")];
    let many = futures::future::join_all((0..5).map(|_| ask(&cluster, "GET", "/say/private", &private)));
    let go = async {
        eventually("all calls", async || calls(&cluster) == before + 5).await;
        cluster.workers[0].seen.go.send_replace(true);
    };
    let (answers, ()) = tokio::join!(many, go);
    assert!(answers.iter().all(|answer| status(answer) == "dunlin; fwd=uri-miss"), "{answers:?}");
}

#[tokio::test]
async fn who_leaves_or_reads_slowly_keeps_nobody_waiting() {
    let cluster = all().await;
    let before = calls(&cluster);
    let request = http::Request::get("/say/left").header("host", "shop.example").header(FRESH.0, FRESH.1);
    let request = request.header("x-wait", "1").body(String::new()).unwrap();
    let (leave, leaves) = tokio::sync::oneshot::channel::<()>();
    let stream = connect(cluster.functions()).await;
    let leaving = async {
        tokio::select! {
            answer = h1_on(stream, request) => Some(answer),
            _ = leaves => None,
        }
    };
    let follower = async {
        eventually("the first", async || calls(&cluster) > before).await;
        let leaving = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            leave.send(()).unwrap();
        };
        tokio::join!(ask(&cluster, "GET", "/say/left", &[FRESH]), leaving).0
    };
    let (left, answer) = tokio::join!(leaving, follower);
    assert!(left.is_none(), "it left without an answer");
    assert_eq!((answer.status, status(&answer)), (200, "dunlin; fwd=uri-miss; stored; ttl=60".to_owned()));
    // An answer whose body does not come is waited for a second, and no longer.
    let slow = [FRESH, ("x-wait-body", "1")];
    let before = calls(&cluster);
    let first = ask(&cluster, "GET", "/say/slow", &slow);
    let second = async {
        eventually("the first", async || calls(&cluster) > before).await;
        let answer = ask(&cluster, "GET", "/say/slow", &[FRESH]).await;
        cluster.workers[0].seen.go.send_replace(true);
        answer
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.status, second.status), (200, 200));
    assert_ne!(first.text(), second.text());
}

#[tokio::test]
async fn a_purge_forgets_what_it_names_and_is_acknowledged() {
    use v1::purge_cache_request::What;
    let cluster = all().await;
    for path in ["/say/a", "/say/b?x"] {
        ask(&cluster, "GET", path, &[FRESH]).await;
    }
    let stored = async |path| {
        let answer = ask(&cluster, "GET", path, &[("cache-control", "only-if-cached")]).await;
        answer.status == 200
    };
    let purge = async |sequence, all, what: Option<What>| {
        let position = PurgePosition { epoch: 3, sequence };
        let parent = "namespaces/shop".to_owned();
        let purges = what.into_iter().map(|what| v1::PurgeCacheRequest { parent: parent.clone(), what: Some(what) });
        let purges = CachePurges { position: Some(position), all, purges: purges.collect() };
        cluster.scheduler.purges.send(purges).unwrap();
        eventually("its word", async || {
            cluster.scheduler.seen.loads.lock().unwrap().last().is_some_and(|load| load.purged == Some(position))
        })
        .await;
    };
    purge(1, false, Some(What::Path("/say/b".into()))).await;
    assert!(stored("/say/a").await && !stored("/say/b?x").await);
    purge(2, false, Some(What::Prefix("/say/b".into()))).await;
    assert!(stored("/say/a").await);
    purge(3, true, None).await;
    assert!(!stored("/say/a").await);
    assert_eq!(cluster.scheduler.seen.hellos.lock().unwrap()[0].purged, Some(PurgePosition::default()));
}
