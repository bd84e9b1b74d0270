//! Records over gRPC: how they look in the public API, and the service that other gateways ask (internal listener).

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use dunlin_proto::{
    ApiError,
    ids::{FunctionName, InvocationId, Namespace},
    internal::v1::{
        CallStatus, FindStatusesRequest, FindStatusesResponse, ListRecordsRequest, ListRecordsResponse,
        SummarizeRecordsRequest, SummarizeRecordsResponse, invocation_record_service_server::InvocationRecordService,
    },
    model::{from_wire_duration, to_wire_duration},
    names::{FunctionRef, Scope},
    v1,
};
use tonic::{Request, Response, Status};

use super::{Caller, Came, Choice, Receipt, Record, Records, Refusal, Wanted, came::Words};
use crate::routes::RouteTable;

impl From<&Record> for v1::Invocation {
    fn from(record: &Record) -> Self {
        Self {
            name: record.name().to_string(),
            version: record.version.get(),
            start_time: Some(record.start_time.into()),
            method: record.method.to_string(),
            path: record.path.clone(),
            status: record.status.into(),
            gateway: record.gateway.to_string(),
            worker: record.worker.to_string(),
            outcome: record.outcome.to_string(),
            error: record.error.clone(),
            receipt: Some(record.receipt.into()),
            request_id: record.request_id.clone(),
            hint: record.hint.clone(),
            weight: record.weight,
            lasted: Some(to_wire_duration(record.lasted())),
            refused: false,
            ..(&record.came).into()
        }
    }
}

impl From<&Came> for v1::Invocation {
    fn from(came: &Came) -> Self {
        Self {
            route: came.route.as_deref().unwrap_or_default().to_owned(),
            caller: caller(&came.caller),
            remote_address: came.address.map(|address| address.to_string()).unwrap_or_default(),
            trace_id: trace_id(came.trace),
            endpoint: came.endpoint.as_deref().unwrap_or_default().to_owned(),
            worker_choice: v1::WorkerChoice::from(came.choice).into(),
            tries: came.tries,
            ..Self::default()
        }
    }
}

impl From<&Refusal> for v1::Invocation {
    fn from(refusal: &Refusal) -> Self {
        let Refusal { namespace, function, id, .. } = refusal;
        let part = |collection, id: Option<&str>| id.map(|id| format!("{collection}/{id}/")).unwrap_or_default();
        let namespace = part("namespaces", namespace.as_ref().map(Namespace::as_str));
        let function = part("functions", function.as_ref().map(FunctionName::as_str));
        let receipt = Receipt { queue: refusal.took, gateway_queue: refusal.took, ..Receipt::default() };
        Self {
            name: format!("{namespace}{function}invocations/{id}"),
            start_time: Some(refusal.start_time.into()),
            method: refusal.method.clone(),
            path: refusal.path.clone(),
            status: refusal.code.http_status().into(),
            gateway: refusal.gateway.to_string(),
            outcome: refusal.code.as_str().to_owned(),
            error: refusal.error.clone(),
            receipt: Some(receipt.into()),
            request_id: refusal.request_id.clone(),
            route: refusal.route.as_deref().unwrap_or_default().to_owned(),
            caller: caller(&refusal.caller),
            remote_address: refusal.address.map(|address| address.to_string()).unwrap_or_default(),
            hint: refusal.hint.clone(),
            trace_id: trace_id(refusal.trace),
            weight: 1,
            lasted: Some(to_wire_duration(refusal.took)),
            refused: true,
            ..Self::default()
        }
    }
}

/// A trace's id in hexadecimal digits; nothing where none is known.
fn trace_id(trace: u128) -> String {
    if trace == 0 { String::new() } else { format!("{trace:032x}") }
}

fn caller(caller: &Caller) -> Option<v1::InvocationCaller> {
    let Words { key, issuer, subject, authorizer } = caller.clone().into();
    (!caller.is_anybody()).then_some(v1::InvocationCaller { key, issuer, subject, authorizer })
}

impl From<Choice> for v1::WorkerChoice {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Nobody => Self::Unspecified,
            Choice::Ready => Self::Ready,
            Choice::Standby => Self::Standby,
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
            gateway_queue: Some(to_wire_duration(receipt.gateway_queue)),
            fetch: Some(to_wire_duration(receipt.fetch)),
            load: Some(to_wire_duration(receipt.load)),
            outbound_requests: receipt.outbound_requests,
            host_calls: receipt.host_calls,
        }
    }
}

/// Answers other gateways.
#[derive(Debug)]
pub(crate) struct RecordService {
    /// What they ask for.
    pub(crate) records: Arc<Records>,
    /// Says what runs now.
    pub(crate) routes: RouteTable,
}

#[tonic::async_trait]
impl InvocationRecordService for RecordService {
    async fn list_records(
        &self,
        request: Request<ListRecordsRequest>,
    ) -> Result<Response<ListRecordsResponse>, Status> {
        Ok(Response::new(list(&self.records, &request.into_inner()).await?))
    }

    async fn summarize_records(
        &self,
        request: Request<SummarizeRecordsRequest>,
    ) -> Result<Response<SummarizeRecordsResponse>, Status> {
        let SummarizeRecordsRequest { function, window } = request.into_inner();
        let function: FunctionRef = function.parse().map_err(|error| ApiError::invalid("function", error))?;
        Ok(Response::new(summary(&self.records, &self.routes, &function, from_wire_duration(window)).await))
    }

    async fn find_statuses(
        &self,
        request: Request<FindStatusesRequest>,
    ) -> Result<Response<FindStatusesResponse>, Status> {
        let FindStatusesRequest { parent, invocations, on_disk } = request.into_inner();
        let scope: Scope = parent.parse().map_err(|error| ApiError::invalid("parent", error))?;
        let ids = invocations.iter().map(|id| InvocationId::from_slice(id)).collect::<Result<HashSet<_>, _>>();
        let ids = ids.map_err(|error| ApiError::invalid("invocations", error))?;
        let status = |(id, status): (InvocationId, u16)| CallStatus {
            invocation: id.uuid().as_bytes().to_vec().into(),
            status: status.into(),
        };
        let calls = self.records.statuses(&scope, ids, on_disk).await.into_iter().map(status).collect();
        Ok(Response::new(FindStatusesResponse { calls }))
    }
}

/// What a function's calls came to lately at this gateway, and what of it runs now.
pub(crate) async fn summary(
    records: &Records,
    routes: &RouteTable,
    function: &FunctionRef,
    window: Duration,
) -> SummarizeRecordsResponse {
    let table = routes.load();
    let known = table.function(function.namespace.as_str(), function.function.as_str());
    let (running, namespace_running) = known.map(|known| known.quota.running()).unwrap_or_default();
    SummarizeRecordsResponse {
        running,
        namespace_running,
        ..records.summary(function, window, SystemTime::now()).await
    }
}

/// The records that a query asks for. Its page token is the id of the last invocation of the page before.
async fn list(records: &Records, request: &ListRecordsRequest) -> Result<ListRecordsResponse, ApiError> {
    let query = request.query.clone().unwrap_or_default();
    if request.of_nobody {
        let invocations = records.of_nobody(&Wanted::try_from(&query)?);
        return Ok(ListRecordsResponse { invocations, refusals: Vec::new() });
    }
    let scope: Scope = query.parent.parse().map_err(|error| ApiError::invalid("query.parent", error))?;
    let id = |field, text: &str| -> Result<Option<InvocationId>, ApiError> {
        (!text.is_empty()).then(|| text.parse().map_err(|error| ApiError::invalid(field, error))).transpose()
    };
    let wanted = id("id", &request.id)?;
    let before = id("query.page_token", &query.page_token)?;
    let limit = usize::try_from(query.page_size).ok().filter(|size| (1..=1_000).contains(size)).unwrap_or(100);
    // One id is looked up among all that are kept.
    let limit = if wanted.is_some() { usize::MAX } else { limit };
    let ids = request.ids.iter().map(|id| id.parse::<InvocationId>()).collect::<Result<_, _>>();
    let ids = ids.map_err(|error| ApiError::invalid("ids", error))?;
    let filter = Wanted { ids: Some(ids).filter(|_| !request.ids.is_empty()), ..Wanted::try_from(&query)? };
    let refusals = records.refusal_counts(&scope, &filter);
    let found = records.matching(&scope, &filter, before, limit).await;
    let named = wanted.map(|id| format!("/invocations/{id}"));
    let is_named = |found: &v1::Invocation| named.as_ref().is_none_or(|end| found.name.ends_with(end));
    let invocations = found.into_iter().filter(is_named).collect();
    Ok(ListRecordsResponse { invocations, refusals })
}

impl Records {
    /// What is known of requests, the newest first: records, and refusals where they are asked for by an id.
    pub(crate) async fn matching(
        &self,
        scope: &Scope,
        wanted: &Wanted,
        before: Option<InvocationId>,
        limit: usize,
    ) -> Vec<v1::Invocation> {
        let refused = self.refusals(scope, wanted);
        let refused = refused.iter().filter(|refusal| before.is_none_or(|before| refusal.id < before)).take(limit);
        let records = self.list(scope, wanted, before, limit).await;
        let records = records.iter().map(|record| record.as_ref().into());
        records.chain(refused.map(|refusal| refusal.as_ref().into())).collect()
    }
}
