//! The sample's two answers, as text. What comes from the request is escaped, always: it is the caller's.

use crate::request::Request;

/// What to try next, told in both answers.
const NEXT: &str = "dunlin new -t rust my-function";

pub(crate) fn json(greeting: &str, request: &Request) -> String {
    let mut text = String::new();
    for (opening, value) in [
        ("{\n  \"message\": \"", &format!("{greeting} from WebAssembly") as &str),
        ("\",\n  \"method\": \"", &request.method),
        ("\",\n  \"path\": \"", &request.path),
        ("\",\n  \"query\": \"", &request.query),
    ] {
        text.push_str(opening);
        push_json(&mut text, value);
    }
    text.push_str("\",\n  \"body_bytes\": ");
    text.push_str(&request.body_bytes.to_string());
    text.push_str(",\n  \"next\": \"");
    push_json(&mut text, NEXT);
    text.push_str("\"\n}\n");
    text
}

/// Appends what goes between the quotes of a JSON string.
fn push_json(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            // A request's target holds none of these; a variable might.
            control if control < ' ' => text.push(' '),
            other => text.push(other),
        }
    }
}

pub(crate) fn html(greeting: &str, request: &Request) -> String {
    let mut text = String::from(HEAD);
    for (opening, value) in [
        ("<h1>", greeting),
        (" from WebAssembly</h1><p>A function answered you from a sandbox of its own. It saw:</p><pre>", &request.method),
        (" ", &request.path),
        ("</pre><p>Now make your own:</p><pre>", NEXT),
        ("\ncd my-function\n", "dunlin deploy"),
    ] {
        text.push_str(opening);
        push_html(&mut text, value);
    }
    text.push_str("</pre></main></body></html>\n");
    text
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">\
<title>Hello from Dunlin</title><style>body{font:1.1rem/1.5 system-ui,sans-serif;display:grid;min-height:90vh;place-items:center}\
main{max-width:36rem;padding:1rem}pre{overflow-x:auto;padding:.75rem 1rem;border-radius:.5rem;background:#8882}</style></head>\
<body><main>";

fn push_html(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '"' => text.push_str("&quot;"),
            other => text.push(other),
        }
    }
}
