//! What a gateway's parts know anyway, asked at a scrape: connections, workers, the configuration, limits, stored answers, records.

use std::time::Duration;

use dunlin_process::metrics::{Kind, Page};

use crate::{Context, dispatch::Directory, edge::Places, routes::Table};

/// Each listener's name and connections.
#[derive(Debug)]
pub(crate) struct Listening(pub(crate) Vec<(&'static str, Places)>);

pub(super) fn write(page: &mut Page, context: &Context, listening: &Listening) {
    connections(page, listening);
    workers(page, context.dispatcher.directory());
    configuration(page, &context.routes.load(), context.routes.since());
    context.verifier.write_metrics(page);
    let connected = context.borrowing.is_linked();
    page.gauge("dunlin_gateway_scheduler_connected", "Whether there is a stream to the scheduler.", connected);
    let help = "When the scheduler was last heard; what it said is served for max_staleness at the most.";
    let heard = context.routes.heard();
    page.gauge("dunlin_gateway_scheduler_heard_timestamp_seconds", help, heard.at());
    page.gauge("dunlin_gateway_configuration_stale", "Whether that is too long ago.", heard.is_stale());
    let help = "Parts of limits that the gateway took for itself, since there was no scheduler to lend them.";
    page.counter("dunlin_gateway_limit_parts_taken_total", help, context.borrowing.taken());
    let help = "Questions to the scheduler about limits and quotas, and reports of what callers want of them.";
    page.counter("dunlin_gateway_limit_messages_total", help, context.borrowing.asked());
    let (running, most) = context.dispatcher.taken();
    page.gauge("dunlin_gateway_invocations_in_flight", "Invocations that run or wait.", running);
    page.gauge("dunlin_gateway_invocations_in_flight_limit", "Invocations that may run or wait at once.", most);
    let (answers, bytes) = context.cache.size();
    page.gauge("dunlin_gateway_cache_addresses", "Addresses with stored answers.", answers);
    page.gauge("dunlin_gateway_cache_bytes", "Memory of stored answers.", bytes);
    let (added, dropped) = context.records.counted();
    page.counter("dunlin_gateway_records_total", "Records of invocations that were handed to the store.", added);
    let help = "Records of invocations that were lost, since the store did not keep up.";
    page.counter("dunlin_gateway_records_dropped_total", help, dropped);
    let (exported, dropped) = context.traces.counted().unwrap_or_default();
    page.counter("dunlin_gateway_trace_spans_exported_total", "Spans that the collector of traces took.", exported);
    let help = "Spans that were lost, since the collector was away or refused them or there were too many.";
    page.counter("dunlin_gateway_trace_spans_dropped_total", help, dropped);
}

fn connections(page: &mut Page, Listening(listeners): &Listening) {
    let mut family = page.family(Kind::Gauge, "dunlin_gateway_connections", "Open connections.");
    for (listener, places) in listeners {
        family.add(&[("listener", listener)], places.taken());
    }
    let help = "Connections that were closed at once, since there was no room.";
    let mut family = page.family(Kind::Counter, "dunlin_gateway_connections_refused_total", help);
    for (listener, places) in listeners {
        family.add(&[("listener", listener)], places.refused());
    }
}

fn workers(page: &mut Page, directory: &Directory) {
    let placements = directory.load();
    let (mut reachable, mut left_out, mut away, mut sessions) = (0_u64, 0_u64, 0_u64, 0_u64);
    for endpoint in placements.endpoints() {
        let open = endpoint.open_sessions();
        sessions += open;
        let state = if open == 0 {
            &mut away
        } else if endpoint.is_out() {
            &mut left_out
        } else {
            &mut reachable
        };
        *state += 1;
    }
    let help = "Workers' endpoints, by whether calls go there: left_out fails calls that others answer.";
    let mut family = page.family(Kind::Gauge, "dunlin_gateway_endpoints", help);
    for (state, count) in [("reachable", reachable), ("left_out", left_out), ("unreachable", away)] {
        family.add(&[("state", state)], count);
    }
    page.gauge("dunlin_gateway_sessions", "Open sessions with workers.", sessions);
    page.gauge(
        "dunlin_gateway_peers",
        "Gateways of the cluster, as the scheduler said last.",
        placements.gateways.len(),
    );
}

fn configuration(page: &mut Page, table: &Table, since: Duration) {
    page.gauge("dunlin_gateway_configuration_version", "Version of the configuration that is served.", table.version);
    let help = "When that configuration came, since 1970; 0 where there is none.";
    page.gauge("dunlin_gateway_configuration_applied_timestamp_seconds", help, since);
    page.gauge("dunlin_gateway_functions", "Functions that are served.", table.functions().count());
    page.gauge("dunlin_gateway_keys", "Callers' keys that are known.", table.keys.by_id.len());
    let (mut running, mut queued) = (0_u64, 0_u64);
    for version in table.versions() {
        let (runs, waits) = version.demand.now();
        running += u64::from(runs);
        queued += u64::from(waits);
    }
    page.gauge("dunlin_gateway_invocations_running", "Invocations of versions that are served now.", running);
    page.gauge("dunlin_gateway_invocations_queued", "Of these, those that wait for a worker.", queued);
    let known = table.limits.values().filter(|limit| limit.is_known()).count();
    let mut family = page.family(
        Kind::Gauge,
        "dunlin_gateway_limits",
        "Limits of calls in a time, by whether a share of them is lent.",
    );
    family.add(&[("share", "lent")], known);
    family.add(&[("share", "none")], table.limits.len() - known);
}
