//! The rules as tables.

use http::HeaderName;

use super::*;

type Fields = &'static [(&'static str, &'static str)];

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

/// Tuesday, the 2nd of January 2024, at noon.
fn noon() -> SystemTime {
    httpdate::parse_http_date("Tue, 02 Jan 2024 12:00:00 GMT").unwrap()
}

/// How long an answer is fresh from now on, where it is stored.
fn stored(credentialed: bool, status: u16, fields: &[(&str, &str)]) -> Option<i64> {
    let status = StatusCode::from_u16(status).unwrap();
    let terms = terms(&Wishes::default(), credentialed, status, &map(fields), noon())?;
    Some(terms.ttl(Duration::ZERO))
}

#[test]
fn answers_are_stored_for_as_long_as_their_function_says() {
    let cases: &[(u16, Fields, Option<i64>)] = &[
        (200, &[("cache-control", "max-age=60")], Some(60)),
        (200, &[("cache-control", "MAX-AGE=60")], Some(60)),
        (200, &[("cache-control", "max-age=60, s-maxage=5")], Some(5)),
        (200, &[("cache-control", "max-age=60"), ("cache-control", "no-store")], None),
        (200, &[("cache-control", "max-age=60, No-Store")], None),
        (200, &[("cache-control", "max-age=60, Private")], None),
        (200, &[("cache-control", "max-age=60, private=\"x, y\"")], None),
        (200, &[("cache-control", "max-age=60"), ("set-cookie", "a=b")], None),
        (200, &[("cache-control", "public, max-age=60"), ("set-cookie", "a=b")], None),
        (200, &[("cache-control", "max-age=60"), ("trailer", "x-sum")], None),
        (200, &[("cache-control", "max-age=60"), ("trailer", "server-timing")], Some(60)),
        (200, &[("cache-control", "max-age=60, no-cache"), ("etag", "\"a\"")], Some(0)),
        (200, &[("cache-control", "max-age=60, must-revalidate")], Some(60)),
        (200, &[("cache-control", "max-age=60, proxy-revalidate")], Some(60)),
        (200, &[("cache-control", "max-age=60"), ("age", "20")], Some(40)),
        (200, &[("cache-control", "max-age=60"), ("age", "18446744073709551615")], None),
        (200, &[("cache-control", "max-age=60"), ("age", "20, 59")], Some(40)),
        (200, &[("cache-control", "max-age=60"), ("age", "90,0")], None),
        (200, &[("cache-control", "max-age=60"), ("age", "ninety")], Some(60)),
        (200, &[("cache-control", "max-age=60"), ("age", "-90")], Some(60)),
        (200, &[("cache-control", "max-age=60"), ("date", "Tue, 02 Jan 2024 11:59:30 GMT")], Some(30)),
        (200, &[("cache-control", "max-age=60"), ("date", "Tue, 02 Jan 2024 12:59:30 GMT")], Some(60)),
        (200, &[("cache-control", "max-age=60"), ("expires", "0")], Some(60)),
        (200, &[("expires", "Tue, 02 Jan 2024 12:01:00 GMT")], Some(60)),
        (200, &[("expires", "Tuesday, 02-Jan-24 12:01:00 GMT")], Some(60)),
        (200, &[("expires", "Tue, 02 Jan 2024 11:01:00 GMT")], None),
        (200, &[("expires", "0")], None),
        (200, &[], None),
        (200, &[("last-modified", "Tue, 02 Jan 2023 12:00:00 GMT")], Some(0)),
        (200, &[("etag", "\"a\"")], Some(0)),
        (200, &[("cache-control", "max-age=0, stale-while-revalidate=9")], Some(0)),
        (200, &[("cache-control", "immutable")], None),
        (404, &[("cache-control", "max-age=60")], Some(60)),
        (301, &[("cache-control", "max-age=60")], Some(60)),
        (302, &[("etag", "\"a\"")], None),
        (206, &[("cache-control", "max-age=60")], None),
        (304, &[("cache-control", "max-age=60")], None),
        (500, &[("cache-control", "max-age=60")], None),
        (503, &[("cache-control", "max-age=60"), ("etag", "\"a\"")], None),
        (201, &[("cache-control", "max-age=60")], Some(60)),
        (299, &[("cache-control", "s-maxage=60")], Some(60)),
        (299, &[("cache-control", "max-age=60, must-understand")], None),
        (404, &[("cache-control", "max-age=60, must-understand")], Some(60)),
        (400, &[("cache-control", "max-age=60")], Some(60)),
        (400, &[("expires", "Tue, 02 Jan 2024 12:01:00 GMT")], None),
        (200, &[("cache-control", "max-age=60"), ("content-range", "x")], Some(60)),
    ];
    for (status, fields, expected) in cases {
        assert_eq!(stored(false, *status, fields), *expected, "{status} {fields:?}");
    }
}

#[test]
fn what_one_caller_may_see_is_not_stored_for_others() {
    for (control, expected) in [
        ("max-age=60", None),
        ("max-age=60, private", None),
        ("max-age=60, public", Some(60)),
        ("max-age=60, must-revalidate", Some(60)),
        ("s-maxage=60", Some(60)),
        ("max-age=60, proxy-revalidate", None),
        ("max-age=60, x=\"public\"", None),
        ("public, no-store", None),
    ] {
        assert_eq!(stored(true, 200, &[("cache-control", control)]), expected, "{control}");
    }
}

#[test]
fn a_request_says_what_it_takes() {
    use Verdict::{AskStale, AskWanted, Use, UseAndRefresh};
    let cases: &[(&str, u64, &str, Verdict)] = &[
        ("max-age=60", 0, "", Use),
        ("max-age=60", 59, "", Use),
        ("max-age=60", 60, "", AskStale),
        ("max-age=60", 10, "no-cache", AskWanted),
        ("max-age=60", 70, "no-cache", AskStale),
        ("max-age=60", 10, "no-store", Use),
        ("max-age=60", 10, "max-age=10", Use),
        ("max-age=60", 10, "max-age=9", AskWanted),
        ("max-age=60", 1, "max-age=0", AskWanted),
        ("max-age=60", 50, "min-fresh=10", Use),
        ("max-age=60", 51, "min-fresh=10", AskWanted),
        ("max-age=60", 70, "max-stale", Use),
        ("max-age=60", 70, "max-stale=10", Use),
        ("max-age=60", 71, "max-stale=10", AskStale),
        ("max-age=60", 61, "max-stale=0", AskStale),
        ("max-age=60", 70, "max-stale, max-age=5", AskStale),
        ("max-age=60, must-revalidate", 70, "max-stale", AskStale),
        ("max-age=60, proxy-revalidate", 70, "max-stale", AskStale),
        ("s-maxage=60", 70, "max-stale", AskStale),
        ("no-cache", 0, "", AskStale),
        ("no-cache", 0, "max-stale", AskStale),
        ("max-age=60, stale-while-revalidate=10", 60, "", UseAndRefresh),
        ("max-age=60, stale-while-revalidate=10", 70, "", UseAndRefresh),
        ("max-age=60, stale-while-revalidate=10", 71, "", AskStale),
        ("s-maxage=60, stale-while-revalidate=10", 65, "", UseAndRefresh),
        ("max-age=60, stale-while-revalidate=10", 65, "no-cache", AskStale),
        ("max-age=60, stale-while-revalidate=10", 65, "max-age=3", AskStale),
        ("max-age=60, stale-while-revalidate=10", 65, "min-fresh=1", AskStale),
        ("max-age=60, stale-while-revalidate=10, must-revalidate", 65, "", AskStale),
        ("no-cache, stale-while-revalidate=10", 1, "", AskStale),
        ("max-age=60, stale-if-error=10", 65, "", AskStale),
    ];
    for (control, here, wish, expected) in cases.iter().copied() {
        let fields = [("cache-control", control), ("etag", "\"a\"")];
        let terms = terms(&Wishes::default(), false, StatusCode::OK, &map(&fields), noon()).unwrap();
        let asked: &[(&str, &str)] = if wish.is_empty() { &[] } else { &[("cache-control", wish)] };
        let verdict = terms.verdict(Duration::from_secs(here), &Wishes::of(&map(asked)));
        assert_eq!(verdict, expected, "{control} after {here} s, {wish}");
    }
    assert!(Wishes::of(&map(&[("pragma", "No-Cache")])).no_cache);
    assert!(!Wishes::of(&map(&[("pragma", "no-cache"), ("cache-control", "max-age=1")])).no_cache);
}

#[test]
fn a_stale_answer_stands_in_for_an_error_where_somebody_allows_it() {
    for (control, here, wish, expected) in [
        ("max-age=60, stale-if-error=10", 70, "", true),
        ("max-age=60, stale-if-error=10", 71, "", false),
        ("max-age=60", 61, "", false),
        ("max-age=60", 61, "stale-if-error=5", true),
        ("max-age=60, must-revalidate, stale-if-error=10", 61, "stale-if-error=5", false),
        ("max-age=60, stale-if-error=10", 61, "no-cache", false),
    ] {
        let fields = [("cache-control", control), ("etag", "\"a\"")];
        let terms = terms(&Wishes::default(), false, StatusCode::OK, &map(&fields), noon()).unwrap();
        let wishes = Wishes::of(&map(&[("cache-control", wish)]));
        assert_eq!(terms.stands_in(Duration::from_secs(here), &wishes), expected, "{control} after {here} s, {wish}");
    }
}

#[test]
fn what_is_not_to_be_stored_is_not() {
    let wishes = Wishes::of(&map(&[("cache-control", "no-store")]));
    assert_eq!(terms(&wishes, false, StatusCode::OK, &map(&[("cache-control", "max-age=60")]), noon()), None);
}
