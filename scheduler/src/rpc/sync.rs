//! `SyncService`: the streams by which workers and gateways stay in step. What they report is bounded here; what they are
//! sent is always the newest state, and a slow reader skips the states between.

mod gateway;
mod quota;
mod report;
mod usage;
mod worker;

use std::{future::Future, pin::Pin, time::Duration};

use dunlin_proto::{
    ApiError, ErrorCode, PROTOCOL_VERSION,
    ids::VersionKey,
    internal::v1::{self as wire, sync_service_server::SyncService},
    limit::LimitId,
    model::to_wire_duration,
    trust::{Role, permit},
};
use futures::Stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Desk, name};

/// How long a stream may take to say who opens it.
const HELLO: Duration = Duration::from_secs(5);

type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SyncService for Desk {
    type SyncWorkerStream = Updates<wire::SyncWorkerResponse>;
    type SyncGatewayStream = Updates<wire::SyncGatewayResponse>;

    async fn sync_worker(
        &self,
        request: Request<Streaming<wire::SyncWorkerRequest>>,
    ) -> Result<Response<Self::SyncWorkerStream>, Status> {
        let caller = permit(&request, &[Role::Worker])?;
        let updates = worker::open(self, &caller, request.into_inner()).await?;
        Ok(Response::new(Box::pin(updates)))
    }

    async fn sync_gateway(
        &self,
        request: Request<Streaming<wire::SyncGatewayRequest>>,
    ) -> Result<Response<Self::SyncGatewayStream>, Status> {
        let caller = permit(&request, &[Role::Gateway])?;
        let updates = gateway::open(self, &caller, request.into_inner()).await?;
        Ok(Response::new(Box::pin(updates)))
    }

    async fn activate(
        &self,
        request: Request<wire::ActivateRequest>,
    ) -> Result<Response<wire::ActivateResponse>, Status> {
        permit(&request, &[Role::Gateway])?;
        let version = request.into_inner().version;
        let version = version.ok_or_else(|| ApiError::invalid("version", "version is missing"))?;
        let key = VersionKey::try_from(&version)?;
        let app = self.app()?;
        if app.catalog.current().version(&key).is_none() {
            return Err(ApiError::not_found(format!("version {key}")).into());
        }
        app.board.activate(key);
        let now = Instant::now();
        if app.board.has_settled(now) && !app.board.cluster().any_accepts(now) {
            let error = ApiError::new(ErrorCode::Unavailable, "no worker is connected that could run it");
            return Err(error.retry_after(Duration::from_secs(2)).into());
        }
        Ok(Response::new(wire::ActivateResponse {}))
    }

    async fn admit(&self, request: Request<wire::AdmitRequest>) -> Result<Response<wire::AdmitResponse>, Status> {
        permit(&request, &[Role::Gateway])?;
        let limit: LimitId = name("limit", &request.get_ref().limit)?;
        let app = self.app()?;
        let admitted = app.lending.admit(&limit, &app.catalog.current(), Instant::now())?;
        let retry_after = admitted.err().map(to_wire_duration);
        Ok(Response::new(wire::AdmitResponse { admitted: retry_after.is_none(), retry_after }))
    }

    async fn borrow_quota(
        &self,
        request: Request<wire::BorrowQuotaRequest>,
    ) -> Result<Response<wire::BorrowQuotaResponse>, Status> {
        let caller = permit(&request, &[Role::Gateway])?;
        let app = self.app()?;
        Ok(Response::new(quota::borrow(&app, &caller, request.into_inner()).await?))
    }

    async fn report_usage(
        &self,
        request: Request<wire::ReportUsageRequest>,
    ) -> Result<Response<wire::ReportUsageResponse>, Status> {
        let caller = permit(&request, &[Role::Gateway])?;
        usage::report(&*self.app()?, &caller, request.into_inner()).await?;
        Ok(Response::new(wire::ReportUsageResponse {}))
    }
}

/// The first report of a stream, which must come soon.
async fn first<T>(reports: &mut Streaming<T>) -> Result<T, ApiError> {
    let silent = |_| ApiError::new(ErrorCode::RequestTimeout, format!("the stream said no hello within {HELLO:?}"));
    let report = tokio::time::timeout(HELLO, reports.message()).await.map_err(silent)??;
    report.ok_or_else(|| ApiError::invalid("report", "the stream ended before its hello"))
}

/// Checks that both sides speak the same protocol.
fn check_protocol(version: u32) -> Result<(), ApiError> {
    if version == PROTOCOL_VERSION {
        return Ok(());
    }
    let message = format!("protocol version {version} is not spoken here, but {PROTOCOL_VERSION}");
    Err(ApiError::new(ErrorCode::FailedPrecondition, message).hint("run the same release in the whole cluster"))
}

/// Ends a stream's halves together: the task that reads reports, and the stream of updates.
#[derive(Debug)]
struct Ends {
    /// Cancelled when either half ends.
    ended: CancellationToken,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Waits for whatever ends a stream.
async fn over(desk: Desk, ended: CancellationToken) {
    tokio::select! { () = ended.cancelled() => {}, () = desk.shutdown.begun() => {} }
}

/// Reads reports in a task of its own until either half ends.
fn read<F: Future<Output = ()> + Send + 'static>(
    desk: &Desk,
    ended: &CancellationToken,
    reading: F,
    left: impl FnOnce() + Send + 'static,
) {
    let over = over(desk.clone(), ended.clone());
    let ends = Ends { ended: ended.clone() };
    desk.shutdown.spawn(async move {
        tokio::select! { () = reading => {}, () = over => {} }
        drop(ends);
        left();
    });
}
