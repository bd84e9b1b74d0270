//! One invocation from call to completion: binds the sandbox to the call, runs the guest beside the delivery of its response,
//! and stops both at the first of deadline, CPU limit, cancellation, or a caller who left. The three ways to call a guest are
//! in `run/`.

mod command;
mod failure;
mod http02;
mod http03;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, sleep_until};
use wasmtime::Store;

use super::again::Left;
use super::body::CountedBody;
use super::call::Call;
use super::console::Console;
use super::delivery::Delivery;
use super::effort::{Effort, Lane};
use super::lanes::Lanes;
use super::meter::{Meter, Metered};
use super::outcome::{Completion, Failure, Outcome};
use super::runtime::{Guest, ProgramInner};
use super::state::State;
use super::ticker::Running;

pub(super) use failure::classify;

/// A store with an instance, not bound to an invocation. Gone after the first one, unless its version asked for more.
pub struct Sandbox {
    pub(super) store: Store<State>,
    pub(super) guest: Guest,
    pub(super) program: Arc<ProgramInner>,
    pub(super) meter: Arc<Meter>,
    pub(super) console: Console,
    pub(super) instantiation: Duration,
    pub(super) effort: Option<Effort>,
    /// Calls that it has served.
    pub(super) served: u32,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("kind", &self.guest.kind()).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// How long making it took.
    pub fn instantiation(&self) -> Duration {
        self.instantiation
    }

    /// Counts what it computes.
    pub(crate) fn counted(self, effort: Option<Effort>) -> Self {
        Self { effort, ..self }
    }

    /// Whether it has served a call before.
    pub fn is_used(&self) -> bool {
        self.served > 0
    }

    /// Runs one invocation and uses the sandbox up. Ends no later than the call's deadline plus a few milliseconds, whatever
    /// the guest does; the pool slot is free again when it returns. Dropping the future stops the guest.
    pub async fn run(self, call: Call) -> Completion {
        self.run_one_of(1, call).await.0
    }

    /// The same for one of at most `max_calls` invocations; what is left of the sandbox keeps its pool slot.
    pub async fn run_one_of(mut self, max_calls: u32, call: Call) -> (Completion, Left) {
        let (began, effort) = (Instant::now(), self.effort.take());
        self.renew();
        let (meter, start) = (self.meter.clone(), self.instantiation);
        let runtime = self.program.runtime.clone();
        let console = self.console.clone();
        console.bind(call.logs.clone());
        let usual = self.program.usual.clone();
        let work = self.run_guarded(max_calls, call, began);
        let ended = isolated(&runtime.lanes, &meter, usual.lane(), effort, work).await;
        usual.note(meter.cpu(), meter.memory_peak());
        console.finish();
        let (outcome, left) = match ended.and_then(|inner| inner) {
            Ok(left) => (Outcome::Ok, left),
            Err(failure) => (Outcome::Failed(failure), Left::Nothing),
        };
        (Completion { outcome, usage: meter.usage(start, began.elapsed()) }, left)
    }

    /// Runs the guest and its delivery until both are done or something else ends the invocation.
    async fn run_guarded(self, max_calls: u32, call: Call, began: Instant) -> Result<Left, Failure> {
        let running = self.program.runtime.ticker.running();
        let Call { deadline, request, response, cancel, .. } = call;
        let until = began.checked_add(self.meter.limits.wall).map_or(deadline, |wall| wall.min(deadline));
        let meter = self.meter.clone();
        let delivery = Delivery::new(response, meter.clone(), request.method().clone());
        let stop = async {
            tokio::select! {
                () = cancel.cancelled() => Failure::Cancelled,
                () = delivery.abandoned() => Failure::Cancelled,
            }
        };
        let work = pin!(self.call_guest(max_calls, request, &delivery, until));
        bounded(&meter, began, until, running, stop, work).await
    }

    /// Runs the guest. Whatever goes wrong, the sandbox is gone; it comes back only from its `finish`.
    async fn call_guest(
        mut self,
        max_calls: u32,
        request: http::Request<super::call::RequestBody>,
        delivery: &Delivery,
        until: Instant,
    ) -> Result<Left, Failure> {
        let again = self.served + 1 < max_calls;
        let meter = self.meter.clone();
        let request = request.map(|body| CountedBody::new(body, meter));
        let state = self.store.data_mut();
        state.hooks.bind(until, request.headers());
        self.store.set_epoch_deadline(1);
        let code = &*self.program.code;
        match &self.guest {
            Guest::Http02(proxy) => http02::run(&mut self.store, proxy, request, delivery, again, code).await?,
            Guest::Http03(service) => http03::run(&mut self.store, service, request, delivery, again, code).await?,
            Guest::Command(command) => {
                let environment = &self.program.policy.environment;
                command::run(&mut self.store, command, request, delivery, &self.console, environment, code).await?;
            }
        }
        Ok(self.finish(max_calls))
    }
}

/// Runs work for one guest so that a panic of host code ends this guest and nothing else, and heavy work on its own lane.
/// Boxes it at once: the future of an invocation is large, and nobody should copy it around.
pub(super) fn isolated<'a, T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    lanes: &'a Lanes,
    meter: &'a Arc<Meter>,
    lane: Lane,
    effort: Option<Effort>,
    work: F,
) -> impl Future<Output = Result<T, Failure>> + Send + use<'a, T, F> {
    let work = Box::pin(AssertUnwindSafe(work).catch_unwind());
    async move {
        match lanes.run(meter, lane, effort, work).await {
            Some(Ok(done)) => Ok(done),
            Some(Err(panic)) => Err(failure::panicked(panic.as_ref())),
            // The runtime is being shut down.
            None => Err(Failure::Cancelled),
        }
    }
}

/// Polls guest work, charging it to the meter, until it ends or has to. The order matters: work that ends in its first poll
/// costs no timer, and what stopped it there knows where it was.
pub(super) async fn bounded<T>(
    meter: &Meter,
    began: Instant,
    until: Instant,
    _running: Running,
    stop: impl Future<Output = Failure>,
    work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = Metered { meter, inner: work } => done.map_err(|failure| meter.reason_of(failure)),
        failure = meter.halted() => Err(failure),
        failure = stop => Err(failure),
        () = sleep_until(until) => Err(Failure::DeadlineExceeded { limit: until.saturating_duration_since(began) }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;
    use super::*;

    #[tokio::test]
    async fn a_panic_of_host_code_ends_one_guest_only_and_is_charged() {
        let (lanes, meter) = (Lanes::new(1).unwrap(), Arc::new(Meter::new(Limits::default())));
        let charged = meter.clone();
        let work = async move {
            let broken = pin!(async {
                tokio::task::yield_now().await;
                if true {
                    panic!("broken on purpose")
                }
            });
            Metered { meter: &charged, inner: broken }.await
        };
        let failure = isolated(&lanes, &meter, Lane::Home, None, work).await.unwrap_err();
        assert_eq!(failure, Failure::Panicked { message: "broken on purpose".to_owned() });
        assert!(meter.usage(Duration::ZERO, Duration::ZERO).cpu > Duration::ZERO);
        assert_eq!(isolated(&lanes, &meter, Lane::Home, None, async { 1 }).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_has_passed_still_lets_finished_work_through() {
        let meter = Meter::new(Limits::default());
        let now = Instant::now();
        let ticker = super::super::ticker::Ticker::start([&wasmtime::Engine::default()]).unwrap();
        let stop = std::future::pending;
        let done = bounded(&meter, now, now, ticker.running(), stop(), pin!(async { Ok(1) })).await;
        assert_eq!(done, Ok(1));
        let late = bounded::<()>(&meter, now, now, ticker.running(), stop(), pin!(std::future::pending())).await;
        assert_eq!(late.unwrap_err().code(), "deadline_exceeded");
    }
}
