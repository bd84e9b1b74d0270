//! The overview as it changes: the same part of the page again and again by Server-Sent Events, each time that it is another one.
//! What is in it is `overview.rs`'s.

use std::{convert::Infallible, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    extract::State,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use dunlin_proto::{ApiError, ErrorCode, ids::Namespace, names::NamespaceRef};
use futures::{Stream, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    Page,
    overview::{Which, live},
};
use crate::{
    admin::{
        app::App,
        params::{Named, Query},
        session::Visitor,
    },
    auth::Principal,
};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Sends the part until the session ends or it can't be made; an event `failed` says why, and nothing follows.
pub(super) async fn stream(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
    Query(which): Query<Which>,
) -> Page {
    // Who may not look is told so at once.
    let first = part(&app, &who, &namespace, which).await?;
    let ended = app.context().shutdown.clone();
    let until = async move { ended.begun().await };
    let events = changes(app, who, (namespace, which), first).take_until(Box::pin(until));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

fn changes(
    app: App,
    who: Arc<Principal>,
    (namespace, which): (Namespace, Which),
    mut shown: String,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
    // Who can't keep up is shown less often, not later.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    async_stream::stream! {
        loop {
            ticks.tick().await;
            match part(&app, &who, &namespace, which).await {
                Ok(part) if part == shown => {}
                Ok(part) => {
                    yield Ok(Event::default().event("part").data(&part));
                    shown = part;
                }
                Err(error) => {
                    yield Ok(Event::default().event("failed").data(super::sentence(&error.message)));
                    return;
                }
            }
        }
    }
}

/// The part as it is now.
async fn part(app: &App, who: &Principal, namespace: &Namespace, which: Which) -> Result<String, ApiError> {
    if who.expires <= std::time::SystemTime::now() {
        return Err(ApiError::new(ErrorCode::Unauthenticated, "the session has ended"));
    }
    let live = live(app, who, namespace, which).await?;
    live.render().map_err(|error| {
        tracing::error!(%error, "a part of a page can't be rendered");
        ApiError::internal()
    })
}
