//! A guest for benchmarks that does as much as it is told, and needs no files for it.
//!
//! `?work=N` counts the steps of the Collatz sequences from 1 to N, the same sum in every language of `bench/guests`;
//! `?sleep=MS` answers late; `?bytes=N` answers with so many bytes, which may be stored for an hour; `?say=1` prints a line.

use wstd::http::{Body, Error, Request, Response};
use wstd::time::Duration;

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let query = request.uri().query().unwrap_or_default();
    let number = |name: &str| query.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok();
    if let Some(milliseconds) = number("sleep") {
        wstd::task::sleep(Duration::from_millis(milliseconds)).await;
    }
    if number("say").is_some() {
        println!("a call was answered as it was asked for");
    }
    if let Some(bytes) = number("bytes") {
        let body = "x".repeat(usize::try_from(bytes.min(1 << 20)).unwrap_or_default());
        return Ok(Response::builder().header("cache-control", "public, max-age=3600").body(body.into())?);
    }
    let steps = steps(number("work").unwrap_or(0));
    Ok(Response::new(format!("{steps}\n").into()))
}

/// The steps of all Collatz sequences that begin with 1 to `most`.
fn steps(most: u64) -> u64 {
    let mut steps = 0;
    for start in 1..=most {
        let mut value = start;
        while value != 1 {
            value = if value % 2 == 0 { value / 2 } else { 3 * value + 1 };
            steps += 1;
        }
    }
    steps
}
