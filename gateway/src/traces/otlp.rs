//! Spans as OTLP has them, grouped by the process whose work they are. Pure.

use std::{collections::BTreeMap, time::SystemTime};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span as Wire, Status, span, status},
};

use super::spans::{Place, Span, Value};

/// The `service.name` of workers' spans.
const WORKER: &str = "dunlin-worker";

/// The process that exports.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// Its `service.name`.
    pub(super) service: String,
    /// Its name in the cluster.
    pub(super) gateway: String,
    /// The `server.address` of what answers callers.
    pub(super) address: Option<String>,
}

/// The message that exports these spans.
pub(super) fn request(spans: Vec<Span>, identity: &Identity) -> ExportTraceServiceRequest {
    let mut places = BTreeMap::<Place, Vec<Wire>>::new();
    for span in spans {
        places.entry(span.place.clone()).or_default().push(wire(span, identity));
    }
    let resource_spans = places.into_iter().map(|(place, spans)| of_place(&place, spans, identity)).collect();
    ExportTraceServiceRequest { resource_spans }
}

fn of_place(place: &Place, spans: Vec<Wire>, identity: &Identity) -> ResourceSpans {
    let (service, instance) = match place {
        Place::Gateway => (identity.service.as_str(), &identity.gateway),
        Place::Worker(name) => (WORKER, name),
    };
    let attributes = vec![
        pair("service.name", Value::Text(service.to_owned())),
        pair("service.instance.id", Value::Text(instance.clone())),
    ];
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let scope = InstrumentationScope { name: "dunlin".to_owned(), version, ..Default::default() };
    ResourceSpans {
        resource: Some(Resource { attributes, ..Default::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }],
        ..Default::default()
    }
}

fn wire(from: Span, identity: &Identity) -> Wire {
    let is_root = from.is_root;
    let kind = if is_root { span::SpanKind::Server } else { span::SpanKind::Internal };
    let id = |id: u64| if id == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
    let mut attributes: Vec<_> = from.attributes.into_iter().map(|(name, value)| pair(name, value)).collect();
    let address = identity.address.clone().filter(|_| is_root);
    attributes.extend(address.map(|address| pair("server.address", Value::Text(address))));
    let failed = |message| Status { message, code: status::StatusCode::Error.into() };
    let retry = |at| span::Event { time_unix_nano: nanos(at), name: "retry".to_owned(), ..Default::default() };
    Wire {
        trace_id: from.trace.to_be_bytes().to_vec(),
        span_id: id(from.id),
        parent_span_id: id(from.parent),
        trace_state: from.state.as_deref().unwrap_or_default().to_owned(),
        name: from.name,
        kind: kind.into(),
        start_time_unix_nano: nanos(from.start),
        end_time_unix_nano: nanos(from.end),
        attributes,
        events: from.retried.map(retry).into_iter().collect(),
        status: from.error.map(failed),
        ..Default::default()
    }
}

fn pair(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Number(number) => any_value::Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX)),
        Value::Truth(truth) => any_value::Value::BoolValue(truth),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::spans;

    #[test]
    fn spans_belong_to_the_process_whose_work_they_are() {
        let identity = Identity { service: "edge".into(), gateway: "g1".into(), address: Some("fn.example".into()) };
        let request = request(spans::of(&spans::tests::record()), &identity);
        let services = request.resource_spans.iter().map(|place| {
            let first = place.resource.as_ref().unwrap().attributes[0].value.clone().unwrap().value.unwrap();
            (first, place.scope_spans[0].spans.len())
        });
        let text = |text: &str| any_value::Value::StringValue(text.to_owned());
        assert_eq!(services.collect::<Vec<_>>(), [(text("edge"), 2), (text(WORKER), 6)]);
        let root = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((root.kind, root.events.len(), &root.status), (span::SpanKind::Server as i32, 1, &None));
        assert_eq!(root.parent_span_id, 9_u64.to_be_bytes());
        assert!(root.attributes.iter().any(|pair| pair.key == "server.address"));
    }
}
