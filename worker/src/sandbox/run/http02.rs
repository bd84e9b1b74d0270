//! Calls `wasi:http/incoming-handler@0.2`: the guest sets a response and writes its body while we deliver it.

use std::path::Path;

use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::super::body::CountedBody;
use super::super::delivery::Delivery;
use super::super::outcome::Failure;
use super::super::state::State;
use super::classify;

pub(super) async fn run(
    store: &mut Store<State>,
    proxy: &Proxy,
    request: http::Request<CountedBody>,
    delivery: &Delivery,
    again: bool,
    code: &Path,
) -> Result<(), Failure> {
    let (sender, receiver) = oneshot::channel();
    let scheme = if request.uri().scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    let internal = |error: wasmtime::Error| Failure::Internal(format!("{error:#}"));
    let request = store.data_mut().http().new_incoming_request(scheme, request).map_err(internal)?;
    let out = store.data_mut().http().new_response_outparam(sender).map_err(internal)?;
    let guest = async {
        let meter = store.data().meter.clone();
        proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut *store, request, out)
            .await
            .map_err(|error| classify(&error, &meter, code))?;
        store.data_mut().settle(again);
        Ok(())
    };
    let deliver = async {
        let response = receiver.await.map_err(|_| Failure::NoResponse)?;
        let response = response.map_err(|code| Failure::GuestError(format!("{code:?}")))?;
        delivery.respond(response).await
    };
    delivery.beside(guest, deliver).await
}
