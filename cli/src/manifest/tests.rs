//! Tables of manifests, good and bad.

use super::*;
use crate::{exit::Exit, output::Style};

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
    let manifest = Manifest::parse("dunlin.toml", WHOLE).unwrap();
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
        let spec = Manifest::parse("m", &format!("{begin}{rest}")).unwrap().spec;
        assert_eq!(model::VersionSpec::try_from(spec).unwrap().reuse, Some(model::Reuse::default()), "{rest}");
    }
    assert_eq!(Manifest::parse("m", begin).unwrap().spec.reuse, None);
}

#[test]
fn what_is_left_out_stays_open() {
    let manifest = Manifest::parse("dunlin.toml", "name = 'a'\nsource = 'a.wasm'\n[limits]\n").unwrap();
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
