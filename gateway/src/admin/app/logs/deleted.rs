//! Ends the log of a function that is deleted while somebody follows it, and says so: otherwise a page would wait for ever for lines
//! that can't come.

use dunlin_proto::{ApiError, ErrorCode, names::Scope};
use futures::StreamExt;
use tokio::time::{Instant, interval_at};

use super::{LOOK_AGAIN, LogEvents};
use crate::admin::app::App;

impl App {
    /// The same events up to some seconds after the function is gone, as far as this gateway was told, and then an error. A function
    /// that is not there yet may be waited for.
    pub(super) fn log_until_deleted(&self, scope: &Scope, mut events: LogEvents) -> LogEvents {
        if !self.knows(scope) {
            return events;
        }
        let (app, scope) = (self.clone(), scope.clone());
        Box::pin(async_stream::stream! {
            let mut look = interval_at(Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
            loop {
                tokio::select! {
                    event = events.next() => match event {
                        Some(event) => yield event,
                        None => return,
                    },
                    _ = look.tick() => if !app.knows(&scope) {
                        yield Err(deleted(&scope));
                        return;
                    },
                }
            }
        })
    }

    /// Whether there is such a function.
    fn knows(&self, scope: &Scope) -> bool {
        let Scope { namespace, function } = scope;
        let table = self.context.routes.load();
        function.as_ref().is_some_and(|function| table.function(namespace.as_str(), function.as_str()).is_some())
    }
}

fn deleted(Scope { namespace, function }: &Scope) -> ApiError {
    let function = function.as_ref().map(ToString::to_string).unwrap_or_default();
    ApiError::new(
        ErrorCode::NotFound,
        format!("the function {function} of {namespace} was deleted while its log was read"),
    )
    .hint("what its last calls still write is in the log of the namespace")
}
