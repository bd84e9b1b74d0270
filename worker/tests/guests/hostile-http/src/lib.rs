//! A function on WASI 0.2 that does to its host what the path says. For the tests of the sandbox only.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

struct Hostile;

/// Calls that this instance has served.
static SERVED: AtomicU32 = AtomicU32::new(0);

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let served = SERVED.fetch_add(1, Relaxed);
        if served > 0 && std::env::var_os("ONCE").is_some() {
            panic!("one call is enough");
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/loop" => loop {
                std::hint::black_box(());
            },
            "/sleep" => std::thread::sleep(Duration::from_secs(3600)),
            "/memory" => take_memory(),
            "/panic" => panic!("on purpose"),
            "/exit" => std::process::exit(3),
            "/silent" => {}
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("on purpose".to_owned())))),
            "/leak-out" => std::mem::forget(out),
            "/handles" => hoard(),
            "/headers" => big_headers(out),
            "/status" => ResponseOutparam::set(out, Ok(with_status(query.parse().unwrap()))),
            "/length" => wrong_length(out, query.parse().unwrap()),
            "/fields" => answer(out, &try_fields()),
            "/endless" => endless(out, &[b'x'; 4096]),
            "/empty" => endless(out, &[]),
            "/unfinished" => drop(start(out)),
            "/leak-body" => std::mem::forget(start(out)),
            "/trap-after-body" => {
                answer(out, "whole");
                panic!("after the body");
            }
            "/trap-in-body" => {
                let body = start(out);
                write(&body, b"half");
                panic!("in the body");
            }
            "/loop-after-body" => {
                answer(out, "whole");
                loop {
                    std::hint::black_box(());
                }
            }
            "/env" => answer(
                out,
                &format!("{:?} {:?}", std::env::vars().collect::<Vec<_>>(), std::env::args().collect::<Vec<_>>()),
            ),
            "/fs" => answer(out, &try_files()),
            "/sockets" => answer(out, &try_sockets()),
            "/clock" => answer(out, &clock_steps()),
            "/random" => {
                answer(out, &wasip2::random::random::get_random_bytes(query.parse().unwrap()).len().to_string())
            }
            "/count" => answer(out, &served.to_string()),
            "/keep" => {
                std::mem::forget(vec![1_u8; query.parse().unwrap()]);
                answer(out, "kept");
            }
            "/hold" => {
                std::mem::forget(Fields::new());
                answer(out, "held");
            }
            "/print" => print(query.parse().unwrap(), out),
            "/outbound" => answer(out, &outbound(query)),
            "/many-outbound" => answer(out, &many_outbound(query)),
            _ => answer(out, "fine"),
        }
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

fn with_status(status: u16) -> OutgoingResponse {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).unwrap();
    response
}

fn big_headers(out: ResponseOutparam) {
    let fields = Fields::new();
    for index in 0..100_000 {
        if fields.append(&format!("x-{index}"), &[b'v'; 1000]).is_err() {
            break;
        }
    }
    ResponseOutparam::set(out, Ok(OutgoingResponse::new(fields)));
}

fn wrong_length(out: ResponseOutparam, length: u64) {
    let fields = Fields::new();
    fields.append("content-length", length.to_string().as_bytes()).unwrap();
    let response = OutgoingResponse::new(fields);
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let _ = body.write().unwrap().blocking_write_and_flush(b"abc");
    let _ = OutgoingBody::finish(body, None);
}

/// Names of fields that a guest may set and may not.
fn try_fields() -> String {
    let names = [
        "connection",
        "host",
        "transfer-encoding",
        "upgrade",
        "keep-alive",
        "te",
        "trailer",
        "x-fine",
        "bad name",
        "x\r\ny",
    ];
    let tried = names.map(|name| format!("{name:?} {}", Fields::new().append(name, b"v").is_ok()));
    let value = Fields::new().append("x", b"a\r\nb").is_ok();
    format!("{} crlf {value}", tried.join(", "))
}

fn start(out: ResponseOutparam) -> OutgoingBody {
    let response = with_status(200);
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

fn answer(out: ResponseOutparam, text: &str) {
    let body = start(out);
    write(&body, text.as_bytes());
    OutgoingBody::finish(body, None).unwrap();
}

fn write(body: &OutgoingBody, bytes: &[u8]) {
    let stream = body.write().unwrap();
    for piece in bytes.chunks(4096) {
        stream.blocking_write_and_flush(piece).unwrap();
    }
}

/// Writes until the host has had enough.
fn endless(out: ResponseOutparam, piece: &[u8]) {
    let body = start(out);
    let stream = body.write().unwrap();
    loop {
        match stream.blocking_write_and_flush(piece) {
            Ok(()) => {}
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => break,
        }
    }
}

fn try_files() -> String {
    let read = |path: &str| {
        format!("{path}: {}", std::fs::read(path).map_or_else(|error| error.kind().to_string(), |_| "READ".to_owned()))
    };
    let write = std::fs::write("/tmp/x", "x").map_or("refused", |()| "WRITTEN");
    let listed = std::fs::read_dir("/").map_or("refused", |_| "LISTED");
    let preopened = wasip2::filesystem::preopens::get_directories().len();
    [
        read("/etc/passwd"),
        read("../../etc/passwd"),
        read("/proc/self/environ"),
        read("."),
        format!("{write} {listed} {preopened}"),
    ]
    .join("\n")
}

fn try_sockets() -> String {
    let tcp = std::net::TcpStream::connect("127.0.0.1:1")
        .map_or_else(|error| error.kind().to_string(), |_| "CONNECTED".to_owned());
    let bind =
        std::net::UdpSocket::bind("127.0.0.1:0").map_or_else(|error| error.kind().to_string(), |_| "BOUND".to_owned());
    let listen = std::net::TcpListener::bind("127.0.0.1:0")
        .map_or_else(|error| error.kind().to_string(), |_| "LISTENING".to_owned());
    let name = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1))
        .map_or_else(|error| error.kind().to_string(), |_| "RESOLVED".to_owned());
    [tcp, bind, listen, name].join(", ")
}

/// The smallest step between two different readings of the clock, and its resolution, in nanoseconds.
fn clock_steps() -> String {
    let now = wasip2::clocks::monotonic_clock::now;
    let mut smallest = u64::MAX;
    for _ in 0..5 {
        let began = now();
        let mut later = now();
        while later == began {
            later = now();
        }
        smallest = smallest.min(later - began);
    }
    format!("{smallest} {}", wasip2::clocks::monotonic_clock::resolution())
}

fn print(lines: u32, out: ResponseOutparam) {
    for line in 0..lines {
        println!("line {line}");
        eprintln!("error {line}\u{1b}[31m");
    }
    answer(out, "printed");
}

/// `scheme|authority|path[|timeout in ns]`, as a request with a header and without any check by a client library.
fn request(what: &str) -> Result<u16, String> {
    let mut parts = what.split('|');
    let (scheme, authority, path) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let fields = Fields::new();
    let _ = fields.append("dunlin-depth", b"0");
    let request = OutgoingRequest::new(fields);
    request.set_method(&Method::Get).map_err(|()| "method")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_scheme(Some(&scheme)).map_err(|()| "scheme refused")?;
    request.set_authority(Some(authority)).map_err(|()| "authority refused")?;
    request.set_path_with_query(Some(path)).map_err(|()| "path refused")?;
    let options = RequestOptions::new();
    if let Some(timeout) = parts.next().and_then(|text| text.parse().ok()) {
        options.set_connect_timeout(Some(timeout)).map_err(|()| "timeout refused")?;
        options.set_first_byte_timeout(Some(timeout)).map_err(|()| "timeout refused")?;
        options.set_between_bytes_timeout(Some(timeout)).map_err(|()| "timeout refused")?;
    }
    let future = outgoing_handler::handle(request, Some(options)).map_err(|code| format!("{code:?}"))?;
    future.subscribe().block();
    let response = future.get().ok_or("not ready")?.map_err(|()| "taken")?.map_err(|code| format!("{code:?}"))?;
    let status = response.status();
    let body = response.consume().map_err(|()| "no body")?;
    let stream = body.stream().map_err(|()| "no stream")?;
    loop {
        match stream.blocking_read(65536) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(status),
            Err(StreamError::LastOperationFailed(error)) => return Err(format!("body: {}", error.to_debug_string())),
        }
    }
}

fn outbound(what: &str) -> String {
    match request(what) {
        Ok(status) => format!("status {status}"),
        Err(error) => error,
    }
}

/// `count|scheme|authority|path`: how many came through, and the last error.
fn many_outbound(what: &str) -> String {
    let (count, what) = what.split_once('|').unwrap();
    let results: Vec<_> = (0..count.parse().unwrap()).map(|_| request(what)).collect();
    let last = results.iter().rev().find_map(|result| result.as_ref().err()).cloned().unwrap_or_default();
    format!("{} {last}", results.iter().filter(|result| result.is_ok()).count())
}
