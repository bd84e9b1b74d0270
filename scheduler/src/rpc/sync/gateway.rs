//! A gateway's stream: hello and demand up, configuration and placements down.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use dunlin_proto::{
    ApiError,
    ids::{DomainName, GatewayId, VersionKey},
    internal::v1::{self as wire, sync_gateway_request::Report, sync_gateway_response::Update},
    limit::LimitId,
    trust::Caller,
};
use futures::Stream;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{super::snapshot, Desk, Ends, first, over, read, report};
use crate::{
    acme::{Challenge, Change, Published, Served},
    app::App,
    budgets::SpentBudget,
    catalog::Catalog,
    cluster::Session,
    config::ChallengeKind,
    lending::Loan,
    model::Time,
    purges::{Missed, Position, PurgeLog},
    reconcile::Placements,
};

pub(super) async fn open(
    desk: &Desk,
    caller: &Caller,
    mut reports: Streaming<wire::SyncGatewayRequest>,
) -> Result<impl Stream<Item = Result<wire::SyncGatewayResponse, Status>> + Send + use<>, ApiError> {
    let app = desk.app()?;
    let Some(Report::Hello(hello)) = first(&mut reports).await?.report else {
        return Err(ApiError::invalid("report", "the first message of a gateway must be its hello"));
    };
    let held = report::held_rates(&hello.held_rates);
    let purged = hello.purged.as_ref().map(position);
    let certified = hello.certificates.as_ref().map(certified_position);
    let (refuses, boot) = (hello.budgets, hello.boot);
    let hello = report::gateway_hello(&hello)?;
    caller.check_name(hello.gateway.as_str())?;
    app.members.check(caller)?;
    let (gateway, has, address) = (hello.gateway.clone(), hello.config_version, hello.peer_address.clone());
    let session = app.board.cluster().gateway_join(hello, Time::now())?;
    app.board.cluster().gateway_purged(&gateway, session, purged);
    app.board.cluster().gateway_certified(&gateway, session, certified);
    tracing::info!(%gateway, config_version = has, "a gateway has connected");
    app.remember_holder(&gateway).await;
    let told = app.lending.join(&gateway, session, &held, &app.catalog.current(), Instant::now());
    app.take_back_later(app.lending.recognise(&gateway, session, boot));
    // Other gateways learn of it.
    app.board.hint();
    let ended = CancellationToken::new();
    let (leaver, leaving) = (app.clone(), gateway.clone());
    let left = move || {
        leaver.board.cluster().gateway_leave(&leaving, session, Instant::now());
        leaver.lending.leave(&leaving, session, Instant::now());
        leaver.rollouts.leave(&leaving);
        tracing::info!(gateway = %leaving, "a gateway's stream has ended");
        leaver.board.hint();
        leaver.bury_when_gone(leaving, address);
    };
    read(desk, &ended, follow(app.clone(), gateway.clone(), session, reports), left);
    let lent = Lent { app: app.clone(), gateway, session, told };
    Ok(updates(desk.clone(), &app, (has, purged, certified, refuses), ended, lent))
}

/// What one stream says of limited rates.
struct Lent {
    app: Arc<App>,
    gateway: GatewayId,
    session: Session,
    told: Arc<Notify>,
}

impl Lent {
    /// What has changed since the last time.
    fn news(&self) -> Option<Update> {
        let loans = self.app.lending.loans(&self.gateway, self.session);
        let loan = |(limit, loan): (LimitId, Loan)| wire::RateLoan {
            limit: limit.to_string(),
            sequence: loan.sequence,
            per_second: loan.share.per_second,
            burst: loan.share.burst,
            granted: loan.granted,
            part: loan.part,
        };
        let loans: Vec<_> = loans.into_iter().map(loan).collect();
        (!loans.is_empty()).then_some(Update::RateLoans(wire::RateLoans { loans }))
    }

    /// Up to where it is known what the gateway has said of quotas, where it has not been told so.
    fn noted(&self) -> Option<Update> {
        let sequence = self.app.lending.noted(&self.gateway, self.session)?;
        Some(Update::LeftsNoted(wire::QuotaLeftsNoted { sequence }))
    }
}

fn position(wire: &wire::PurgePosition) -> Position {
    Position { epoch: wire.epoch, sequence: wire.sequence }
}

fn certified_position(wire: &wire::CertificatesPosition) -> Position {
    Position { epoch: wire.epoch, sequence: wire.sequence }
}

/// Takes reports until the stream ends or another one has replaced it.
async fn follow(app: Arc<App>, gateway: GatewayId, session: Session, mut reports: Streaming<wire::SyncGatewayRequest>) {
    while let Ok(Some(message)) = reports.message().await {
        let load = match message.report {
            Some(Report::Load(load)) => load,
            Some(Report::Rates(rates)) => {
                app.lending.report_left(&gateway, session, report::quota_lefts(rates.lefts), 0);
                let wants = report::rate_wants(rates.demands);
                app.lending.report(&gateway, session, wants, &app.catalog.current(), Instant::now());
                continue;
            }
            Some(Report::Hello(_)) | None => continue,
        };
        let catalog = app.catalog.current();
        let counts = report::outcomes(load.outcomes, &catalog);
        let demand = report::gateway_demand(load.demand, &catalog);
        let waits = demand.values().any(|demand| demand.queued > 0);
        if let Err(error) = app.board.cluster().gateway_report(&gateway, session, load.config_version, demand) {
            tracing::info!(%gateway, cause = error.message, "a gateway's stream is replaced");
            return;
        }
        app.rollouts.report(&(gateway.clone(), load.counted_by), counts);
        app.lending.report_left(&gateway, session, report::quota_lefts(load.lefts), load.lefts_sequence);
        app.board.cluster().gateway_purged(&gateway, session, load.purged.as_ref().map(position));
        let certified = load.certificates.as_ref().map(certified_position);
        app.board.cluster().gateway_certified(&gateway, session, certified);
        app.board.acknowledged();
        if waits {
            app.board.hint();
        }
    }
}

fn updates(
    desk: Desk,
    app: &App,
    (has, mut purged, certified, refuses): (u64, Option<Position>, Option<Position>, bool),
    ended: CancellationToken,
    lent: Lent,
) -> impl Stream<Item = Result<wire::SyncGatewayResponse, Status>> + Send + use<> {
    let ends = Ends { ended: ended.clone() };
    let (mut catalogs, mut placements) = (app.catalog.subscribe(), app.board.placements());
    let mut purges = app.board.purges();
    let (mut published, mut told) = (app.board.certificates(), None);
    let (mut judged, mut watched) = (app.rollouts.watched(), None);
    let (mut spent, mut refused) = (app.budgets.spent(), None);
    let token_keys = snapshot::token_keys(&desk.tokens);
    let say = |update| Ok(wire::SyncGatewayResponse { update: Some(update) });
    async_stream::stream! {
        let _ends = ends;
        let over = over(desk, ended);
        tokio::pin!(over);
        let (mut sent, mut placed): (Option<Arc<Catalog>>, u64) = (None, 0);
        loop {
            let catalog = catalogs.borrow_and_update().clone();
            if let Some(update) = config(sent.as_deref(), &catalog, has, &token_keys) {
                yield say(update);
            }
            sent = Some(catalog);
            if let Some(update) = newest(&mut placements, &mut placed) {
                yield say(Update::Placements(update));
            }
            for update in lent.news().into_iter().chain(lent.noted()) {
                yield say(update);
            }
            if let Some(update) = missed(&mut purges, &mut purged) {
                yield say(Update::CachePurges(update));
            }
            if let Some(update) = certified.and_then(|has| certificates(&mut published, &mut told, has)) {
                yield say(Update::Certificates(update));
            }
            if let Some(update) = to_watch(&mut judged, &mut watched) {
                yield say(Update::Watched(update));
            }
            if refuses && let Some(update) = to_refuse(&mut spent, &mut refused) {
                yield say(Update::SpentBudgets(update));
            }
            tokio::select! {
                changed = judged.changed() => if changed.is_err() { return },
                changed = spent.changed() => if changed.is_err() { return },
                changed = published.changed() => if changed.is_err() { return },
                changed = purges.changed() => if changed.is_err() { return },
                changed = catalogs.changed() => if changed.is_err() { return },
                changed = placements.changed() => if changed.is_err() { return },
                () = lent.told.notified() => {}
                () = &mut over => return,
            }
        }
    }
}

/// What the gateway must learn: everything at first, unless it has exactly that already, then the change from what this
/// stream sent last.
fn config(sent: Option<&Catalog>, now: &Catalog, has: u64, token_keys: &[wire::TokenKey]) -> Option<Update> {
    match sent {
        Some(sent) => snapshot::difference(sent, now).map(Update::ConfigDelta),
        None if has == now.version => None,
        None => Some(Update::Config(snapshot::whole(now, token_keys.to_vec()))),
    }
}

/// The purges that it has not been told of, where it stores answers.
fn missed(purges: &mut watch::Receiver<PurgeLog>, told: &mut Option<Position>) -> Option<wire::CachePurges> {
    let has = told.as_mut()?;
    let log = purges.borrow_and_update();
    let missed = log.missed(*has)?;
    *has = log.newest();
    let position = Some(wire::PurgePosition { epoch: has.epoch, sequence: has.sequence });
    Some(match missed {
        Missed::More => wire::CachePurges { position, all: true, purges: Vec::new() },
        Missed::These(purges) => {
            wire::CachePurges { position, all: false, purges: purges.iter().map(Into::into).collect() }
        }
    })
}

/// The versions whose calls are judged, where they are others than this stream told last.
fn to_watch(
    judged: &mut watch::Receiver<Arc<BTreeSet<VersionKey>>>,
    told: &mut Option<Arc<BTreeSet<VersionKey>>>,
) -> Option<wire::WatchedVersions> {
    let now = judged.borrow_and_update().clone();
    if told.as_ref().map_or(now.is_empty(), |told| **told == *now) {
        return None;
    }
    let versions = now.iter().map(|key| (*key).into()).collect();
    *told = Some(now);
    Some(wire::WatchedVersions { versions })
}

/// The budgets that are used up, where this stream has told nothing yet, or of others.
fn to_refuse(
    spent: &mut watch::Receiver<Arc<Vec<SpentBudget>>>,
    told: &mut Option<Arc<Vec<SpentBudget>>>,
) -> Option<wire::SpentBudgets> {
    let now = spent.borrow_and_update().clone();
    if told.as_ref().is_some_and(|told| *told == now) {
        return None;
    }
    let budget = |spent: &SpentBudget| wire::SpentBudget {
        namespace: spent.namespace.to_string(),
        cpu: spent.cpu,
        used: spent.used,
        allowed: spent.allowed,
        period_start: spent.period.0,
        period_end: spent.period.1,
    };
    let budgets = now.iter().map(budget).collect();
    *told = Some(now);
    Some(wire::SpentBudgets { budgets })
}

/// The certificates and challenges that this stream has not told of, where the gateway has not said that it has them.
fn certificates(
    published: &mut watch::Receiver<Arc<Published>>,
    told: &mut Option<Arc<Published>>,
    has: Position,
) -> Option<wire::Certificates> {
    let now = published.borrow_and_update().clone();
    let before = told.replace(now.clone());
    let Change { position, whole, certificates, removed, challenges } = now.since(before.as_deref(), has)?;
    let certificate = |(domain, served): (DomainName, Arc<Served>)| wire::DomainCertificate {
        domain: domain.to_string(),
        chain: served.chain.clone(),
        key: Bytes::copy_from_slice(&served.key),
    };
    Some(wire::Certificates {
        position: Some(wire::CertificatesPosition { epoch: position.epoch, sequence: position.sequence }),
        whole,
        certificates: certificates.into_iter().map(certificate).collect(),
        removed: removed.iter().map(ToString::to_string).collect(),
        challenges: challenges.iter().map(|challenge| to_answer(challenge)).collect(),
    })
}

fn to_answer(challenge: &Challenge) -> wire::AcmeChallenge {
    let kind = match challenge.kind {
        ChallengeKind::Http01 => wire::AcmeChallengeKind::Http01,
        ChallengeKind::TlsAlpn01 => wire::AcmeChallengeKind::TlsAlpn01,
    };
    wire::AcmeChallenge {
        domain: challenge.domain.to_string(),
        kind: kind.into(),
        token: challenge.token.clone(),
        key_authorization: challenge.key_authorization.clone(),
    }
}

/// The placements, where they are others than this stream sent last.
fn newest(placements: &mut watch::Receiver<Option<Arc<Placements>>>, sent: &mut u64) -> Option<wire::Placements> {
    let now = placements.borrow_and_update().clone().filter(|now| now.sequence > *sent)?;
    *sent = now.sequence;
    Some(to_wire(&now))
}

fn to_wire(placements: &Placements) -> wire::Placements {
    let endpoint = |placed: &crate::reconcile::Placed| wire::PlacedEndpoint {
        id: placed.id.clone(),
        worker: placed.worker.to_string(),
        address: placed.address.clone(),
    };
    let version = |(key, endpoints): (&dunlin_proto::ids::VersionKey, &std::collections::BTreeSet<String>)| {
        wire::VersionPlacement { version: Some((*key).into()), endpoints: endpoints.iter().cloned().collect() }
    };
    let peer = |peer: &crate::reconcile::Peer| wire::GatewayPeer {
        gateway: peer.gateway.clone(),
        address: peer.address.clone(),
    };
    let seat =
        |seat: &crate::cluster::Seated| wire::StandbySeat { worker: seat.worker.to_string(), zone: seat.zone.clone() };
    wire::Placements {
        epoch: placements.epoch,
        sequence: placements.sequence,
        endpoints: placements.endpoints.iter().map(endpoint).collect(),
        versions: placements.versions.iter().map(version).collect(),
        gateways: placements.gateways.iter().map(peer).collect(),
        departed: placements.departed.iter().map(peer).collect(),
        seats: placements.seats.iter().map(seat).collect(),
    }
}
