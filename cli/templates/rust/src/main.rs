//! The function {{name}}: an HTTP handler on WASI 0.2.

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    // What a function prints becomes its log: `dunlin logs {{name}}`.
    println!("{} {}", request.method(), request.uri().path());

    // The variables that dunlin.toml declares.
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
    let answer = format!("{greeting} from {{name}}, at {}\n", request.uri().path());
    Ok(Response::builder().header("content-type", "text/plain; charset=utf-8").body(answer.into())?)
}
