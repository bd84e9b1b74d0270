//! Records as messages of the public API.

use dunlin_proto::{
    model::to_wire_duration,
    names::{FunctionRef, KeyName},
    v1,
};
use prost_types::Timestamp;

use crate::{
    claims::Prover,
    deploy::Preview,
    keys,
    model::{
        AliasRecord, CertificateRecord, ClaimRecord, DomainRecord, DomainTls, FunctionRecord, Held, KeyRecord, Kind,
        NamespaceRecord, PlanRecord, ProofKind, RolloutPart, RolloutRecord, RolloutState, RouteRecord, Share, Time,
        VersionRecord,
    },
    releases::Difference,
    rollout::Tally,
};

/// A moment.
pub(super) fn timestamp(time: Time) -> Timestamp {
    let nanos = time.0.rem_euclid(1_000_000).saturating_mul(1_000);
    Timestamp { seconds: time.0.div_euclid(1_000_000), nanos: i32::try_from(nanos).unwrap_or_default() }
}

/// A namespace with the number of its functions.
pub(super) fn namespace(record: &NamespaceRecord, function_count: u32) -> v1::Namespace {
    v1::Namespace {
        name: format!("namespaces/{}", record.name),
        description: record.description.clone(),
        create_time: Some(timestamp(record.create_time)),
        function_count,
        max_concurrency: record.max_concurrency,
        rate: record.rate.map(Into::into),
        log_retention: record.retention.age.map(to_wire_duration),
        log_bytes: record.retention.log_bytes,
        quota: record.quota.map(Into::into),
        quota_usage: None,
    }
}

/// A function. Its addresses are for gateways to fill in.
pub(super) fn function(record: &FunctionRecord) -> v1::Function {
    v1::Function {
        name: record.reference().to_string(),
        uid: record.uid.to_string(),
        description: record.description.clone(),
        public: record.public,
        direct: record.direct,
        disabled: record.disabled,
        quota_usage: None,
        traffic: shares(&record.traffic),
        latest_version: record.latest_version,
        create_time: Some(timestamp(record.create_time)),
        update_time: Some(timestamp(record.update_time)),
        etag: record.etag(),
        urls: Vec::new(),
    }
}

/// A function's alias.
pub(super) fn alias(function: &FunctionRef, record: &AliasRecord) -> v1::Alias {
    v1::Alias {
        name: function.alias(record.name.clone()).to_string(),
        traffic: shares(&record.shares),
        sticky: Some((&record.sticky).into()),
        create_time: Some(timestamp(record.create_time)),
        update_time: Some(timestamp(record.update_time)),
    }
}

/// A rollout with what the versions of its functions did since its step began; a function of its own first.
pub(super) fn rollout(record: &RolloutRecord, of: &FunctionRef, progress: &[(Tally, Tally)]) -> v1::Rollout {
    let parts = record.parts.iter().zip(progress);
    let functions: Vec<_> = parts.map(|(part, progress)| rollout_part(record, part, progress)).collect();
    let name = of.to_string();
    let own = functions.iter().find(|part| part.function == name).or(functions.first()).cloned().unwrap_or_default();
    let app = record.app.as_ref().filter(|_| record.state == RolloutState::Running);
    v1::Rollout {
        function: own.function,
        old_version: own.old_version,
        new_version: own.new_version,
        steps: record.steps.clone(),
        step: u32::try_from(record.step.saturating_add(1)).unwrap_or(u32::MAX),
        step_time: Some(to_wire_duration(record.step_time)),
        step_calls: record.step_calls,
        state: rollout_state(record.state).into(),
        reason: record.reason.clone(),
        creator: record.creator.clone(),
        create_time: Some(timestamp(record.create_time)),
        update_time: Some(timestamp(record.update_time)),
        old_tally: own.old_tally,
        new_tally: own.new_tally,
        functions,
        app: app.map(ToString::to_string).unwrap_or_default(),
    }
}

fn rollout_state(state: RolloutState) -> v1::RolloutState {
    match state {
        RolloutState::Running => v1::RolloutState::Running,
        RolloutState::Promoted => v1::RolloutState::Promoted,
        RolloutState::Back => v1::RolloutState::Back,
        RolloutState::Stopped => v1::RolloutState::Stopped,
        RolloutState::Superseded => v1::RolloutState::Superseded,
        RolloutState::Quarantined => v1::RolloutState::Quarantined,
    }
}

fn rollout_part(record: &RolloutRecord, part: &RolloutPart, (old, new): &(Tally, Tally)) -> v1::RolloutFunction {
    let running = record.state == RolloutState::Running;
    v1::RolloutFunction {
        function: part.function.to_string(),
        old_version: part.old.get(),
        new_version: part.new.get(),
        old_tally: running.then(|| tally(old)),
        new_tally: running.then(|| tally(new)),
    }
}

fn tally(tally: &Tally) -> v1::VersionTally {
    let Tally { calls, failures, traps, .. } = *tally;
    v1::VersionTally { calls, failures, traps, p99: tally.p99().map(to_wire_duration) }
}

/// How calls divide.
pub(super) fn shares(shares: &[Share]) -> Vec<v1::TrafficTarget> {
    shares.iter().map(|share| v1::TrafficTarget { version: share.0.get(), percent: share.1 }).collect()
}

fn kind(kind: Kind) -> v1::FunctionKind {
    match kind {
        Kind::Http02 => v1::FunctionKind::Http02,
        Kind::Http03 => v1::FunctionKind::Http03,
        Kind::Command => v1::FunctionKind::Command,
    }
}

/// A version.
pub(super) fn version(record: &VersionRecord) -> v1::Version {
    v1::Version {
        name: record.name().to_string(),
        number: record.number.get(),
        artifact_digest: record.artifact.to_string(),
        artifact_size_bytes: record.artifact_size,
        kind: kind(record.kind).into(),
        spec: Some(record.spec.clone().into()),
        imports: record.imports.clone(),
        create_time: Some(timestamp(record.create_time)),
        creator: record.creator.clone(),
        note: record.note.clone(),
        compiled_size_bytes: record.compiled_size,
        reuse_refusal: record.reuse_refusal.clone().unwrap_or_default(),
        preview_urls: Vec::new(),
        pending_public: record.policy.public,
        pending_direct: record.policy.direct,
    }
}

/// A key.
pub(super) fn key(record: &KeyRecord) -> v1::Key {
    v1::Key {
        name: KeyName { namespace: record.namespace.clone(), key: record.id.clone() }.to_string(),
        display_name: record.display_name.clone(),
        functions: record.functions.iter().map(ToString::to_string).collect(),
        create_time: Some(timestamp(record.create_time)),
        expire_time: record.expire_time.map(timestamp),
        revoke_time: record.revoke_time.map(timestamp),
        creator: record.creator.clone(),
        prefix: keys::prefix(&record.id),
        plan: record.plan.as_ref().map(ToString::to_string).unwrap_or_default(),
        old_secret_expire_time: record.old.map(|old| timestamp(old.expire_time)),
    }
}

/// A plan with so many valid keys under it.
pub(super) fn plan(record: &PlanRecord, keys: u32) -> v1::Plan {
    v1::Plan {
        name: record.name.to_string(),
        rate: record.rate.map(Into::into),
        quota: record.quota.map(Into::into),
        create_time: Some(timestamp(record.create_time)),
        keys,
        max_concurrency: record.max_concurrency,
    }
}

/// A route.
pub(super) fn route(record: &RouteRecord) -> v1::Route {
    v1::Route {
        name: record.name.to_string(),
        create_time: Some(timestamp(record.create_time)),
        update_time: Some(timestamp(record.update_time)),
        creator: record.creator.clone(),
        ..v1::Route::from(&record.spec)
    }
}

/// A field that differs.
pub(super) fn difference(difference: Difference) -> v1::Difference {
    let Difference { subject, field, before, after } = difference;
    v1::Difference { subject, field, before, after }
}

/// What a deploy would change.
pub(super) fn preview(preview: Preview) -> v1::DeployPreview {
    v1::DeployPreview {
        version: preview.number,
        needs_allow_new_capabilities: !preview.changes.added_hosts.is_empty(),
        capabilities: (!preview.changes.is_empty()).then(|| preview.changes.to_wire()),
        differences: preview.differences.into_iter().map(difference).collect(),
    }
}

/// A domain with what has become of its proof and certificate.
pub(super) fn domain(held: &Held, certificate: Option<&CertificateRecord>, prover: &Prover) -> v1::Domain {
    let (creator, create_time, tls, proof) = match held {
        Held::Owned(record) => (&record.creator, record.create_time, record.tls, proved(record)),
        Held::Claimed(record) => (&record.creator, record.create_time, record.tls, pending(record)),
    };
    let tls = match tls {
        DomainTls::Acme => v1::DomainTls::Acme,
        DomainTls::None => v1::DomainTls::None,
    };
    let name = held.name();
    let proof = v1::DomainProof {
        record_name: Prover::record_name(&name.domain),
        record_text: prover.record_text(name),
        ..proof
    };
    v1::Domain {
        name: name.to_string(),
        create_time: Some(timestamp(create_time)),
        creator: creator.clone(),
        tls: tls.into(),
        certificate: certificate.map(certificate_state),
        proof: Some(proof),
        // The gateway that asks knows its own files.
        file_certificate: None,
    }
}

fn proved(record: &DomainRecord) -> v1::DomainProof {
    let kind = match record.proof {
        ProofKind::Dns => v1::DomainProofKind::Dns,
        ProofKind::Vouched => v1::DomainProofKind::Vouched,
        ProofKind::Parent => v1::DomainProofKind::Parent,
    };
    v1::DomainProof { state: v1::DomainProofState::Proved.into(), kind: kind.into(), ..Default::default() }
}

fn pending(record: &ClaimRecord) -> v1::DomainProof {
    let waits = record.attempt.is_some();
    let state = if waits { v1::DomainProofState::Pending } else { v1::DomainProofState::Expired };
    v1::DomainProof {
        state: state.into(),
        attempts: record.attempts,
        next_attempt_time: record.attempt.map(timestamp),
        expire_time: Some(timestamp(record.expire)),
        error: record.error.clone(),
        hint: record.hint.clone(),
        ..Default::default()
    }
}

fn certificate_state(record: &CertificateRecord) -> v1::DomainCertificateState {
    let issued = record.issued.as_ref();
    v1::DomainCertificateState {
        issuer: issued.map(|issued| issued.issuer.clone()).unwrap_or_default(),
        start_time: issued.map(|issued| timestamp(issued.start)),
        expire_time: issued.map(|issued| timestamp(issued.expire)),
        next_attempt_time: Some(timestamp(record.attempt)),
        failures: record.failures,
        error: record.error.clone(),
        hint: record.hint.clone(),
    }
}
