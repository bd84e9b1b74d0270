//! From a caller's request to what the function is given, and back.

use std::collections::HashSet;

use dunlin_proto::internal::v1::{VersionRef, WatchedVersions};

use http::Request;
use http_body_util::Empty;

use crate::harness::{Authority, Cluster, Plan, connect_as_proxy, eventually, get, h1_on, h2, raw, send};

#[tokio::test]
async fn a_function_is_called_by_its_path() {
    let cluster = Cluster::start().await;
    // The first one may wait for a session.
    cluster.call("GET", "/", &[], "").await;
    let headers =
        [("x-request-id", "mine-1"), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    let answer = cluster.call("POST", "/a//b%2fc?x=1&y=/", &headers, "hello").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let given = answer.json();
    assert_eq!(
        (&given["method"], &given["path"], &given["base"]),
        (&"POST".into(), &"/a//b%2fc?x=1&y=/".into(), &"/shop/open".into())
    );
    assert_eq!(
        (&given["authority"], &given["remote"], &given["body"]),
        (&"functions.test".into(), &"127.0.0.1".into(), &"hello".into())
    );
    assert_eq!(given["request_id"], "mine-1");
    assert_eq!(answer.header("x-request-id"), "mine-1");
    let id = answer.header("dunlin-request-id");
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    let sent = |name: &str| {
        let headers = given["headers"].as_array().unwrap();
        headers.iter().find(|header| header[0] == name).map(|header| header[1].as_str().unwrap().to_owned())
    };
    assert_eq!(sent("x-request-id"), Some(id));
    assert_eq!(sent("traceparent").as_deref(), Some(headers[1].1));
    assert_eq!(
        (sent("x-forwarded-for").as_deref(), sent("x-forwarded-proto").as_deref()),
        (Some("127.0.0.1"), Some("http"))
    );
    // A short answer's cost is in its head: the worker's queue and the gateway's, and what the worker measured.
    let timing = answer.header("server-timing");
    assert!(
        timing.ends_with("start;dur=2.000, run;dur=3.000, cpu;dur=4.000") && timing.starts_with("queue;dur="),
        "{timing}"
    );
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
}

#[tokio::test]
async fn the_same_over_http_2() {
    let cluster = Cluster::start().await;
    let uri = "http://functions.test/shop/open/x?y";
    let answer = h2(cluster.functions(), Request::get(uri).body(Empty::<bytes::Bytes>::new()).unwrap()).await;
    assert_eq!(
        (answer.status, &answer.json()["path"], &answer.json()["authority"]),
        (200, &"/x?y".into(), &"functions.test".into())
    );
}

#[tokio::test]
async fn calls_divide_over_versions() {
    let cluster = Cluster::start().await;
    let mut seen = HashSet::new();
    for _ in 0..50 {
        seen.insert(cluster.call("GET", "/", &[], "").await.json()["version"].as_u64());
    }
    assert_eq!(seen, HashSet::from([Some(1), Some(2)]));
}

#[tokio::test]
async fn a_caller_stays_on_its_version() {
    let cluster = Cluster::start().await;
    let mut versions = HashSet::new();
    for user in 0..20 {
        let (name, mut of_user) = (format!("user-{user}"), HashSet::new());
        for _ in 0..3 {
            let answer = send(cluster.functions(), "GET", "/shop/sticky", &[("x-user", &name)], "").await;
            of_user.insert(answer.json()["version"].as_u64());
            assert!(!answer.headers.contains_key("set-cookie"), "who has a name needs no cookie");
        }
        assert_eq!(of_user.len(), 1, "{name}: {of_user:?}");
        versions.extend(of_user);
    }
    assert_eq!(versions, HashSet::from([Some(1), Some(2)]));
}

#[tokio::test]
async fn who_has_no_name_gets_a_cookie_and_stays_with_it() {
    let cluster = Cluster::start().await;
    for _ in 0..10 {
        let first = send(cluster.functions(), "GET", "/shop/sticky", &[], "").await;
        let set = first.header("set-cookie");
        let (cookie, attributes) = set.split_once(';').unwrap();
        assert!(cookie.starts_with("dunlin-caller=") && attributes.contains("HttpOnly"), "{set}");
        for _ in 0..3 {
            let next = send(cluster.functions(), "GET", "/shop/sticky", &[("cookie", cookie)], "").await;
            assert_eq!(next.json()["version"], first.json()["version"]);
            assert!(!next.headers.contains_key("set-cookie"));
        }
    }
}

#[tokio::test]
async fn a_version_has_an_address_for_developers_alone() {
    let cluster = Cluster::start().await;
    let call = async |path: &str, token: Option<String>| {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = authorization.iter().map(|text| ("authorization", text.as_str())).collect();
        send(cluster.functions(), "GET", path, &headers, "").await
    };
    let developer = || Some(cluster.token("dunlin-admin"));
    for (path, version) in [("/shop/open@1/a?b", 1), ("/shop/open@2/a?b", 2), ("/shop/closed@2/a?b", 2)] {
        for _ in 0..3 {
            let answer = call(path, developer()).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let given = answer.json();
            assert_eq!((&given["version"], &given["path"]), (&version.into(), &"/a?b".into()));
            let headers = given["headers"].to_string();
            assert!(!headers.contains("authorization"), "the token is for the gateway: {headers}");
        }
    }
    for (path, token, status) in [
        ("/shop/open@2/", None, 401),
        ("/shop/open@2/", Some("x.y.z".to_owned()), 401),
        // A caller's token is none for this, and a developer's none for anything else.
        ("/shop/open@2/", Some(cluster.token("dunlin:shop")), 401),
        ("/shop/closed/", developer(), 401),
        ("/shop/open@9/", None, 401),
        ("/shop/open@9/", developer(), 404),
        ("/shop/none@1/", developer(), 404),
        ("/shop/old@1/", developer(), 200),
        ("/shop/old@2/", developer(), 410),
        ("/shop/old@2/", None, 401),
    ] {
        assert_eq!(call(path, token.clone()).await.status, status, "{path} {token:?}");
    }
}

#[tokio::test]
async fn a_host_names_a_function_where_a_domain_is_configured() {
    let plan = Plan { configure: |config| config.domain = Some("fn.test".to_owned()), ..Plan::default() };
    let cluster = Cluster::with(plan).await;
    let call = async |host: &str, path: &str| send(cluster.functions(), "GET", path, &[("host", host)], "").await;
    let answer = call("open--shop.fn.test", "/shop/open?x").await.json();
    assert_eq!((&answer["path"], &answer["base"]), (&"/shop/open?x".into(), &"".into()));
    for (host, status, code) in [
        ("fn.test", 421, "misdirected_request"),
        ("127.0.0.1", 421, "misdirected_request"),
        ("open.fn.test", 421, "misdirected_request"),
        ("missing--shop.fn.test", 404, "not_found"),
        ("v2--open--shop.fn.test", 401, "unauthenticated"),
        ("v9--open--shop.fn.test", 401, "unauthenticated"),
    ] {
        let answer = call(host, "/shop/open").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{host}");
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_served_says_so() {
    let cluster = Cluster::start().await;
    for path in ["/", "/shop", "/shop/none", "/bank/open", "/shop//open"] {
        let answer = get(cluster.functions(), path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
    for path in
        ["/shop/open/../closed", "/shop/open/%2e%2e/closed", "/shop/open/a%00", "/shop/open/a%5c", "/shop/open/%zz"]
    {
        let answer = get(cluster.functions(), path).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_argument"), "{path}");
    }
    let answer = cluster.call("TRACE", "/", &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    assert!(answer.header("allow").contains("GET"));
    for method in ["OPTIONS", "PROPFIND", "DELETE"] {
        assert_eq!(cluster.call(method, "/", &[], "").await.json()["method"], method);
    }
    assert!(cluster.workers[0].begins().len() == 3, "nothing else reached a worker");
}

#[tokio::test]
async fn an_answer_is_built_anew() {
    let cluster = Cluster::start().await;
    let answer = cluster.call("GET", "/lies", &[], "").await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("content-length").as_str()), (200, "short", "5"));
    for gone in ["transfer-encoding", "connection", "x-b", "dunlin-x"] {
        assert!(!answer.headers.contains_key(gone), "{gone}");
    }
    assert_ne!(answer.header("x-request-id"), "mine");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    let answer = cluster.call("HEAD", "/lies", &[], "").await;
    assert_eq!((answer.status, answer.body.len(), answer.header("content-length").as_str()), (200, 0, "9999"));
    let answer = cluster.call("GET", "/no-content", &[], "").await;
    assert_eq!((answer.status, answer.body.len(), answer.header("x-a").as_str()), (204, 0, "b"));
}

/// A gateway behind proxies on this machine.
async fn proxied(configure: fn(&mut dunlin_gateway::Config)) -> Cluster {
    Cluster::with(Plan { configure, ..Plan::default() }).await
}

#[tokio::test]
async fn t35_a_trusted_proxy_says_who_calls_and_nobody_else_does() {
    let headers = [("x-forwarded-for", "6.6.6.6, 192.0.2.7"), ("x-forwarded-proto", "https")];
    let trusting = proxied(|config| config.proxies.trusted = vec!["127.0.0.0/8".parse().unwrap()]).await;
    for (cluster, remote, scheme) in [(trusting, "192.0.2.7", "https"), (proxied(|_| {}).await, "127.0.0.1", "http")] {
        let answer = cluster.call("GET", "/", &headers, "").await;
        assert_eq!(answer.json()["remote"], remote);
        let given = answer.json()["headers"].as_array().unwrap().clone();
        assert!(given.contains(&serde_json::json!(["x-forwarded-for", remote])), "{given:?}");
        assert!(given.contains(&serde_json::json!(["x-forwarded-proto", scheme])), "{given:?}");
        assert_eq!(cluster.workers[0].begins().last().unwrap().scheme, scheme);
    }
}

#[tokio::test]
async fn t35_behind_the_proxy_protocol_only_proxies_connect() {
    let plain = |config: &mut dunlin_gateway::Config| {
        config.proxies.trusted = vec!["127.0.0.1/32".parse().unwrap()];
        config.proxies.protocol = true;
    };
    let cluster = proxied(plain).await;
    let request = |id: &str| Request::get("/shop/open/").header("host", id).body(String::new()).unwrap();
    let stream = connect_as_proxy([127, 0, 0, 1], cluster.functions()).await;
    let answer = h1_on(stream, request("h")).await.unwrap();
    assert_eq!((answer.status, &answer.json()["remote"]), (200, &"192.0.2.7".into()));
    assert!(h1_on(connect_as_proxy([127, 0, 0, 2], cluster.functions()).await, request("h")).await.is_err());
    let (answer, closed) = raw(cluster.functions(), b"GET /shop/open/ HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.is_empty() && closed, "{answer}");
    let secured = proxied(|config| {
        config.tls.certificates = vec![Authority::of(config.data_dir.parent().unwrap()).issue("a", &["a.test"])];
        config.proxies.trusted = vec!["127.0.0.1/32".parse().unwrap()];
        config.proxies.protocol = true;
    })
    .await;
    let stream = connect_as_proxy([127, 0, 0, 1], secured.functions()).await;
    let answer = secured.authority().caller().get_on(stream, "a.test", "/shop/open/").await;
    assert_eq!((answer.status, &answer.json()["remote"]), (200, &"192.0.2.7".into()));
    assert_eq!(secured.workers[0].begins()[0].scheme, "https");
}

/// The versions of calls that one worker refused and another one took, each on the version that it was refused on.
async fn tried_again(round: u32) -> HashSet<u32> {
    let cluster = Cluster::with(Plan { workers: 2, ..Plan::default() }).await;
    let [refusing, other] = [&cluster.workers[0], &cluster.workers[1]];
    refusing.seen.lacks.send_replace(true);
    // Which worker is asked first is chance, and who refuses everything is hardly asked after a while.
    for n in 0..8 {
        let user = format!("u{round}-{n}");
        let answer = send(cluster.functions(), "GET", "/shop/sticky", &[("x-user", &user)], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let (asked, answered) = (refusing.begins(), other.begins());
    let again = |id: &[u8]| answered.iter().find(|again| again.id == id);
    let tried: Vec<_> = asked.iter().filter_map(|first| Some((first, again(&first.id)?))).collect();
    assert!(tried.iter().all(|(first, again)| first.version == again.version), "{tried:?}");
    tried.iter().filter_map(|(first, _)| Some(first.version.as_ref()?.number)).collect()
}

#[tokio::test]
async fn a_call_that_never_started_stays_on_its_version_at_another_worker() {
    let mut versions = HashSet::new();
    for round in 0..40 {
        versions.extend(tried_again(round).await);
        if versions.len() == 2 {
            return;
        }
    }
    panic!("of calls of both versions some are tried again, and not only of {versions:?}");
}

#[tokio::test]
async fn a_version_is_judged_by_its_callers_calls_and_not_by_its_developers() {
    let cluster = Cluster::start().await;
    let of = |number| VersionRef { function_uid: cluster.uid.to_string(), number };
    cluster.scheduler.watched.send(WatchedVersions { versions: vec![of(1), of(2)] }).unwrap();
    let counted = || {
        let loads = cluster.scheduler.seen.loads.lock().unwrap();
        let outcomes = loads.last().map(|load| load.outcomes.clone()).unwrap_or_default();
        outcomes.iter().fold((0, 0), |(calls, failures), of| (calls + of.calls, failures + of.failures))
    };
    eventually("calls are counted", async || {
        cluster.call("GET", "/", &[], "").await;
        counted().0 > 0
    })
    .await;
    let token = format!("Bearer {}", cluster.token("dunlin-admin"));
    for path in ["/shop/open@1/", "/shop/open@2/trap", "/shop/open@2/trap"] {
        let answer = send(cluster.functions(), "GET", path, &[("authorization", &token)], "").await;
        assert!([200, 502].contains(&answer.status), "{answer:?}");
    }
    // Whatever was called before is counted when the last one is.
    assert_eq!(cluster.call("GET", "/trap", &[], "").await.status, 502);
    eventually("the caller's call is counted", async || counted().1 > 0).await;
    let called = cluster.workers[0].begins().len() as u64;
    eventually("and those before it", async || counted().0 >= called - 3).await;
    assert_eq!(counted(), (called - 3, 1), "all but those of the developer");
}
