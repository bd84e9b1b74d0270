//! The course of one invocation: a session, a beginning, the answer's head; and another session where it is safe. What a
//! single try can come to is in `attempt.rs`, whether it may begin in `run/admission.rs`.

mod admission;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError, ErrorCode, fields,
    ids::GatewayId,
    internal::v1::{Begin, Head},
    model::to_wire_duration,
};
use http::{Response, StatusCode};
use tokio::time::{Instant, sleep_until};

use super::{
    Invocation, ResponseBody,
    activate::{self, Activator, Waiting},
    attempt::{self, Failure, First},
    call::CallHandle,
    endpoint::Endpoint,
    health::{Fault, most_out},
    pick::pick,
    placement::Directory,
    record::{Ledger, Stage},
    request::{BodyError, Pump, RequestBody},
    response::{accepts_trailers, response},
    session::Session,
    unanswered::{no_worker, out_of_time, saturated, worker_lost},
    waiting::Wait,
    wire,
};
use crate::{
    config::DispatchConfig,
    limits::Borrowing,
    metering::Metering,
    metrics::Series,
    records::{Choice, Records},
    routes::{Function, Version},
};

/// How long the worker's own account of a deadline is waited for.
const SLACK: Duration = Duration::from_millis(100);
/// So many calls of a version that run on standby workers are reason enough to ask for a placement at once; fewer show in
/// the report of demand, if they last.
const CROWD: u32 = 4;
/// How often a call of an idempotent function that is lost with its worker runs again.
const RUNS_AGAIN: u32 = 2;
/// The pause before endpoints that all refused are asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Sends invocations to workers. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Dispatcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gateway: GatewayId,
    directory: Directory,
    borrowing: Borrowing,
    activator: Activator,
    records: Arc<Records>,
    series: Series,
    metering: Metering,
    config: DispatchConfig,
    /// Invocations that run or wait.
    taken: Arc<AtomicUsize>,
    shutdown: Shutdown,
}

impl Dispatcher {
    /// Dispatches by this directory; bodies that stream are tasks of `shutdown`.
    pub(crate) fn new(
        gateway: GatewayId,
        (directory, borrowing): (Directory, Borrowing),
        activator: Activator,
        (records, series, metering): (Arc<Records>, Series, Metering),
        config: DispatchConfig,
        shutdown: Shutdown,
    ) -> Self {
        Self(Arc::new(Inner {
            gateway,
            directory,
            borrowing,
            activator,
            records,
            series,
            metering,
            config,
            taken: Arc::default(),
            shutdown,
        }))
    }

    /// Whether this gateway has room for one more of a namespace, asked before anything is spent on it. What a tenant's own
    /// limits are is told only to callers who may call.
    ///
    /// # Errors
    /// `Unavailable`: it has not.
    pub(crate) fn has_room(&self, function: &Function) -> Result<(), ApiError> {
        self.0.has_room(function)
    }

    /// The counters of functions.
    pub(crate) fn series(&self) -> &Series {
        &self.0.series
    }

    /// Invocations that run or wait, and how many may.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.0.taken.load(Ordering::Relaxed), self.0.config.in_flight)
    }

    /// Where versions run.
    pub(crate) fn directory(&self) -> &Directory {
        &self.0.directory
    }
}

pub(super) async fn invoke(
    dispatcher: &Dispatcher,
    mut invocation: Invocation,
) -> Result<Response<ResponseBody>, ApiError> {
    let inner = &*dispatcher.0;
    let slot = inner.admit(&invocation).await.inspect_err(|error| inner.note(&mut invocation, error))?;
    let calls = inner.series.of(&invocation.function).clone();
    let meter = inner.metering.meter(invocation.version.key, invocation.called_by.as_ref());
    let mut ledger = Ledger::begin(&mut invocation, &inner.gateway, &inner.records, (slot, calls, meter));
    let mut course = Course::new(inner, invocation);
    match course.run(&mut ledger).await {
        Ok((head, call)) => course.answer(head, call, ledger).await,
        Err(failure) => {
            let Failure { error, call } = *failure;
            ledger.fail(&error);
            ledger.answered(error.code.http_status());
            if let Some((call, reason)) = call {
                call.cancel(reason, Some(ledger));
            }
            Err(wire::for_caller(error))
        }
    }
}

/// Why an endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It has the version ready.
    Placed,
    /// It has the version on its disk, if the gateway is right.
    Standby,
}

impl From<Role> for Choice {
    fn from(role: Role) -> Self {
        match role {
            Role::Placed => Self::Ready,
            Role::Standby => Self::Standby,
        }
    }
}

/// Where an invocation can go.
struct Found {
    endpoint: Arc<Endpoint>,
    session: Arc<Session>,
    role: Role,
}

struct Course<'a> {
    inner: &'a Inner,
    invocation: Invocation,
    deadline: Instant,
    /// Until when it waits for workers, from the first time that it has to.
    patience: Option<Instant>,
    pump: Pump,
    /// Endpoints that refused, or lost it before it began, and in which role.
    refused: Vec<(Arc<Endpoint>, Role)>,
    /// Of these, who had it and did not say that there is too much to do.
    failed: Vec<Arc<Endpoint>>,
    /// What the last of them said.
    refusal: Option<ApiError>,
    /// What an endpoint said that had too much to do.
    full: Option<ApiError>,
    /// Workers that were lost while they may have run it.
    losses: u32,
}

impl<'a> Course<'a> {
    fn new(inner: &'a Inner, mut invocation: Invocation) -> Self {
        let body = std::mem::replace(invocation.request.body_mut(), RequestBody::whole(bytes::Bytes::new()));
        let pump = Pump::new(body, invocation.version.request_body_bytes, invocation.version.idempotent);
        let deadline = invocation.deadline();
        Self {
            inner,
            invocation,
            deadline,
            patience: None,
            pump,
            refused: Vec::new(),
            failed: Vec::new(),
            refusal: None,
            full: None,
            losses: 0,
        }
    }

    async fn run(&mut self, ledger: &mut Ledger) -> Result<(Head, CallHandle), Box<Failure>> {
        loop {
            let Found { endpoint, session, role } = self.session().await?;
            let begin = self.begin().await?;
            // A session that has just closed is not found again.
            let Ok(call) = session.begin(begin, endpoint.count()) else { continue };
            ledger.sent_to(&endpoint, role.into());
            if role == Role::Standby {
                self.ask_for_more();
            }
            let key = self.invocation.version.key;
            let came = self.attempt(call, ledger).await.inspect_err(|failure| {
                if failure.is_the_workers() {
                    endpoint.failed(key, Fault::Internal);
                }
            });
            match came? {
                First::Head(head, call) => {
                    endpoint.refusals.taken();
                    endpoint.health.worked();
                    self.failed.iter().for_each(|other| other.failed(key, Fault::AnsweredElsewhere));
                    self.invocation.version.demand.throttle().taken(Instant::now());
                    return Ok((head, call));
                }
                First::Full(refusal) => {
                    endpoint.refusals.refused(Instant::now());
                    self.refused.push((endpoint, role));
                    self.full = Some(refusal.clone());
                    self.may_try_again(refusal)?;
                }
                First::Lost => {
                    self.failed.push(endpoint.clone());
                    self.refused.push((endpoint, role));
                    self.refusal = Some(self.may_run_again()?);
                }
                First::Again(refusal) => {
                    tracing::debug!(endpoint = endpoint.id, %refusal, "an endpoint refused an invocation");
                    endpoint.refusals.refused(Instant::now());
                    if role == Role::Placed {
                        self.failed.push(endpoint.clone());
                    }
                    self.refused.push((endpoint, role));
                    self.refusal = Some(refusal);
                }
            }
            // Whoever has the version had no room, and nobody else has it.
            if self.full.is_some() && self.find().is_none() {
                return Err(self.full.take().unwrap_or_else(saturated).into());
            }
        }
    }

    /// Whether it does no harm to run it again, and all of it is here.
    fn can_run_again(&self) -> bool {
        self.invocation.version.idempotent && self.pump.is_kept()
    }

    /// Whether what was lost runs again; where it does not, that is the answer.
    fn may_run_again(&mut self) -> Result<ApiError, ApiError> {
        self.losses += 1;
        // A call that brings workers down must not bring down all of them.
        if self.can_run_again() && self.losses <= RUNS_AGAIN { Ok(worker_lost()) } else { Err(worker_lost()) }
    }

    /// Whether another endpoint is asked although one had no room; otherwise that is the answer.
    fn may_try_again(&self, refusal: ApiError) -> Result<(), ApiError> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(out_of_time(Stage::Worker));
        }
        let mut throttle = self.invocation.version.demand.throttle();
        throttle.refused(&refusal, now);
        if self.find().is_some() && throttle.may_try_again(now) { Ok(()) } else { Err(refusal) }
    }

    /// An endpoint that can be reached and has not refused: one that has the version ready, otherwise one that has it on
    /// standby. The latter needs no scheduler, and no more time than loading takes.
    fn find(&self) -> Option<Found> {
        let placements = self.inner.directory.load();
        let Version { key, standbys, .. } = &*self.invocation.version;
        let placed = placements.of(*key).and_then(|endpoints| self.choose(endpoints, Role::Placed));
        // Standbys are for what runs nowhere, not for more than a version may have.
        let spare = if self.full.is_some() && placements.of(*key).is_some() { 0 } else { *standbys };
        placed.or_else(|| {
            let standbys = placements.standbys(*key, spare);
            standbys.iter().find_map(|endpoints| self.choose(endpoints, Role::Standby))
        })
    }

    fn choose(&self, endpoints: &[Arc<Endpoint>], role: Role) -> Option<Found> {
        // What had to be loaded first may be ready by now; the other way round there is no hope.
        let counts = |as_what: Role| role == Role::Standby || as_what == Role::Placed;
        let load = |index: usize| {
            let endpoint = endpoints.get(index)?;
            let refused = self.refused.iter().any(|(refused, role)| counts(*role) && Arc::ptr_eq(refused, endpoint));
            if refused { None } else { endpoint.load() }
        };
        let (count, random) = (endpoints.len(), rand::random());
        let sound = |index: usize| load(index).filter(|_| !is_left_out(endpoints, index));
        let endpoint = endpoints.get(pick(count, sound, random).or_else(|| pick(count, load, random))?)?;
        Some(Found { endpoint: endpoint.clone(), session: endpoint.session()?, role })
    }

    /// Tells the scheduler of a crowd on standby workers.
    fn ask_for_more(&self) {
        let Version { key, demand, .. } = &*self.invocation.version;
        if demand.now().0 >= CROWD {
            self.inner.activator.nudge(*key, demand);
        }
    }

    async fn session(&mut self) -> Result<Found, ApiError> {
        if let Some(found) = self.find() {
            return Ok(found);
        }
        let Some(_waiting) = Waiting::join(&self.invocation.version.demand, self.inner.config.queue) else {
            return Err(no_worker("as many invocations of this version as may wait for a worker do so already"));
        };
        let patience = self.inner.config.queue_timeout;
        let until = self.deadline.min(*self.patience.get_or_insert_with(|| Instant::now() + patience));
        tokio::select! {
            biased;
            () = sleep_until(until) => Err(self.waited_in_vain(until == self.deadline)),
            found = self.wait() => found,
        }
    }

    fn waited_in_vain(&mut self, deadline: bool) -> ApiError {
        if deadline {
            return out_of_time(Stage::Worker);
        }
        self.refusal.take().unwrap_or_else(|| no_worker("no worker has this version ready"))
    }

    /// Waits until there is an endpoint, however long that takes.
    async fn wait(&mut self) -> Result<Found, ApiError> {
        let mut changes = self.inner.directory.changes();
        let version = self.invocation.version.key;
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.find() {
                return Ok(found);
            }
            let placed = self.inner.directory.load().of(version).is_some();
            if let Some(refusal) = self.refusal.take_if(|refusal| !refusal.is_unavailable()) {
                return Err(refusal);
            }
            let asked = async {
                let answer = if placed { Ok(()) } else { self.inner.activator.ask(version).await };
                if let Some(error) = answer.err().filter(activate::is_final) {
                    return Some(error);
                }
                tokio::time::sleep(if placed { AGAIN } else { activate::PAUSE }).await;
                None
            };
            tokio::select! {
                _ = changes.changed() => {}
                error = asked => match error {
                    Some(error) => return Err(error),
                    None => self.refused.clear(),
                },
            }
        }
    }

    async fn begin(&mut self) -> Result<Begin, ApiError> {
        let body = self.pump.begin().await?;
        let invocation = &self.invocation;
        let Invocation { id, version, request, base_path, scheme, authority, remote_address, .. } = invocation;
        let (introduced, request_id) = (&invocation.introduced, &invocation.request_id);
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Ok(Begin {
            id: id.uuid().as_bytes().to_vec().into(),
            version: Some(wire::version_ref(version.key)),
            time_left: Some(to_wire_duration(self.deadline.saturating_duration_since(Instant::now()))),
            method: request.method().to_string(),
            scheme: (*scheme).to_owned(),
            authority: authority.clone(),
            path_and_query: path.to_owned(),
            base_path: base_path.clone(),
            headers: fields::to_wire_with(request.headers(), [&introduced.parameters, &introduced.caller]),
            remote_address: remote_address.to_string(),
            body: Some(body),
            request_id: request_id.clone(),
        })
    }

    /// Runs it at one worker, until its answer may go to the caller or it is known that there is none.
    async fn attempt(&mut self, call: CallHandle, ledger: &mut Ledger) -> Result<First, Box<Failure>> {
        let mut wait = Wait::begin(&call, ledger);
        let came = self.head(call, wait.ledger()).await;
        wait.over();
        came
    }

    /// Waits for the head, and where that helps for what follows it.
    async fn head(&mut self, call: CallHandle, ledger: &mut Ledger) -> Result<First, Box<Failure>> {
        let late = self.deadline + SLACK;
        match attempt::first(call, &mut self.pump, late, ledger).await? {
            First::Head(head, call) if self.can_run_again() => attempt::hold(head, call, &mut self.pump, late).await,
            first => Ok(first),
        }
    }

    /// Makes the answer of its head and what follows.
    async fn answer(
        self,
        head: Head,
        call: CallHandle,
        mut ledger: Ledger,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let Self { inner, invocation, deadline, pump, .. } = self;
        let (parts, _) = invocation.request.into_parts();
        let status = match u16::try_from(head.status).ok().and_then(|status| StatusCode::from_u16(status).ok()) {
            // 1xx and 101 are not the guest's to send (RFC 9110 15.2).
            Some(status) if !status.is_informational() => status,
            _ => {
                let error = ApiError::new(ErrorCode::FunctionFailed, format!("the function answered {}", head.status));
                ledger.fail(&error);
                ledger.answered(error.code.http_status());
                call.cancel("caller_gone", Some(ledger));
                return Err(error);
            }
        };
        if !pump.finished {
            inner.shutdown.spawn(send_rest(pump, call.sender()));
        }
        let limit = invocation.version.response_body_bytes;
        let mut body = ResponseBody::new(call, ledger, limit, accepts_trailers(&parts), deadline + SLACK);
        body.answered(status.as_u16());
        body.gather().await;
        if let Some(error) = body.early_error() {
            body.answered(error.code.http_status());
            return Err(wire::for_caller(error));
        }
        Ok(response(status, wire::header_map(head.headers), body, &parts))
    }
}

/// Whether an endpoint is left out: it fails calls, and not half of the others are left out already.
fn is_left_out(endpoints: &[Arc<Endpoint>], index: usize) -> bool {
    let out = |index: usize| endpoints.get(index).is_some_and(|endpoint| endpoint.is_out());
    out(index) && (0..index).filter(|before| out(*before)).count() < most_out(endpoints.len())
}

/// Sends the rest of a body whose function has begun to answer.
async fn send_rest(mut pump: Pump, sender: super::call::BodySender) {
    if let Err(error) = pump.run(&sender).await {
        sender.abort(BodyError::reason(error));
    }
}
