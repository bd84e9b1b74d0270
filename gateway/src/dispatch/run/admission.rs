//! Whether an invocation may begin: the gateway's own room, the limits of its caller, function and namespace, and what workers said of
//! the version lately. Who is refused here leaves a note. Rates and quotas of callers are `crate::limits`'s.

use std::{sync::atomic::Ordering, time::SystemTime};

use dunlin_proto::{ApiError, names::FunctionRef};
use tokio::time::Instant;

use super::{Inner, saturated};
use crate::{
    dispatch::{Invocation, record::Slot},
    records::{Came, Phase, Refusal},
    routes::Function,
};

impl Inner {
    /// Whether there is room for a function's invocation besides those of others.
    pub(super) fn has_room(&self, function: &Function) -> Result<(), ApiError> {
        let (taken, most) = (self.taken.load(Ordering::Relaxed), self.config.in_flight);
        if function.quota.leaves_room(taken, most) { Ok(()) } else { Err(saturated()) }
    }

    /// A slot for an invocation, under all limits and where workers have room.
    pub(super) async fn admit(&self, invocation: &Invocation) -> Result<Slot, ApiError> {
        let function = &invocation.function;
        if let Some(own) = &invocation.at_once {
            own.ready(&self.borrowing).await?;
        }
        function.quota.ready(&self.borrowing, &function.name).await?;
        let slot = self.slot(invocation)?;
        // Workers had no room for the version lately.
        let refusal = invocation.version.demand.throttle().refuses(rand::random(), Instant::now());
        refusal.map_or(Ok(slot), Err)
    }

    /// Notes that an invocation is refused before it has a record.
    pub(super) fn note(&self, invocation: &mut Invocation, error: &ApiError) {
        let Came { route, caller, trace, mut traced, .. } = std::mem::take(&mut invocation.came);
        let FunctionRef { namespace, function } = invocation.function.name.clone();
        let took = invocation.accepted.elapsed();
        if let Some(phases) = &mut traced.phases {
            phases.refuse(Phase::Admit, took);
        }
        self.records.refuse(Refusal {
            id: invocation.id,
            namespace: Some(namespace),
            function: Some(function),
            route,
            caller,
            address: Some(invocation.remote_address),
            start_time: SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH),
            took,
            method: invocation.request.method().to_string(),
            path: format!("{}{}", invocation.base_path, invocation.request.uri().path()),
            gateway: self.gateway.clone(),
            code: error.code,
            error: error.message.clone(),
            hint: error.hint.clone().unwrap_or_default(),
            request_id: invocation.request_id.clone(),
            trace,
            traced,
        });
    }

    /// A slot for a function's invocation, under all limits.
    fn slot(&self, invocation: &Invocation) -> Result<Slot, ApiError> {
        let function = &*invocation.function;
        self.has_room(function)?;
        self.metering.check(&function.name)?;
        let of_caller = invocation.at_once.as_ref().map(|own| own.take()).transpose()?;
        let taken = function.quota.take(&function.name, of_caller)?;
        Slot::take(&self.taken, self.config.in_flight, taken).ok_or_else(saturated)
    }
}
