//! What gateways are told of certificates and challenges, and who answers those already. How certificates are got is told in
//! `acme.rs`.

use std::sync::Arc;

use dunlin_proto::ids::{DomainName, GatewayId};
use tokio::sync::watch;

use super::Board;
use crate::acme::{Challenge, Published, Served};

impl Board {
    /// Follows certificates and challenges.
    pub(crate) fn certificates(&self) -> watch::Receiver<Arc<Published>> {
        self.certificates.subscribe()
    }

    /// Serves these certificates from now on, the ones there were of the domains that are wanted, and no others.
    pub(crate) fn serve(&self, new: Vec<(DomainName, Arc<Served>)>, wanted: impl Fn(&DomainName) -> bool) {
        self.publish(|published| published.serve(new, wanted));
    }

    /// Puts a challenge into force, and waits until all connected gateways answer it. Those that are cut off can't be asked, and
    /// the authority mostly can't ask them either.
    ///
    /// # Errors
    /// Some do not in time.
    pub(crate) async fn challenge(&self, challenge: Challenge) -> Result<(), String> {
        self.publish(|published| published.challenge(challenge));
        let target = self.certificates.borrow().position();
        self.waiting(|cluster| cluster.behind_certificates(target)).await;
        let (cluster, names) = (self.cluster(), |gateway: &GatewayId| gateway.to_string());
        let behind: Vec<_> = cluster.behind_certificates(target).iter().map(names).collect();
        match behind.as_slice() {
            [] if cluster.gateways().is_empty() => {
                Err("no gateway is connected that could answer the authority".into())
            }
            [] => Ok(()),
            behind => Err(format!("some gateways do not answer the authority yet: {}", behind.join(", "))),
        }
    }

    /// Puts the challenge of a domain out of force, where there is one.
    pub(crate) fn answered(&self, domain: &DomainName) {
        self.publish(|published| {
            published.answered(domain);
        });
    }

    /// Tells gateways where there is news.
    fn publish(&self, change: impl FnOnce(&mut Published)) {
        self.certificates.send_if_modified(|now| {
            let before = now.position();
            change(Arc::make_mut(now));
            now.position() != before
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::time::Instant;

    use super::*;
    use crate::{
        cluster::{Cluster, GatewayHello},
        config::ChallengeKind,
        model::Time,
    };

    fn challenge() -> Challenge {
        Challenge {
            domain: "a.example".parse().unwrap(),
            kind: ChallengeKind::Http01,
            token: "token".into(),
            key_authorization: "token.key".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_challenge_is_waited_for_until_every_gateway_answers_it() {
        let board = Arc::new(Board::new(Cluster::default(), 1, Instant::now()));
        assert!(board.challenge(challenge()).await.unwrap_err().contains("no gateway"));
        let gateway: GatewayId = "g".parse().unwrap();
        let hello = GatewayHello {
            gateway: gateway.clone(),
            software_version: "1".into(),
            peer_address: "g:1".into(),
            config_version: 0,
        };
        let session = board.cluster().gateway_join(hello, Time(0)).unwrap();
        assert!(board.challenge(challenge()).await.unwrap_err().ends_with(": g"));
        let reporting = async {
            let position = board.certificates().borrow().position();
            board.cluster().gateway_certified(&gateway, session, Some(position));
            board.cluster().gateway_report(&gateway, session, 0, BTreeMap::new()).unwrap();
            board.acknowledged();
        };
        let (answered, ()) = tokio::join!(board.challenge(challenge()), reporting);
        answered.unwrap();
        board.answered(&challenge().domain);
        assert!(!board.certificates().has_changed().unwrap());
    }
}
