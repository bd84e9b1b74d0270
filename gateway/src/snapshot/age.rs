//! Looks every second whether what the scheduler said last may still be served. What too old means is decided in `routes/heard.rs`.

use std::time::{Duration, SystemTime};

use dunlin_process::shutdown::Shutdown;

use crate::routes::RouteTable;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Looks until `shutdown`, however long the scheduler takes to answer.
pub(super) async fn watch(routes: RouteTable, max_staleness: Duration, shutdown: Shutdown) {
    loop {
        look(&routes, max_staleness);
        tokio::select! { () = tokio::time::sleep(EVERY) => {}, () = shutdown.begun() => return }
    }
}

/// Serves what is known from now on, or no longer.
pub(super) fn look(routes: &RouteTable, max_staleness: Duration) {
    let heard = routes.heard();
    if !heard.judge(SystemTime::now(), max_staleness) {
        return;
    }
    match heard.is_stale() {
        true => tracing::error!("the scheduler was not heard for longer than max_staleness; all requests are refused"),
        false => tracing::info!("the scheduler was heard; requests are served again"),
    }
}
