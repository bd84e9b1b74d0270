//! An HTTP function in Rust on WASI 0.2 (`wasi:http/incoming-handler`), by the crate `wstd`. Its sibling `rust-p3` does
//! the same on WASI 0.3.

use serde_json::json;
use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    // What a function prints becomes its log: `dunlin logs hello-rust`.
    println!("{} {}", request.method(), request.uri().path());
    match *request.method() {
        Method::GET => hello(&request),
        Method::POST => echo(request),
        _ => Ok(Response::builder()
            .status(StatusCode::METHOD_NOT_ALLOWED)
            .header("allow", "GET, POST")
            .body("this function answers GET and POST\n".into())?),
    }
}

/// Greets, and shows where it was called.
fn hello(request: &Request<Body>) -> Result<Response<Body>, Error> {
    // The only environment variables that a function sees are the ones that its dunlin.toml declares.
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
    let answer = json!({
        "message": format!("{greeting} from Rust"),
        "method": request.method().as_str(),
        "path": request.uri().path(),
    });
    Ok(Response::builder()
        .header("content-type", "application/json")
        .body(format!("{answer}\n").into())?)
}

/// Sends the body back as it arrives: it is streamed, never held whole in memory.
fn echo(request: Request<Body>) -> Result<Response<Body>, Error> {
    let mut response = Response::builder();
    if let Some(content_type) = request.headers().get("content-type") {
        response = response.header("content-type", content_type);
    }
    Ok(response.body(request.into_body())?)
}
