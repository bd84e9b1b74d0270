//! Tables of manifests, good and bad.

use dunlin_proto::model;

use super::*;
use crate::{exit::Exit, output::Style};

/// The function of a manifest that is of one, without routes.
fn one(text: &str) -> Function {
    let Manifest { app, mut functions, routes } = Manifest::parse("dunlin.toml", text).unwrap();
    assert_eq!((app, functions.len(), routes.len()), (None, 1, 0));
    functions.remove(0)
}

const WHOLE: &str = r#"
name = "check-out"
description = "Takes the money"
source = "dist/check-out.wasm"
public = true
direct = true
allowed_outbound_hosts = ["https://api.example.com", "http://*.internal:8080"]
idempotent = true

[environment]
GREETING = "hello"
LEVEL = "3"

[build]
command = "make"
workdir = "guest"
watch = ["src/**/*.rs"]

[limits]
memory = "64MiB"
cpu = "500ms"
timeout = "1m30s"
request_body = "1MB"
response_body = "0"
logs = "64KiB"
rate = "600/m"
burst = 20

[scaling]
min = 1
max = 0x20
idle_timeout = "2m"
min_workers = 1
max_workers = 3
max_concurrency = 50
reserved_concurrency = 5

[reuse]
max_calls = 1_000
max_concurrent = 1
max_idle = "1m"
"#;

#[test]
fn a_whole_manifest_is_read() {
    let manifest = one(WHOLE);
    assert_eq!(manifest.name.as_str(), "check-out");
    assert_eq!(manifest.source, Path::new("dist/check-out.wasm"));
    assert_eq!((manifest.public, manifest.direct), (Some(true), Some(true)));
    let build = manifest.build.unwrap();
    assert_eq!((build.command.as_str(), build.workdir.as_deref()), ("make", Some(Path::new("guest"))));
    let spec = model::VersionSpec::try_from(manifest.spec).unwrap();
    assert_eq!(spec.limits.memory_bytes, 64 << 20);
    assert_eq!(spec.limits.timeout.as_secs(), 90);
    assert_eq!(spec.limits.request_body_bytes, 1_000_000);
    assert_eq!(spec.limits.response_body_bytes, 0);
    let rate = model::Rate { requests: 600, period: model::Period::Minute, burst: 20 };
    assert_eq!(spec.limits.rate, Some(rate));
    assert_eq!((spec.scaling.min_sandboxes, spec.scaling.max_sandboxes), (1, 32));
    assert_eq!(spec.scaling.max_workers, Some(3));
    assert_eq!((spec.scaling.max_concurrency, spec.scaling.reserved_concurrency), (Some(50), 5));
    assert_eq!(spec.environment.get("LEVEL").map(String::as_str), Some("3"));
    assert_eq!((spec.allowed_outbound_hosts.len(), spec.idempotent), (2, true));
    let reuse = spec.reuse.unwrap();
    assert_eq!((reuse.max_calls, reuse.max_idle.as_secs()), (1000, 60));
}

#[test]
fn reuse_is_asked_for_by_a_table_even_an_empty_one() {
    let begin = "name = 'a'\nsource = 'a.wasm'\n";
    for rest in ["reuse = {}", "[reuse]", "reuse = { max_calls = 100, max_idle = '10s' }"] {
        let spec = one(&format!("{begin}{rest}")).spec;
        assert_eq!(model::VersionSpec::try_from(spec).unwrap().reuse, Some(model::Reuse::default()), "{rest}");
    }
    assert_eq!(one(begin).spec.reuse, None);
}

#[test]
fn what_is_left_out_stays_open() {
    let manifest = one("name = 'a'\nsource = 'a.wasm'\n[limits]\n");
    assert_eq!((manifest.public, manifest.direct), (None, None));
    assert!(manifest.build.is_none());
    assert_eq!(model::VersionSpec::try_from(manifest.spec).unwrap(), model::VersionSpec::default());
}

#[test]
fn what_is_wrong_is_named_with_line_and_column() {
    let begin = "name = 'a'\nsource = 'a.wasm'\n";
    for (rest, expected) in [
        ("pubic = true", "m:3:1: unknown field \"pubic\"\n  hint: did you mean \"public\"? known fields: name, "),
        (
            "[limits]\nmemory = '1MiB'\n tiemout = '1s'",
            "m:5:2: unknown field \"tiemout\" in [limits]\n  hint: did you mean \"timeout\"?",
        ),
        ("zzz = 1", "m:3:1: unknown field \"zzz\"\n  hint: known fields: name, "),
        ("[build]\ncomand = 'x'", "m:4:1: unknown field \"comand\" in [build]\n  hint: did you mean \"command\"?"),
        ("[scalling]\nmin = 1", "m:3:2: unknown field \"scalling\"\n  hint: did you mean \"scaling\"?"),
        ("public = 'yes'", "m:3:10: public must be true or false, but is of type string"),
        ("description = 7", "m:3:15: description must be a text in quotes, but is of type integer"),
        ("allowed_outbound_hosts = 'x'", "m:3:26: allowed_outbound_hosts must be a list of texts"),
        ("allowed_outbound_hosts = [1]", "m:3:26: allowed_outbound_hosts must be a list of texts"),
        ("[environment]\nPORT = 8080", "m:4:8: PORT must be a text in quotes, but is of type integer"),
        ("environment = 1", "m:3:15: environment must be a table, but is of type integer"),
        (
            "[limits]\nmemory = '128 monkeys'",
            "m:4:10: memory: \"128 monkeys\" is not a size; write a number and a unit",
        ),
        ("[limits]\nmemory = 128", "m:4:10: memory must be a text in quotes, but is of type integer"),
        ("[limits]\ntimeout = '30'", "m:4:11: timeout: \"30\" is not a duration"),
        ("[limits]\ntimeout = '16m'", "m:4:11: limits.timeout is 960s but must lie between 1ms and 900s"),
        ("[limits]\nmemory = '2GiB'", "m:4:10: limits.memory is 2147483648 but must lie between"),
        ("[scaling]\nmin = -1", "m:4:7: min must be a whole number from 0 on"),
        ("[scaling]\nmin = 5\nmax = 2", "m:4:7: scaling.min is 5 but must lie between 0 and 2"),
        ("reuse = true", "m:3:9: reuse must be a table, but is of type boolean"),
        (
            "reuse = { max_idel = '1s' }",
            "m:3:11: unknown field \"max_idel\" in [reuse]\n  hint: did you mean \"max_idle\"?",
        ),
        ("[reuse]\nmax_calls = 0", "m:4:13: reuse.max_calls is 0 but must lie between 1 and 100000"),
        ("[reuse]\nmax_idle = '2h'", "m:4:12: reuse.max_idle is 7200s but must lie between 1ms and 3600s"),
        ("[reuse]\nmax_concurrent = 2", "m:4:18: reuse.max_concurrent is 2, but several calls at once in one sandbox"),
        ("[environment]\n'A B' = 'x'", "m:4:9: environment variable \"A B\" must have letters"),
        ("[build]\nworkdir = 'x'", "m:3:1: the field \"command\" is missing in [build]"),
        ("name = 'b'", "m:3:1: duplicate key"),
        ("[limits", "m:3:8: "),
    ] {
        let text = Manifest::parse("m", &format!("{begin}{rest}")).unwrap_err();
        assert_eq!(text.exit, Exit::Usage);
        let text = text.text(Style::PLAIN);
        assert!(text.starts_with(&format!("error: {expected}")), "{rest:?} gave {text}");
    }
}

#[test]
fn names_and_sources_are_required_and_checked() {
    for (text, expected) in [
        ("", "error: m:1:1: the field \"name\" is missing\n"),
        ("name = 'a'", "error: m:1:1: the field \"source\" is missing\n"),
        ("name = '../a'\nsource = 'x'", "error: m:1:8: name: function \"../a\" is not valid: "),
        ("name = 'ä'\nsource = 'x'", "error: m:1:8: name: function \"ä\" is not valid: "),
        ("name = 'a'\nsource = ''", "error: m:2:10: source: must not be empty"),
    ] {
        let shown = Manifest::parse("m", text).unwrap_err().text(Style::PLAIN);
        assert!(shown.starts_with(expected), "{text:?} gave {shown}");
    }
}

const APP: &str = r#"
app = "shop"

[functions.pay]
source = "pay.wasm"
public = true

[functions.pay.limits]
memory = "64MiB"

[functions.check-mail]
source = "mail.wasm"

[[routes]]
name = "pay"
path = "/pay/{id}"
host = "api.example.com"
methods = ["post"]
function = "pay:beta"
rewrite = "/v1/{id}"
auth = "jwt"
scopes = ["pay"]
claims = { department = "till", role = ["a", "b"] }
issuers = ["https://issuer.example"]
audiences = ["shop"]
request_headers = { add = ["x-a: 1"], remove = ["cookie"] }
allow = ["10.0.0.0/8"]
compress = true
cache = true

[routes.cors]
origins = ["https://app.example.com"]
methods = ["put"]
max_age = "10m"

[[routes]]
name = "mail"
path = "/mail"
function = "check-mail"
auth = "function:pay"
auth_ttl = "5m"
auth_credential = "header:x-key"

[[routes]]
name = "home"
path = "/"
redirect = "/pay/1"
status = 307

[[routes]]
name = "text"
path = "/text"
respond = "hello"
content_type = "text/plain"

[[routes]]
name = "other"
path = "/other"
function = "elsewhere"
external = true
"#;

#[test]
fn an_app_has_functions_and_routes() {
    let manifest = Manifest::parse("dunlin.toml", APP).unwrap();
    assert_eq!(manifest.app.unwrap().as_str(), "shop");
    let functions: Vec<_> = manifest.functions.iter().map(|it| (it.name.as_str(), it.public)).collect();
    assert_eq!(functions, [("check-mail", None), ("pay", Some(true))]);
    assert_eq!(manifest.functions[1].spec.limits.as_ref().unwrap().memory_bytes, Some(64 << 20));
    let names: Vec<_> = manifest.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["pay", "mail", "home", "text", "other"]);
    let pay = &manifest.routes[0];
    let target = v1::FunctionTarget { function: "pay".into(), alias: "beta".into(), rewrite: "/v1/{id}".into() };
    assert_eq!(pay.target, Some(v1::route::Target::Function(target)));
    assert_eq!(
        (pay.methods[0].as_str(), pay.auth(), pay.compress, pay.cache),
        ("POST", v1::RouteAuth::Jwt, true, true)
    );
    let token = pay.token.as_ref().unwrap();
    assert_eq!((token.claims[0].values.len(), token.claims[1].values.len()), (1, 2));
    assert_eq!(pay.request_headers.as_ref().unwrap().add[0].value, "1");
    let cors = pay.cors.as_ref().unwrap();
    assert_eq!((cors.allow_methods[0].as_str(), cors.max_age.as_ref().unwrap().seconds), ("PUT", 600));
    let authorizer = manifest.routes[1].authorizer.as_ref().unwrap();
    assert_eq!((authorizer.function.as_str(), authorizer.ttl.as_ref().unwrap().seconds), ("pay", 300));
}

#[test]
fn one_function_with_routes_is_an_app_of_its_name() {
    let begin = "name = 'pay'\nsource = 'a.wasm'\n";
    let with = Manifest::parse("m", &format!("{begin}[[routes]]\nname = 'a'\npath = '/a'\nfunction = 'pay'")).unwrap();
    assert_eq!((with.app.unwrap().as_str(), with.routes.len()), ("pay", 1));
    let none = Manifest::parse("m", &format!("{begin}routes = []")).unwrap();
    assert_eq!((none.app.unwrap().as_str(), none.routes.len()), ("pay", 0));
}

#[test]
fn what_is_wrong_with_an_app_is_named_with_line_and_column() {
    let begin = "app = 'shop'\n[functions.pay]\nsource = 'a.wasm'\n";
    let route = "[[routes]]\nname = 'a'\npath = '/a'\n";
    for (rest, expected) in [
        ("sorce = 'x'", "m:4:1: unknown field \"sorce\" in [functions.pay]\n  hint: did you mean \"source\"?"),
        ("name = 'pay'", "m:4:1: unknown field \"name\" in [functions.pay]"),
        ("[functions.mail]\npublic = true", "m:4:1: the field \"source\" is missing in [functions.mail]"),
        ("[functions.Mail]\nsource = 'x'", "m:4:1: function \"Mail\" is not valid"),
        ("[functions.pay.limits]\nmemory = '2GiB'", "m:5:10: limits.memory is 2147483648 but must lie between"),
        ("[functions.pay.limits]\nmemry = '2GiB'", "m:5:1: unknown field \"memry\" in [functions.pay.limits]"),
        ("[routes]\nname = 'a'", "m:4:1: routes must be a list of tables, each of which begins with [[routes]]"),
        ("[[routes]]\npath = '/a'", "m:4:1: the field \"name\" is missing in [[routes]]"),
        ("[[routes]]\nname = 'a'\npath = '/a'\nfunktion = 'pay'", "m:7:1: unknown field \"funktion\" in [[routes]]"),
        (route, "m:6:8: a route has one of the fields function, respond and redirect"),
        (&format!("{route}function = 'pay'\nrespond = 'x'"), "m:6:8: a route has one of the fields"),
        (
            &format!("{route}function = 'mail'"),
            "m:7:12: the manifest declares no function mail\n  hint: declare it, or",
        ),
        (&format!("{route}function = 'pay'\nauth = 'function:mail'"), "m:8:8: the manifest declares no function mail"),
        (&format!("{route}function = 'pay'\nauth = 'all'"), "m:8:8: auth: it must be public, private, jwt, key or"),
        (&format!("{route}function = 'pay'\nstatus = 200"), "m:8:10: status does not go with what the route does"),
        (&format!("{route}respond = 'x'\ncache = true"), "m:8:9: only a function's answers are stored"),
        (&format!("{route}function = 'pay'\nscopes = ['a']"), "m:8:10: the route has a rule for tokens, but"),
        (&format!("{route}function = 'pay'\nallow = ['x']"), "m:8:9: "),
        (
            &format!("{route}function = 'pay'\n[routes.cors]\norigin = ['*']"),
            "m:9:1: unknown field \"origin\" in [routes.cors]\n  hint: did you mean \"origins\"?",
        ),
        (
            &format!("{route}function = 'pay'\nrequest_headers = {{ add = ['x'] }}"),
            "m:8:27: add: it must have the form NAME: VALUE",
        ),
        (
            &format!("{route}function = 'pay'\n[[routes]]\nname = 'a'\npath = '/b'\nfunction = 'pay'"),
            "m:9:8: there are two routes with the name a",
        ),
        (
            &format!("{route}function = 'pay'\n[[routes]]\nname = 'b'\npath = '/a/'\nfunction = 'pay'"),
            "m:10:8: the route b (/a) conflicts with the route a (/a)",
        ),
    ] {
        let failure = Manifest::parse("m", &format!("{begin}{rest}")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let text = failure.text(Style::PLAIN);
        assert!(text.starts_with(&format!("error: {expected}")), "{rest:?} gave {text}");
    }
    for (text, expected) in [
        ("app = 'shop'", "m:1:7: an app has a table for each of its functions"),
        ("app = 'shop'\n[functions]", "m:1:7: an app has a table for each of its functions"),
        ("app = 'Shop'\n[functions.a]\nsource = 'x'", "m:1:7: app: app \"Shop\" is not valid"),
        ("app = 'shop'\nname = 'a'", "m:2:1: unknown field \"name\""),
        ("[functions.a]\nsource = 'x'", "m:1:2: [functions] belongs to an app"),
    ] {
        let shown = Manifest::parse("m", text).unwrap_err().text(Style::PLAIN);
        assert!(shown.starts_with(&format!("error: {expected}")), "{text:?} gave {shown}");
    }
}
