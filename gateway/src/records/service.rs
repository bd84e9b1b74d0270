//! Records over gRPC: how they look in the public API, and the service that other gateways ask (internal listener).

use dunlin_proto::{
    ApiError,
    ids::InvocationId,
    internal::v1::{
        ListRecordsRequest, ListRecordsResponse, invocation_record_service_server::InvocationRecordService,
    },
    model::to_wire_duration,
    names::Scope,
    v1,
};
use tonic::{Request, Response, Status};

use super::{Receipt, Record, Records};

impl From<&Record> for v1::Invocation {
    fn from(record: &Record) -> Self {
        Self {
            name: record.name().to_string(),
            version: record.version.get(),
            start_time: Some(record.start_time.into()),
            method: record.method.clone(),
            path: record.path.clone(),
            status: record.status.into(),
            gateway: record.gateway.to_string(),
            worker: record.worker.clone(),
            outcome: record.outcome.clone(),
            error: record.error.clone(),
            receipt: Some(record.receipt.into()),
            request_id: record.request_id.clone(),
        }
    }
}

impl From<Receipt> for v1::Receipt {
    fn from(receipt: Receipt) -> Self {
        Self {
            queue: Some(to_wire_duration(receipt.queue)),
            start: Some(to_wire_duration(receipt.start)),
            run: Some(to_wire_duration(receipt.run)),
            cpu: Some(to_wire_duration(receipt.cpu)),
            peak_memory_bytes: receipt.peak_memory_bytes,
            bytes_in: receipt.bytes_in,
            bytes_out: receipt.bytes_out,
            reused: receipt.reused,
        }
    }
}

/// Answers other gateways.
#[derive(Debug)]
pub(crate) struct RecordService(pub(crate) Records);

#[tonic::async_trait]
impl InvocationRecordService for RecordService {
    async fn list_records(
        &self,
        request: Request<ListRecordsRequest>,
    ) -> Result<Response<ListRecordsResponse>, Status> {
        let found = list(&self.0, &request.into_inner())?;
        Ok(Response::new(ListRecordsResponse { invocations: found }))
    }
}

/// The records that a query asks for. Its page token is the id of the last invocation of the page before.
fn list(records: &Records, request: &ListRecordsRequest) -> Result<Vec<v1::Invocation>, ApiError> {
    let query = request.query.clone().unwrap_or_default();
    let scope: Scope = query.parent.parse().map_err(|error| ApiError::invalid("query.parent", error))?;
    let id = |field, text: &str| -> Result<Option<InvocationId>, ApiError> {
        (!text.is_empty()).then(|| text.parse().map_err(|error| ApiError::invalid(field, error))).transpose()
    };
    let wanted = id("id", &request.id)?;
    let before = id("query.page_token", &query.page_token)?;
    let limit = usize::try_from(query.page_size).ok().filter(|size| (1..=1_000).contains(size)).unwrap_or(100);
    // One id is looked up among all that are kept.
    let limit = if wanted.is_some() { usize::MAX } else { limit };
    let found = records.list(&scope, &(&query).into(), before, limit);
    let found = found.iter().filter(|record| wanted.is_none_or(|id| record.id == id));
    Ok(found.map(|record| record.as_ref().into()).collect())
}
