//! What is kept and forgotten.

use dunlin_proto::{ids::FunctionUid, v1};

use super::*;
use crate::routes::router::Rule;

fn address(path: &str) -> Address {
    Address::new(&"shop".parse().unwrap(), "http", "Shop.example:80", path, Some("a=b"))
}

fn owner(path: &str, number: u32) -> Owner {
    let target = v1::FunctionTarget { function: "open".into(), ..Default::default() };
    let route = v1::Route {
        name: "namespaces/shop/routes/all".into(),
        path: path.into(),
        target: Some(v1::route::Target::Function(target)),
        cache: true,
        ..Default::default()
    };
    let version = dunlin_proto::ids::VersionKey {
        function: FunctionUid::from_slice(&[7; 16]).unwrap(),
        number: number.try_into().unwrap(),
    };
    Owner { version, rule: Arc::new(Rule::from_wire(route).unwrap()) }
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn draft(place: &Place, request: &HeaderMap, vary: &str) -> Draft {
    let answer = map(&[("cache-control", "max-age=60"), ("vary", vary)]);
    Draft::new(place, (request, &Wishes::default(), false), StatusCode::OK, &answer).unwrap()
}

/// What is found, as text.
fn found(cache: &Cache, address: &Address, owner: &Owner, request: &HeaderMap) -> String {
    match cache.find(address, owner, request) {
        Found::Answer(stored) => String::from_utf8(stored.body().to_vec()).unwrap(),
        Found::Others => "others".to_owned(),
        Found::Nothing => "nothing".to_owned(),
    }
}

#[tokio::test]
async fn an_answer_is_for_its_version_its_route_and_its_headers() {
    let (cache, german, english) =
        (Cache::new(1 << 20), map(&[("accept-language", "de")]), map(&[("accept-language", "en")]));
    let (here, owned) = (address("/a"), owner("/{path*}", 1));
    let place = cache.place(here.clone(), owned.clone());
    assert_eq!(found(&cache, &here, &owned, &german), "nothing");
    cache.store(draft(&place, &german, "accept-language"), "hallo".into());
    assert_eq!(found(&cache, &here, &owned, &german), "hallo");
    assert_eq!(found(&cache, &here, &owned, &english), "others");
    cache.store(draft(&place, &english, "accept-language"), "hello".into());
    cache.store(draft(&place, &german, "accept-language"), "servus".into());
    assert_eq!(
        (found(&cache, &here, &owned, &german), found(&cache, &here, &owned, &english)),
        ("servus".to_owned(), "hello".to_owned())
    );
    assert_eq!(found(&cache, &here, &owner("/{path*}", 1), &german), "servus", "the same route, read again");
    assert_eq!(found(&cache, &here, &owner("/{path*}", 2), &german), "nothing");
    assert_eq!(found(&cache, &here, &owner("/{other*}", 1), &german), "nothing");
    assert_eq!(found(&cache, &address("/b"), &owned, &german), "nothing");
}

#[tokio::test]
async fn of_one_address_so_many_answers_are_kept() {
    let cache = Cache::new(1 << 20);
    let (here, owned) = (address("/"), owner("/", 1));
    let place = cache.place(here.clone(), owned.clone());
    let request = |number: usize| map(&[("x-a", &number.to_string())]);
    for number in 0..20 {
        cache.store(draft(&place, &request(number), "x-a"), number.to_string().into());
    }
    let kept = (0..20).filter(|number| found(&cache, &here, &owned, &request(*number)) == number.to_string());
    assert_eq!(kept.collect::<Vec<_>>(), (4..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_on_its_way_when_its_address_was_forgotten_is_not_stored() {
    let cache = Cache::new(1 << 20);
    let (here, owned, none) = (address("/"), owner("/", 1), HeaderMap::new());
    let place = cache.place(here.clone(), owned.clone());
    cache.store(draft(&place, &none, ""), "old".into());
    cache.forget(&here);
    assert_eq!(found(&cache, &here, &owned, &none), "nothing");
    cache.store(draft(&place, &none, ""), "late".into());
    assert_eq!(found(&cache, &here, &owned, &none), "nothing");
    cache.store(draft(&cache.place(here.clone(), owned.clone()), &none, ""), "new".into());
    assert_eq!(found(&cache, &here, &owned, &none), "new");
}

#[tokio::test]
async fn a_purge_forgets_what_it_is_about() {
    use v1::purge_cache_request::What;
    let (owned, none) = (owner("/{path*}", 1), HeaderMap::new());
    for (what, left) in [
        (What::Path("/a".into()), vec!["/a/b", "/b"]),
        (What::Prefix("/a".into()), vec!["/b"]),
        (What::Route("all".into()), vec![]),
        (What::Route("other".into()), vec!["/a", "/a/b", "/b"]),
        (What::All(true), vec![]),
    ] {
        let cache = Cache::new(1 << 20);
        let store = |path: &str| {
            let place = cache.place(address(path), owned.clone());
            cache.store(draft(&place, &none, ""), "x".into());
        };
        ["/a", "/a/b", "/b"].into_iter().for_each(store);
        let late = cache.place(address("/late"), owned.clone());
        let request = v1::PurgeCacheRequest { parent: "namespaces/shop".into(), what: Some(what.clone()) };
        cache.purge(&Purge::try_from(request).unwrap());
        let is_there = |path: &&str| found(&cache, &address(path), &owned, &none) == "x";
        assert_eq!(["/a", "/a/b", "/b"].into_iter().filter(is_there).collect::<Vec<_>>(), left, "{what:?}");
        cache.store(draft(&late, &none, ""), "x".into());
        assert_eq!(found(&cache, late.address(), &owned, &none), "nothing", "it was on its way");
        cache.clear();
        assert!(!["/a", "/a/b", "/b"].iter().any(is_there));
    }
    let foreign = v1::PurgeCacheRequest { parent: "namespaces/bank".into(), what: Some(What::All(true)) };
    let cache = Cache::new(1 << 20);
    cache.store(draft(&cache.place(address("/a"), owned.clone()), &none, ""), "x".into());
    cache.purge(&Purge::try_from(foreign).unwrap());
    assert_eq!(found(&cache, &address("/a"), &owned, &none), "x");
}

#[tokio::test]
async fn it_is_bounded_and_what_is_used_stays() {
    let cache = Cache::new(100_000);
    let (owned, none) = (owner("/{path*}", 1), HeaderMap::new());
    let is_there = |number: usize| found(&cache, &address(&format!("/{number}")), &owned, &none) != "nothing";
    for number in 0..50 {
        let place = cache.place(address(&format!("/{number}")), owned.clone());
        cache.store(draft(&place, &none, ""), vec![b'x'; 10_000].into());
        assert!(is_there(number) && is_there(0), "{number}");
    }
    let (addresses, bytes) = cache.size();
    assert!((8..10).contains(&addresses) && (80_000..=100_000).contains(&bytes), "{addresses}, {bytes}");
    assert_eq!((1..49).filter(|number| is_there(*number)).count(), usize::try_from(addresses).unwrap() - 2);
}

#[tokio::test]
async fn one_without_room_stores_nothing() {
    let (cache, here, owned, none) = (Cache::new(0), address("/"), owner("/", 1), HeaderMap::new());
    for _ in 0..2 {
        cache.store(draft(&cache.place(here.clone(), owned.clone()), &none, ""), "x".into());
        assert_eq!((found(&cache, &here, &owned, &none).as_str(), cache.size()), ("nothing", (0, 0)));
    }
}

#[tokio::test]
async fn an_address_may_have_as_many_large_answers_as_it_may_have() {
    let (cache, here, owned) = (Cache::new(64 << 20), address("/"), owner("/", 1));
    let request = |number: usize| map(&[("x-a", &number.to_string())]);
    for number in 0..MOST_VARIANTS {
        let place = cache.place(here.clone(), owned.clone());
        cache.store(draft(&place, &request(number), "x-a"), vec![b'x'; stored::MOST_BYTES].into());
    }
    assert!((0..MOST_VARIANTS).all(|number| found(&cache, &here, &owned, &request(number)) != "others"));
}

#[tokio::test]
async fn a_whole_body_alone_is_stored() {
    use http_body_util::{BodyExt, StreamBody};
    let (owned, none) = (owner("/{path*}", 1), HeaderMap::new());
    let cache = Cache::new(16 << 20);
    type Frames = Vec<Result<http_body::Frame<Bytes>, dunlin_proto::ApiError>>;
    let data = |size: usize| Ok(http_body::Frame::data(Bytes::from(vec![b'x'; size])));
    let trailers = |name: &str| Ok(http_body::Frame::trailers(map(&[(name, "1")])));
    let cases: [(&str, Frames, bool); 7] = [
        ("/whole", vec![data(1), data(0), data(2)], true),
        ("/empty", vec![], true),
        ("/receipt", vec![data(3), trailers("server-timing")], true),
        ("/trailers", vec![data(3), trailers("x-sum")], false),
        ("/broken", vec![data(3), Err(dunlin_proto::ApiError::internal())], false),
        ("/most", vec![data(1 << 20)], true),
        ("/more", vec![data(1 << 20), data(1)], false),
    ];
    for (path, frames, expected) in cases {
        let place = cache.place(address(path), owned.clone());
        let size: usize = frames.iter().flatten().filter_map(|frame| frame.data_ref()).map(Bytes::len).sum();
        let body = StreamBody::new(futures::stream::iter(frames));
        let recorder = Recorder::new(body, cache.clone(), draft(&place, &none, ""), None);
        let _ = recorder.collect().await;
        match cache.find(place.address(), &owned, &none) {
            Found::Answer(stored) => assert!(expected && stored.body().len() == size, "{path}"),
            Found::Others | Found::Nothing => assert!(!expected, "{path}"),
        }
    }
    let place = cache.place(address("/left"), owned.clone());
    let body = StreamBody::new(futures::stream::iter([data(1), data(1)]));
    let mut recorder = Recorder::new(body, cache.clone(), draft(&place, &none, ""), None);
    let _ = recorder.frame().await;
    drop(recorder);
    assert_eq!(found(&cache, place.address(), &owned, &none), "nothing", "its caller left");
}
