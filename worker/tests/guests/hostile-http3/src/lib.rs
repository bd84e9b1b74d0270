//! A function on WASI 0.3 that does to its host what the path says. For the tests of the sandbox only.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

struct Hostile;

/// Calls that this instance has served.
static SERVED: AtomicU32 = AtomicU32::new(0);

wasip3::http::service::export!(Hostile);

/// What becomes of a body after its first bytes.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    End,
    Trap,
    TrapAfterEnd,
    Loop,
    Endless,
    Wait,
}

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let served = SERVED.fetch_add(1, Relaxed);
        let path = request.get_path_with_query().unwrap_or_default();
        match path.as_str() {
            "/count" => return Ok(respond_with(Then::End, served.to_string())),
            "/leave" => leave(),
            "/loop" => burn(),
            "/sleep" => wasip3::clocks::monotonic_clock::wait_for(3_600_000_000_000).await,
            "/panic" => panic!("on purpose"),
            "/memory" => take_memory(),
            "/handles" => hoard(),
            "/error" => return Err(ErrorCode::InternalError(Some("on purpose".to_owned()))),
            "/forward" => return Ok(forward(request)),
            "/status" => return Ok(with_status(103)),
            "/trap-in-body" => return Ok(respond(Then::Trap)),
            "/trap-after-body" => return Ok(respond(Then::TrapAfterEnd)),
            "/loop-in-body" => return Ok(respond(Then::Loop)),
            "/endless" => return Ok(respond(Then::Endless)),
            "/wait-in-body" => return Ok(respond(Then::Wait)),
            _ => {}
        }
        Ok(respond(Then::End))
    }
}

/// Leaves an end of a stream open for good.
fn leave() {
    let (writer, reader) = wit_stream::new::<u8>();
    std::mem::forget((writer, reader));
}

fn burn() {
    loop {
        std::hint::black_box(());
    }
}

fn take_memory() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(vec![1; 1 << 20]);
    }
}

fn hoard() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(Fields::new());
    }
}

fn with_status(status: u16) -> Response {
    let response = respond(Then::End);
    response.set_status_code(status).unwrap();
    response
}

fn respond(then: Then) -> Response {
    respond_with(then, "some".to_owned())
}

fn respond_with(then: Then, text: String) -> Response {
    let (mut body, contents) = wit_stream::new();
    let (trailers, trailers_read) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers_read);
    spawn_local(async move {
        body.write_all(text.into_bytes()).await;
        match then {
            Then::End => {}
            Then::Trap => panic!("in the body"),
            Then::Loop => burn(),
            Then::Endless => while body.write_all(vec![b'x'; 60_000]).await.is_empty() {},
            Then::Wait => wasip3::clocks::monotonic_clock::wait_for(3_600_000_000_000).await,
            Then::TrapAfterEnd => {
                drop(body);
                wasip3::clocks::monotonic_clock::wait_for(20_000_000).await;
                panic!("after the body");
            }
        }
    });
    response
}

/// Sends the request's body back without touching it.
fn forward(request: Request) -> Response {
    let (result, result_read) = wit_future::new(|| Ok(()));
    drop(result);
    let (contents, trailers) = Request::consume_body(request, result_read);
    Response::new(Fields::new(), Some(contents), trailers).0
}
