//! How a certificate is replaced: at half its life, by the process itself, over a connection that the present one
//! authenticates. Where the scheduler is away it is tried again until it is back.

use std::time::{Duration, SystemTime};

use dunlin_process::shutdown::Shutdown;
use rustls::pki_types::CertificateDer;
use tonic::transport::Endpoint;

use super::{Expected, Home, Member, Peer, Role, Trust, TrustError, join::refused};
use crate::internal::v1::{RenewRequest, membership_service_client::MembershipServiceClient};

/// How long the scheduler may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts, at the least and at the most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Trust {
    /// Renews the certificate, again and again, until the shutdown begins; without one there is nothing to do.
    pub async fn keep_fresh(self, scheduler: String, home: Home, shutdown: Shutdown) {
        if let Self::Certificate(member) = &self {
            tokio::select! {
                () = keep_fresh(&self, member, &scheduler, &home) => {}
                () = shutdown.begun() => {}
            }
        }
    }
}

async fn keep_fresh(trust: &Trust, member: &Member, scheduler: &str, home: &Home) {
    let mut attempt = 0;
    loop {
        let Ok(peer) = member.peer() else { return };
        tokio::time::sleep(pause(&peer, attempt, SystemTime::now(), rand::random())).await;
        match renew(trust, member, scheduler, home).await {
            Ok(()) => {
                tracing::info!(identity = %member.identity(), "the certificate has been renewed");
                attempt = 0;
            }
            Err(error) => {
                attempt += 1;
                let left = peer.not_after.duration_since(SystemTime::now()).unwrap_or_default();
                tracing::warn!(%error, ?left, "the certificate can't be renewed for now");
            }
        }
    }
}

/// How long to wait before the next attempt, for a random number: the first comes at half the certificate's life, give or
/// take a tenth, so that a cluster that has started at once does not renew at once; the others soon after each other.
fn pause(peer: &Peer, attempt: u32, now: SystemTime, random: u32) -> Duration {
    let life = peer.not_after.duration_since(peer.not_before).unwrap_or_default();
    if attempt > 0 {
        // Never so long that a short life would be over.
        let longest = LONGEST_PAUSE.min(life / 20).max(FIRST_PAUSE);
        return (FIRST_PAUSE * (1 << attempt.min(7)) / 2).min(longest);
    }
    let share = 40 + random % 21;
    (peer.not_before + life * share / 100).duration_since(now).unwrap_or_default()
}

async fn renew(trust: &Trust, member: &Member, scheduler: &str, home: &Home) -> Result<(), TrustError> {
    let endpoint: Endpoint = trust.scheduler(scheduler)?.connect_timeout(PATIENCE);
    // A connection of its own, so that it is authenticated by the present certificate, and closed afterwards.
    let link = trust.link(&endpoint, Expected::any(Role::Scheduler))?;
    let request = RenewRequest { signing_request: member.signing_request()?.into() };
    let mut client = MembershipServiceClient::new(link);
    let silent = |_| TrustError::Away { url: scheduler.to_owned(), cause: "it does not answer".to_owned() };
    let answer = tokio::time::timeout(PATIENCE, client.renew(request)).await.map_err(silent)?;
    let answer = answer.map_err(refused)?.into_inner();
    member.replace(CertificateDer::from(answer.certificate.to_vec()))?;
    member.save(home).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::Digest, trust::Identity};

    fn peer(life: Duration) -> Peer {
        let identity = Identity::new(Role::Worker, "w").unwrap();
        let not_before = SystemTime::UNIX_EPOCH;
        Peer { identity, key: Digest::of(b"key"), not_before, not_after: not_before + life }
    }

    #[test]
    fn t47_a_certificate_is_renewed_around_half_its_life() {
        let day = Duration::from_secs(24 * 3600);
        for random in [0, 1, 20, 21, u32::MAX] {
            let wait = pause(&peer(day), 0, SystemTime::UNIX_EPOCH, random);
            assert!(wait >= day * 4 / 10 && wait <= day * 6 / 10, "{wait:?}");
        }
        let late = SystemTime::UNIX_EPOCH + day;
        assert_eq!(pause(&peer(day), 0, late, 0), Duration::ZERO, "after a long stop, at once");
    }

    #[test]
    fn t47_attempts_come_often_enough_for_any_life() {
        for life in [10, 60, 3600, 24 * 3600].map(Duration::from_secs) {
            let waits: Vec<_> = (1..40).map(|attempt| pause(&peer(life), attempt, SystemTime::UNIX_EPOCH, 0)).collect();
            assert!(waits.is_sorted() && waits[0] >= FIRST_PAUSE, "{waits:?}");
            assert!(waits.iter().all(|wait| *wait <= LONGEST_PAUSE.min(life / 20).max(FIRST_PAUSE)), "{waits:?}");
        }
    }
}
