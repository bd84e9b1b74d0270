//! Calls `wasi:http/handler@0.3`: async, the response may come before the guest is done.

use std::future::poll_fn;
use std::path::Path;

use futures::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::oneshot;
use wasmtime::component::{Access, Accessor};
use wasmtime::{AsContextMut, Store};
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{Error as HttpError, WasiHttpView};

use super::super::body::CountedBody;
use super::super::delivery::Delivery;
use super::super::outcome::Failure;
use super::super::state::State;
use super::classify;

/// Turns of the store's tasks after a call's end, for a sandbox that is to be used again.
const TURNS: u32 = 8;

type Answer = Result<http::Response<UnsyncBoxBody<bytes::Bytes, HttpError>>, Failure>;

pub(super) async fn run(
    store: &mut Store<State>,
    service: &Service,
    request: http::Request<CountedBody>,
    delivery: &Delivery,
    again: bool,
    code: &Path,
) -> Result<(), Failure> {
    let meter = store.data().meter.clone();
    let (sender, receiver) = oneshot::channel();
    let (delivering, delivered) = oneshot::channel::<()>();
    let guest = async {
        let run = async |accessor: &Accessor<State>| {
            handle(accessor, service, request, sender).await?;
            // A body that comes from the host (the request's, sent back) needs the store without any task of the guest.
            let _ = delivered.await;
            if again {
                settled(accessor).await;
            }
            Ok(())
        };
        let ended = store.run_concurrent(run).await;
        ended.and_then(|inner| inner).map_err(|error| classify(&error, &meter, code))
    };
    let deliver = async {
        let answer: Answer = receiver.await.map_err(|_| Failure::NoResponse)?;
        let _delivering = delivering;
        delivery.respond(answer?).await
    };
    delivery.beside(guest, deliver).await
}

/// Gives what has ended with the call a few turns to be cleared away.
async fn settled(accessor: &Accessor<State>) {
    for _ in 0..TURNS {
        let is_empty = |mut access: Access<'_, State>| {
            access.as_context_mut().concurrent_resource_table().is_none_or(|table| table.is_empty())
        };
        if accessor.with(is_empty) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Runs the handler, passes its answer out, and waits until the guest has no task left.
async fn handle(
    accessor: &Accessor<State>,
    service: &Service,
    request: http::Request<CountedBody>,
    sender: oneshot::Sender<Answer>,
) -> wasmtime::Result<()> {
    let (request, request_result) = accessor.with(|mut store| {
        let (request, result) = Request::from_http(store.data_mut().http().hooks, request);
        let result: BoxFuture<'static, _> = Box::pin(result);
        (request, result)
    });
    let answer = match service.handle(accessor, request).await? {
        Ok(response) => accessor
            .with(|store| response.into_http(store, request_result))
            .map_err(|error| Failure::InvalidResponse(format!("{error:#}"))),
        Err(code) => Err(Failure::GuestError(format!("{code:?}"))),
    };
    let _ = sender.send(answer);
    // The body is a stream that a task of the guest still writes; that task keeps the store busy until it is done.
    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
    Ok(())
}
