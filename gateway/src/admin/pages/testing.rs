//! Calls a function from its page, for whoever may: a form, what the function answered, and the same call as commands. How it is
//! called is `app/invoke.rs`'s.

use askama::Template;
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
};
use dunlin_proto::{ApiError, ErrorCode, names::FunctionRef, v1};
use serde::Deserialize;

use super::{
    Page, Problem, format, render,
    shell::{Section, Shell, may},
    view::{Badge, visible},
};
use crate::{
    admin::{app::App, fault::Fault, model::Invocation, params::Named, session::Visitor},
    auth::Role,
};

/// Bytes of an answer that are shown.
const SHOWN: usize = 64 << 10;
/// The methods that are offered; others are for commands.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// What to call it with.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sent {
    method: String,
    path: String,
    /// A header in each line, as `name: value`.
    headers: String,
    body: String,
    /// Empty for whichever the traffic goes to.
    version: String,
}

impl Default for Sent {
    fn default() -> Self {
        let [headers, body, version] = [(); 3].map(|()| String::new());
        Self { method: "GET".into(), path: "/".into(), headers, body, version }
    }
}

#[derive(Debug, Template)]
#[template(path = "testing.html")]
struct TestingPage {
    shell: Shell,
    namespace: String,
    name: String,
    methods: [&'static str; 7],
    sent: Sent,
    may_call: bool,
    error: Option<Problem>,
    answer: Option<Answer>,
    /// Empty where there is no line that does the same.
    curl: String,
    /// An address with parameters, where there is no other.
    fill_in: String,
    cli: String,
}

/// What the function answered.
#[derive(Debug)]
struct Answer {
    status: u32,
    state: Badge,
    headers: Vec<(String, String)>,
    body: String,
    /// What the body is, where it is not shown whole.
    note: String,
    facts: Vec<(&'static str, String)>,
    why: String,
}

/// Shows the form.
pub(super) async fn form(State(app): State<App>, Visitor(who): Visitor, Named(name): Named<FunctionRef>) -> Page {
    app.function_get(&who, v1::GetFunctionRequest { name: name.to_string() }).await?;
    page(&app, &who, &name, Sent::default(), None).await
}

/// Calls the function, and shows the form with what came of it.
pub(super) async fn run(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(name): Named<FunctionRef>,
    sent: Result<Form<Sent>, FormRejection>,
) -> Page {
    let Form(mut sent) = sent.map_err(Fault::from)?;
    // Browsers send forms with such ends of lines, whatever was written.
    sent.body = sent.body.replace("\r\n", "\n");
    let outcome = match request(&name, &sent) {
        Ok(request) => app.invoke(&who, request).await,
        Err(error) => Err(error),
    };
    let outcome = match outcome {
        Err(error) if error.code == ErrorCode::PermissionDenied => return Err(Fault(error)),
        outcome => outcome,
    };
    page(&app, &who, &name, sent, Some(outcome)).await
}

async fn page(
    app: &App,
    who: &crate::auth::Principal,
    name: &FunctionRef,
    sent: Sent,
    outcome: Option<Result<v1::InvokeResponse, ApiError>>,
) -> Page {
    let (answer, error) = match outcome {
        Some(Ok(response)) => (Some(Answer::of(response)), None),
        Some(Err(error)) => (None, Some(Problem::from(&error))),
        None => (None, None),
    };
    let function = app.function_get(who, v1::GetFunctionRequest { name: name.to_string() }).await?;
    let urls = function.function.map(|function| function.urls).unwrap_or_default();
    let base = base(&urls);
    render(&TestingPage {
        shell: Shell::new(app, who, Some(&name.namespace), Section::Overview).await,
        namespace: name.namespace.to_string(),
        name: name.function.to_string(),
        methods: METHODS,
        may_call: may(who, &name.namespace, Role::Developer),
        curl: base.and_then(|url| curl(url, &sent)).unwrap_or_default(),
        fill_in: if base.is_none() { fill_in(&urls) } else { String::new() },
        cli: cli(name, &sent),
        sent,
        error,
        answer,
    })
}

/// The call that a form asks for.
fn request(name: &FunctionRef, sent: &Sent) -> Result<v1::InvokeRequest, ApiError> {
    let number = |text: &str| {
        let number = text.trim().trim_start_matches('v');
        number.parse().map_err(|_| ApiError::invalid("version", format!("{text:?} is not the number of a version")))
    };
    let name = match sent.version.trim() {
        "" => name.to_string(),
        version => name.version(number(version)?).to_string(),
    };
    let headers = headers(&sent.headers).map(|line| {
        let (name, value) = line.split_once(':').ok_or_else(|| {
            ApiError::invalid("headers", format!("{line:?} has no colon"))
                .hint("write each header in a line of its own, such as accept: text/html")
        })?;
        Ok(v1::HttpHeader { name: name.trim().to_owned(), value: value.trim().as_bytes().to_vec().into() })
    });
    Ok(v1::InvokeRequest {
        name,
        method: sent.method.clone(),
        path: sent.path.clone(),
        headers: headers.collect::<Result<_, ApiError>>()?,
        body: sent.body.clone().into(),
        ..Default::default()
    })
}

fn headers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

impl Answer {
    fn of(response: v1::InvokeResponse) -> Self {
        let (body, note) = text(&response.body);
        let call = Invocation::from(response.invocation.unwrap_or_default());
        let receipt = &call.receipt;
        let header = |header: v1::HttpHeader| (header.name, visible(&String::from_utf8_lossy(&header.value)));
        Self {
            status: response.status,
            state: Badge::outcome(&call),
            headers: response.headers.into_iter().map(header).collect(),
            body,
            note,
            facts: vec![
                ("Version", format!("v{}", call.version)),
                ("Total", format::micros(call.total_us())),
                ("CPU", format::micros(receipt.cpu_us)),
                ("Memory", format::bytes(receipt.peak_memory_bytes)),
                ("Answer", format::bytes(response.body.len() as u64)),
            ],
            why: format!("/{}", call.name),
        }
    }
}

/// A body as text, and what is to be said of it.
fn text(body: &[u8]) -> (String, String) {
    let whole = format::bytes(body.len() as u64);
    let shown = body.get(..SHOWN).unwrap_or(body);
    let text = match std::str::from_utf8(shown) {
        Ok(text) => text,
        // It may be cut within a character.
        Err(error) if error.error_len().is_none() && shown.len() < body.len() => {
            std::str::from_utf8(shown.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return (String::new(), format!("{whole} that are no text")),
    };
    let note = if shown.len() < body.len() { format!("the beginning of {whole}") } else { String::new() };
    (text.split('\n').map(visible).collect::<Vec<_>>().join("\n"), note)
}

/// A word of a command; what no shell takes is left out.
fn word(text: &str) -> String {
    shlex::try_quote(text).map(Into::into).unwrap_or_default()
}

/// The headers of a form that a request can have.
fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let fields = headers(text).filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()));
    fields.filter(|(name, _)| http::HeaderName::from_bytes(name.as_bytes()).is_ok())
}

/// The address that a call from outside begins with: the function's own, which has all paths below it, before those of its routes.
pub(super) fn base(urls: &[String]) -> Option<&str> {
    let mut ready = urls.iter().map(String::as_str).filter(|url| !has_parameters(url));
    ready.clone().find(|url| url.ends_with('/')).or_else(|| ready.next())
}

/// Whether an address has parameters of a route, which whoever calls fills in.
pub(super) fn has_parameters(url: &str) -> bool {
    url.contains('{')
}

fn fill_in(urls: &[String]) -> String {
    urls.first().cloned().unwrap_or_default()
}

/// The method, where it is not what a command sends anyway.
fn method(sent: &Sent) -> Option<String> {
    let usual = if sent.body.is_empty() { "GET" } else { "POST" };
    (sent.method != usual).then(|| format!("-X {}", word(&sent.method)))
}

fn line(words: impl IntoIterator<Item = String>) -> String {
    words.into_iter().map(|word| format!(" {word}")).collect()
}

/// The line for `curl`; it sends no body with HEAD.
fn curl(url: &str, sent: &Sent) -> Option<String> {
    let is_head = sent.method == "HEAD";
    if is_head && !sent.body.is_empty() {
        return None;
    }
    let url = address(url, &sent.path);
    let mut words: Vec<_> = if is_head { Some("--head".to_owned()) } else { method(sent) }.into_iter().collect();
    // Otherwise it makes several calls of a path, or shortens it.
    words.extend(url.contains(['[', ']', '{', '}']).then(|| "--globoff".to_owned()));
    words.extend(url.contains("/.").then(|| "--path-as-is".to_owned()));
    // With a colon and nothing after it, it leaves a header out.
    words.extend(fields(&sent.headers).map(|(name, value)| match value {
        "" => format!("-H {}", word(&format!("{name};"))),
        value => format!("-H {}", word(&format!("{name}: {value}"))),
    }));
    if !sent.body.is_empty() {
        let has_type = fields(&sent.headers).any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        words.extend((!has_type).then(|| "-H 'Content-Type:'".to_owned()));
        words.push(format!("--data-raw {}", word(&sent.body)));
    }
    Some(format!("curl{} {}", line(words), word(&url)))
}

/// A path below an address; one that does not end in a slash is a route's whole path.
fn address(url: &str, path: &str) -> String {
    let below = match path.strip_prefix('/') {
        Some(rest) if !url.ends_with('/') && (rest.is_empty() || rest.starts_with('?')) => rest,
        _ => path,
    };
    let url = if below.starts_with('/') { url.trim_end_matches('/') } else { url };
    format!("{url}{below}")
}

fn cli(name: &FunctionRef, sent: &Sent) -> String {
    let path = if sent.path == "/" { String::new() } else { format!(" --path {}", word(&sent.path)) };
    let version = match sent.version.trim() {
        "" => String::new(),
        version => format!(" --version {}", word(version.trim_start_matches('v'))),
    };
    let mut words: Vec<_> = method(sent).into_iter().collect();
    words.extend(fields(&sent.headers).map(|(name, value)| format!("-H {}", word(&format!("{name}: {value}")))));
    // The command reads a file or its input for these.
    let is_read = sent.body.starts_with('@') || sent.body == "-";
    let piped = if is_read { format!("printf %s {} | ", word(&sent.body)) } else { String::new() };
    if !sent.body.is_empty() {
        words.push(format!("-d {}", if is_read { "-".to_owned() } else { word(&sent.body) }));
    }
    format!("{piped}dunlin invoke {}{path}{version}{} --namespace {}", name.function, line(words), name.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(method: &str, path: &str, headers: &str, body: &str, version: &str) -> Sent {
        let [method, path, headers, body, version] = [method, path, headers, body, version].map(str::to_owned);
        Sent { method, path, headers, body, version }
    }

    #[test]
    fn the_same_call_is_there_as_commands() {
        let name: FunctionRef = "namespaces/shop/functions/pay".parse().unwrap();
        for (sent, expected_curl, expected_cli) in [
            (Sent::default(), "curl http://h/shop/pay/", "dunlin invoke pay --namespace shop"),
            (
                sent("POST", "/a?b=c d", "x-one: it's\n\n", "{\"a\": 1}", "v3"),
                r#"curl -H "x-one: it's" -H 'Content-Type:' --data-raw '{"a": 1}' 'http://h/shop/pay/a?b=c d'"#,
                r#"dunlin invoke pay --path '/a?b=c d' --version 3 -H "x-one: it's" -d '{"a": 1}' --namespace shop"#,
            ),
            (
                sent("DELETE", "/", "", "", ""),
                "curl -X DELETE http://h/shop/pay/",
                "dunlin invoke pay -X DELETE --namespace shop",
            ),
            (
                sent("POST", "/", "Content-type: a/b\nempty:\n@file: x", "@/etc/passwd", ""),
                "curl -H 'Content-type: a/b' -H 'empty;' --data-raw @/etc/passwd http://h/shop/pay/",
                "printf %s @/etc/passwd | dunlin invoke pay -H 'Content-type: a/b' -H 'empty: ' -d - --namespace shop",
            ),
            (
                sent("POST", "/", "", "-", ""),
                "curl -H 'Content-Type:' --data-raw - http://h/shop/pay/",
                "printf %s - | dunlin invoke pay -d - --namespace shop",
            ),
            (
                sent("HEAD", "/a[1-3]/../{b}", "", "", ""),
                "curl --head --globoff --path-as-is 'http://h/shop/pay/a[1-3]/../{b}'",
                "dunlin invoke pay --path '/a[1-3]/../{b}' -X HEAD --namespace shop",
            ),
        ] {
            assert_eq!(curl("http://h/shop/pay/", &sent).unwrap(), expected_curl);
            assert_eq!(cli(&name, &sent), expected_cli);
        }
        assert_eq!(curl("http://h/", &sent("HEAD", "/", "", "x", "")), None);
    }

    #[test]
    fn a_call_begins_with_an_address_in_which_nothing_is_to_be_filled_in() {
        let found = |urls: &[&str]| base(&urls.iter().map(ToString::to_string).collect::<Vec<_>>()).map(str::to_owned);
        assert_eq!(found(&["http://h/users/{id}", "http://h/me", "http://h/shop/pay/"]).unwrap(), "http://h/shop/pay/");
        assert_eq!(found(&["http://h/users/{id}", "http://h/me"]).unwrap(), "http://h/me");
        assert_eq!(found(&["http://h/users/{id}"]), None);
        for (path, whole) in [("/", "http://h/me"), ("/?a=b", "http://h/me?a=b"), ("/x", "http://h/me/x")] {
            assert_eq!(address("http://h/me", path), whole);
        }
    }

    #[test]
    fn what_no_call_can_be_made_of_is_said() {
        let name: FunctionRef = "namespaces/shop/functions/pay".parse().unwrap();
        for (wrong, field) in
            [(sent("GET", "/", "no colon", "", ""), "headers"), (sent("GET", "/", "", "", "newest"), "version")]
        {
            assert_eq!(request(&name, &wrong).unwrap_err().field.as_deref(), Some(field));
        }
        let called = request(&name, &sent("PUT", "/x", " a:b \r\n c : d", "text", "7")).unwrap();
        assert_eq!(called.name, "namespaces/shop/functions/pay/versions/7");
        let names: Vec<_> = called.headers.iter().map(|header| (header.name.as_str(), &header.value[..])).collect();
        assert_eq!(names, [("a", &b"b"[..]), ("c", b"d")]);
    }

    #[test]
    fn a_body_is_shown_as_far_as_it_is_text() {
        assert_eq!(text(b"one\ntwo"), ("one\ntwo".to_owned(), String::new()));
        assert_eq!(text(&[0xff, 0xfe]).1, "2 B that are no text");
        let long = "ä".repeat(SHOWN);
        let (shown, note) = text(&[b"x", long.as_bytes()].concat());
        assert!(shown.len() < SHOWN && note.starts_with("the beginning of"), "{note}");
    }
}
