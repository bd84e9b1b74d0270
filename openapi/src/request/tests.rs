//! Requests against rules, as tables.

use dunlin_proto::route::{MediaTypeRule, ParameterPlace, ParameterRule, ParameterStyle};

use super::*;

fn rule(place: ParameterPlace, name: &str, style: ParameterStyle, explode: bool, schema: &str) -> ParameterRule {
    ParameterRule { place, name: name.into(), required: false, schema: schema.into(), style, explode }
}

fn checker(parameters: Vec<ParameterRule>, body: Option<BodyRule>) -> Checker {
    Checker::new(&Validation { parameters, body }).unwrap()
}

fn wrong(checker: &Checker, path: &[(&str, &str)], query: &str, headers: &[(&'static str, &str)]) -> Vec<String> {
    let path: Vec<_> = path.iter().map(|(name, text)| (*name, Cow::Borrowed(*text))).collect();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let given = Given { path: &path, query: Some(query), headers: &map };
    checker.parameters(&given).into_iter().map(|violation| violation.field).collect()
}

#[test]
fn parameters_are_read_as_they_are_written() {
    use ParameterStyle::{DeepObject, Form, Json, PipeDelimited, SpaceDelimited};
    let list = r#"{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":2}"#;
    let object =
        r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}"#;
    for (style, explode, schema, query, expected) in [
        (Form, true, r#"{"type":"integer","maximum":9}"#, "q=9", None),
        (Form, true, r#"{"type":"integer","maximum":9}"#, "q=10", Some("query.q")),
        (Form, true, r#"{"type":"integer","maximum":9}"#, "q=", Some("query.q")),
        (Form, true, r#"{"type":"integer","maximum":9}"#, "q=1&q=2", Some("query.q")),
        (Form, true, r#"{"type":"integer","maximum":9}"#, "p=x", None),
        (Form, true, r#"{"const":"a b,c"}"#, "q=a+b%2Cc", None),
        (Form, true, r#"{"type":"string"}"#, "q=%FF", Some("query.q")),
        (Form, true, list, "q=1&q=2", None),
        (Form, true, list, "q=1&q=x", Some("query.q/1")),
        (Form, false, list, "q=1,2", None),
        (Form, false, list, "q=1&q=2", Some("query.q")),
        (SpaceDelimited, false, list, "q=1%202", None),
        (PipeDelimited, false, list, "q=1|2", None),
        (PipeDelimited, false, list, "q=1,2", Some("query.q/0")),
        (DeepObject, true, object, "q[a]=1", None),
        (DeepObject, true, object, "q%5Ba%5D=1", None),
        (DeepObject, true, object, "q[a]=x", Some("query.q/a")),
        (DeepObject, true, object, "q[a]=1&q[b]=2", Some("query.q")),
        (DeepObject, true, object, "q[a]=1&q[a]=2", Some("query.q")),
        (Json, true, object, "q={%22a%22:1}", None),
        (Json, true, object, "q={a", Some("query.q")),
    ] {
        let checker = checker(vec![rule(ParameterPlace::Query, "q", style, explode, schema)], None);
        let found = wrong(&checker, &[], query, &[]);
        let fits = expected.map_or(found.is_empty(), |place| found.iter().any(|found| found == place));
        assert!(fits, "{style:?} {explode} {query}: {found:?}");
    }
}

#[test]
fn each_place_has_its_own() {
    let integer = r#"{"type":"integer"}"#;
    let of = |place| ParameterRule { required: true, ..rule(place, "id", ParameterStyle::of(place), false, integer) };
    let places = [ParameterPlace::Path, ParameterPlace::Query, ParameterPlace::Header, ParameterPlace::Cookie];
    let checker = checker(places.map(of).into(), None);
    let good: &[(&str, &str)] = &[("id", "7"), ("cookie", "a=b; id=7")];
    assert_eq!(wrong(&checker, &[("id", "%37")], "id=7", good), [""; 0]);
    let all = ["path.id", "query.id", "header.id", "cookie.id"];
    assert_eq!(wrong(&checker, &[], "", &[]), all);
    assert_eq!(wrong(&checker, &[("id", "x")], "id=x", &[("id", "x"), ("cookie", "id=x")]), all);
    assert_eq!(
        wrong(&checker, &[("id", "7")], "id=7", &[("id", "7"), ("id", "8"), ("cookie", "id=7; id=8")]),
        ["header.id", "cookie.id"]
    );
}

#[test]
fn bodies_are_of_a_media_type_and_fit_its_schema() {
    let media = |media_type: &str, schema: &str| MediaTypeRule { media_type: media_type.into(), schema: schema.into() };
    let media_types = vec![
        media("application/json", r#"{"type":"object"}"#),
        media("text/*", ""),
        media("application/*", r#"{"type":"array"}"#),
    ];
    let checker = checker(Vec::new(), Some(BodyRule { required: true, media_types }));
    let of = |headers: &[(&'static str, &str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        checker.media(&map).map_err(|error| error.code)
    };
    let unsupported = Err(ErrorCode::UnsupportedMediaType);
    for (headers, expected) in [
        (&[("content-type", "application/json")][..], Ok(Some(Media(0)))),
        (&[("content-type", "Application/JSON; charset=utf-8")], Ok(Some(Media(0)))),
        (&[("content-type", "application/problem+json")], Ok(Some(Media(2)))),
        (&[("content-type", "application/zip")], Ok(None)),
        (&[("content-type", "text/csv")], Ok(None)),
        (&[("content-type", "image/png")], unsupported),
        (&[("content-type", "application/json"), ("content-type", "text/csv")], unsupported),
        (&[("content-type", "application/json"), ("content-encoding", "gzip")], unsupported),
        (&[], unsupported),
    ] {
        assert_eq!(of(headers), expected, "{headers:?}");
    }
    let body = |bytes: &[u8]| {
        let mut violations = Vec::new();
        checker.body(Media(0), bytes, &mut violations);
        violations.into_iter().map(|violation| violation.message).collect::<String>()
    };
    assert_eq!(body(b"{}"), "");
    assert!(body(b"[]").contains("object"));
    assert!(
        body(b"{").contains("not JSON")
            && body(b"{} {}").contains("not JSON")
            && body(b"{\"a\":\"\xff\"}").contains("not JSON")
    );
    assert!(body(br#"{"a":1,"a":2}"#).contains("twice"));
    assert!(body("[".repeat(1000).as_bytes()).contains("not JSON"));
    assert_eq!(checker.without_body().map(|violation| violation.field).as_deref(), Some("body"));
}

#[test]
fn an_invalid_schema_is_refused_by_its_place() {
    let bad = rule(ParameterPlace::Query, "q", ParameterStyle::Form, true, r#"{"type":"nothing"}"#);
    let error = Checker::new(&Validation { parameters: vec![bad], body: None }).unwrap_err();
    assert!(error.message.contains("parameters[0] (query q)") && error.message.contains("/type"), "{error}");
}
