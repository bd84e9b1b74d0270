//! The function that `dunlin up` starts with: it answers every request with what it saw of it and what to try next, as a page
//! to browsers and as JSON to everyone else. It uses nothing but `wasi:http`, to be small: it is part of the command.

mod page;
mod request;

use request::Request;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

/// The most that WASI takes in one blocking write, in bytes.
const WRITE_LIMIT: usize = 4096;

struct Sample;

wasip2::http::proxy::export!(Sample);

impl wasip2::exports::http::incoming_handler::Guest for Sample {
    fn handle(incoming: IncomingRequest, out: ResponseOutparam) {
        let request = Request::read(incoming);
        println!("{} {}", request.method, request.path);
        let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
        let (content_type, body) = if request.wants_html {
            ("text/html; charset=utf-8", page::html(&greeting, &request))
        } else {
            ("application/json", page::json(&greeting, &request))
        };
        // A head request has no body to send; a caller who left needs none.
        let body = if request.method == "HEAD" { String::new() } else { body };
        if send(out, content_type, body.as_bytes()).is_err() {
            eprintln!("the caller went away before the answer was sent");
        }
    }
}

fn send(out: ResponseOutparam, content_type: &str, bytes: &[u8]) -> Result<(), StreamError> {
    let headers = Fields::new();
    // The names are valid and the fields are new: setting them cannot fail.
    let _ = headers.set("content-type", &[content_type.as_bytes().to_vec()]);
    let _ = headers.set("vary", &[b"accept".to_vec()]);
    let response = OutgoingResponse::new(headers);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return Ok(()) };
    {
        let Ok(stream) = body.write() else { return Ok(()) };
        for piece in bytes.chunks(WRITE_LIMIT) {
            stream.blocking_write_and_flush(piece)?;
        }
    }
    OutgoingBody::finish(body, None).map_err(|_| StreamError::Closed)
}
