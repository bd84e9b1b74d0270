//! An HTTP function in Rust on WASI 0.3 (`wasi:http/handler`, natively asynchronous), by the crate `wasip3` and the types
//! of the crate `http`. Its sibling `rust` does the same on WASI 0.2.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::json;
use wasip3::http::types::{self, ErrorCode};
use wasip3::http_compat::{IncomingRequestBody, http_from_wasi_request, http_into_wasi_response};

type Body = UnsyncBoxBody<Bytes, ErrorCode>;

struct Hello;

wasip3::http::service::export!(Hello);

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        http_into_wasi_response(answer(http_from_wasi_request(request)?)?)
    }
}

fn answer(request: Request<IncomingRequestBody>) -> Result<Response<Body>, ErrorCode> {
    // What a function prints becomes its log: `dunlin logs hello-rust-p3`.
    println!("{} {}", request.method(), request.uri().path());
    let response = Response::builder();
    let response = match *request.method() {
        Method::GET => response
            .header("content-type", "application/json")
            .body(full(hello(&request))),
        Method::POST => echo(request),
        _ => response
            .status(StatusCode::METHOD_NOT_ALLOWED)
            .header("allow", "GET, POST")
            .body(full("this function answers GET and POST\n".to_owned())),
    };
    response.map_err(|error| ErrorCode::InternalError(Some(error.to_string())))
}

/// Greets, and shows where it was called.
fn hello(request: &Request<IncomingRequestBody>) -> String {
    // The only environment variables that a function sees are the ones that its dunlin.toml declares.
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
    let answer = json!({
        "message": format!("{greeting} from Rust on WASI 0.3"),
        "method": request.method().as_str(),
        "path": request.uri().path(),
    });
    format!("{answer}\n")
}

/// Sends the body back as it arrives: it is streamed, never held whole in memory.
fn echo(request: Request<IncomingRequestBody>) -> http::Result<Response<Body>> {
    let mut response = Response::builder();
    if let Some(content_type) = request.headers().get("content-type") {
        response = response.header("content-type", content_type);
    }
    response.body(request.into_body().boxed_unsync())
}

fn full(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}
