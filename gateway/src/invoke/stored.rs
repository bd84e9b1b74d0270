//! The trace of a call that is answered with what is stored. No worker has to do with it, and it leaves no record: what its spans are made
//! of is one that nobody keeps.

use std::{sync::Arc, time::SystemTime};

use http::{StatusCode, request::Parts};
use tokio::time::Instant;

use super::{cached::Cached, headers, passing::Passing, trace};
use crate::{
    Context,
    records::{Came, Receipt, Record, Traced, method_text},
    traces::protocol_of,
};

/// Hands its trace over, where somebody wants it.
pub(super) fn trace(passing: Passing, parts: &Parts, accepted: Instant, status: StatusCode, context: &Context) {
    let traces = &context.traces;
    // Who takes nothing but what is stored may find nothing, which is nobody's failure.
    let is_hit = passing.phases.as_ref().is_some_and(|phases| phases.cached == Some(Cached::Hit.as_str()));
    if !traces.is_on() || !is_hit {
        return;
    }
    let (random, lasted) = (rand::random::<(u128, u64)>(), accepted.elapsed());
    let mut trace = trace::parent(&parts.headers, random);
    let traced = trace.joined(traces, &passing.function.name.namespace, random.1);
    if !traces.wants(&traced, lasted) {
        return;
    }
    // It is a part of a path that has been checked.
    let Ok((_, path_and_query)) = passing.sees.of(&parts.uri, passing.route.as_deref()) else { return };
    let traced = Traced {
        secure: passing.origin.scheme == "https",
        protocol: protocol_of(parts.version),
        route: passing.route.as_ref().map(|route| route.pattern()),
        state: trace.inherited.then(|| trace::state(&parts.headers)).flatten(),
        phases: passing.phases,
        lasted,
        ..traced
    };
    let came = Came {
        traced,
        route: passing.route.map(|route| route.label()),
        caller: passing.caller,
        address: Some(passing.origin.address),
        trace: trace.id,
        ..Came::default()
    };
    traces.offer(&mut Record {
        id: passing.id,
        function: passing.function.name.clone(),
        version: passing.version.key.number,
        start_time: SystemTime::now().checked_sub(lasted).unwrap_or(SystemTime::UNIX_EPOCH),
        method: method_text(&parts.method),
        path: path_and_query.path().to_owned(),
        status: status.as_u16(),
        gateway: context.config.name.clone(),
        worker: Arc::default(),
        outcome: "ok".into(),
        error: String::new(),
        receipt: Receipt::default(),
        request_id: headers::request_id(&parts.headers),
        weight: 1,
        hint: String::new(),
        came,
    });
}
