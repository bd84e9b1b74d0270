//! `dunlin invoke`: calls a function through the administration listener, as the developer that one is.
//!
//! The body of the answer is the data; status, headers and receipt are talk, except in JSON, which has everything.

use std::{
    io::{self, IsTerminal, Read},
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use clap::Args;
use dunlin_proto::{ids::VersionNumber, v1};
use serde_json::json;

use crate::{
    client::answer,
    exit::{Exit, Failure},
    output::{Output, Style, printable},
    session::{AliasArg, Session},
    units,
    view::{
        invocation::InvocationView,
        trace::{self, SpanView},
    },
};

/// The largest body that this way takes, in bytes.
const MAX_BODY_BYTES: u64 = 6 << 20;

/// Arguments of `dunlin invoke`.
#[derive(Args)]
pub(crate) struct InvokeArgs {
    /// Function to call, as NAME or NAMESPACE/NAME, or by one of its aliases, as NAME:ALIAS
    name: AliasArg,
    /// Body: a text, @FILE, or - for standard input
    #[arg(short, long, value_name = "TEXT|@FILE|-", allow_hyphen_values = true)]
    data: Option<String>,
    /// Method; by default GET without a body and POST with one
    #[arg(short = 'X', long, value_name = "METHOD", value_parser = method)]
    method: Option<String>,
    /// A header, such as 'content-type: application/json'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<v1::HttpHeader>,
    /// Path and query that the function sees
    #[arg(long, default_value = "/", value_parser = path)]
    path: String,
    /// Call this version, whether it has traffic or not
    #[arg(long, value_name = "N")]
    version: Option<VersionNumber>,
    /// Show status, headers and receipt on standard error
    #[arg(short, long, visible_short_alias = 'v', visible_alias = "verbose")]
    include: bool,
    /// Have its trace taken, and show where its time went on standard error
    #[arg(long)]
    trace: bool,
}

fn method(text: &str) -> Result<String, String> {
    http::Method::from_bytes(text.as_bytes())
        .map(|method| method.to_string())
        .map_err(|_| "it is not a method of HTTP".to_owned())
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("it must begin with /".to_owned()) }
}

fn header(text: &str) -> Result<v1::HttpHeader, String> {
    let (name, value) = text.split_once(':').ok_or("it must have a colon between name and value")?;
    let name = http::header::HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_| format!("{:?} is not the name of a header", name.trim()))?;
    let value = http::header::HeaderValue::from_str(value.trim_matches([' ', '\t']))
        .map_err(|_| format!("the value of {name} has characters that no header has"))?;
    Ok(v1::HttpHeader { name: name.to_string(), value: Bytes::copy_from_slice(value.as_bytes()) })
}

/// Runs it.
pub(crate) async fn run(args: InvokeArgs, session: &Session) -> Result<Exit, Failure> {
    let body = args.data.as_deref().map(body).transpose()?.unwrap_or_default();
    let client = session.connect().await?;
    let function = args.name.function.in_target(client.target());
    let name = match (args.version, args.name.alias) {
        (Some(_), Some(_)) => return Err(Failure::usage("an alias and a version can't be called at once")),
        (Some(number), None) => function.version(number).to_string(),
        (None, Some(alias)) => function.alias(alias).to_string(),
        (None, None) => function.to_string(),
    };
    let default = if args.data.is_some() { "POST" } else { "GET" };
    let request = v1::InvokeRequest {
        name,
        method: args.method.unwrap_or_else(|| default.to_owned()),
        path: args.path,
        headers: args.headers,
        body,
        trace: args.trace,
    };
    let response = answer(client.invocations().invoke(request).await)?;
    let status = response.status;
    print(&response, args.include, session.output)?;
    if !session.output.is_json() {
        show_trace(&response, session.output);
    }
    Ok(if status >= 400 { Exit::FunctionFailed } else { Exit::Ok })
}

/// The body that `-d` asks for.
fn body(data: &str) -> Result<Bytes, Failure> {
    let too_large = |bytes: u64| {
        let limit = units::size(MAX_BODY_BYTES);
        let failure = Failure::usage(format!("the body has {}, but {limit} is the most here", units::size(bytes)));
        failure.hint("send larger ones to the function's own URL, where they stream")
    };
    let bytes = match (data, data.strip_prefix('@')) {
        ("-", _) => {
            let mut bytes = Vec::new();
            io::stdin().lock().take(MAX_BODY_BYTES + 1).read_to_end(&mut bytes)?;
            bytes
        }
        (_, Some(file)) => read_file(Path::new(file), too_large)?,
        _ => data.as_bytes().to_vec(),
    };
    if bytes.len() as u64 > MAX_BODY_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes.into())
}

fn read_file(file: &Path, too_large: impl Fn(u64) -> Failure) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: io::Error| Failure::usage(format!("cannot read {}", file.display())).because(error);
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_BODY_BYTES {
        return Err(too_large(size));
    }
    std::fs::read(file).map_err(unreadable)
}

fn print(response: &v1::InvokeResponse, include: bool, output: Output) -> Result<(), Failure> {
    let call = InvocationView::from(response.invocation.clone().unwrap_or_default());
    if output.is_json() {
        return output.json(&as_json(response, &call));
    }
    if include {
        output.warn(head(response, &call));
    } else if response.status >= 400 && response.trace.as_ref().is_none_or(|trace| trace.spans.is_empty()) {
        let lines: Vec<_> = call.error.lines().map(printable).collect();
        let why = if lines.is_empty() { String::new() } else { format!(": {}", lines.join("\n")) };
        output.warn(format!("{} status {}{why}", Style::of_stderr().bad("error:"), response.status));
    }
    if !io::stdout().is_terminal() {
        return output.bytes(&response.body);
    }
    output.text(&for_terminal(&response.body))
}

/// Where the time of the call went, below what it brought.
fn show_trace(response: &v1::InvokeResponse, output: Output) {
    let (Some(sent), Some(tree)) = (&response.trace, trace::asked_for(response)) else { return };
    if !tree.branches.is_empty() {
        output.warn(trace::text(&tree, Style::of_stderr()).trim_end());
    }
    if !sent.note.is_empty() {
        output.note(format!("note: {}", printable(&sent.note)));
    }
}

/// A body as a terminal can take it.
fn for_terminal(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let lines = text.split('\n').map(|line| printable(line.trim_end_matches('\r')).into_owned());
    let text = lines.collect::<Vec<_>>().join("\n");
    if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
}

/// Status, headers and receipt.
fn head(response: &v1::InvokeResponse, call: &InvocationView) -> String {
    let mut lines = vec![format!("status: {}", response.status)];
    for header in &response.headers {
        lines.push(format!("{}: {}", printable(&header.name), printable(&String::from_utf8_lossy(&header.value))));
    }
    lines.push(format!("invocation: {} on v{}, {}", call.id, call.version, printable(&call.outcome)));
    lines.push(format!("receipt: {}", call.receipt.text()));
    if !call.error.is_empty() {
        lines.push(format!("error: {}", printable(&call.error)));
    }
    lines.join("\n")
}

/// The whole answer: the body as text where it is text, else in base 64.
fn as_json(response: &v1::InvokeResponse, call: &InvocationView) -> serde_json::Value {
    let headers = response
        .headers
        .iter()
        .map(|header| json!({ "name": header.name, "value": String::from_utf8_lossy(&header.value) }));
    let (text, base64) = match std::str::from_utf8(&response.body) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(BASE64_STANDARD.encode(&response.body))),
    };
    let mut answer = json!({
        "status": response.status, "headers": headers.collect::<Vec<_>>(),
        "body": text, "body_base64": base64, "invocation": call,
    });
    if let (Some(trace), Some(answer)) = (trace_as_json(response), answer.as_object_mut()) {
        answer.insert("trace".to_owned(), trace);
    }
    answer
}

/// Where the time of the call went, where somebody asked.
fn trace_as_json(response: &v1::InvokeResponse) -> Option<serde_json::Value> {
    let (sent, tree) = (response.trace.as_ref()?, trace::asked_for(response)?);
    let spans: Vec<_> = tree.branches.iter().map(SpanView::from).collect();
    Some(json!({ "trace_id": sent.trace_id, "exported": sent.exported, "note": sent.note, "spans": spans }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_methods_are_checked_before_they_travel() {
        let good = header("Content-Type:  text/plain ").unwrap();
        assert_eq!((good.name.as_str(), &good.value[..]), ("content-type", &b"text/plain"[..]));
        for bad in ["no colon", ": x", "a b: c", "a: \r\nx"] {
            assert!(header(bad).is_err(), "{bad:?}");
        }
        assert!(method("PATCH").is_ok() && method("GET /").is_err() && path("x").is_err());
    }

    #[test]
    fn a_body_is_a_text_or_a_file() {
        assert_eq!(body("hello").unwrap(), "hello");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b");
        std::fs::write(&file, [0, 159, 146]).unwrap();
        assert_eq!(body(&format!("@{}", file.display())).unwrap()[..], [0, 159, 146]);
        assert_eq!(body("@/nowhere/at/all").unwrap_err().exit, Exit::Usage);
        std::fs::File::create(&file).unwrap().set_len(MAX_BODY_BYTES + 1).unwrap();
        assert_eq!(body(&format!("@{}", file.display())).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(for_terminal(b"a\r\nb\x1b[2J"), "a\nb\\u{1b}[2J\n");
        assert_eq!(for_terminal(b""), "");
    }

    #[test]
    fn a_body_that_is_not_text_is_base_64() {
        let response = v1::InvokeResponse { status: 200, body: Bytes::from_static(&[255, 0]), ..Default::default() };
        let json = as_json(&response, &InvocationView::from(v1::Invocation::default()));
        assert_eq!((json["body"].as_str(), json["body_base64"].as_str()), (None, Some("/wA=")));
    }
}
