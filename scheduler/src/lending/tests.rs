//! Who is told of what, what a restart knows, and who is forgotten.

use std::sync::Arc;

use dunlin_proto::ids::Namespace;

use super::*;
use crate::{
    cluster::{Cluster, GatewayHello},
    model::Time,
};

mod removed;

const PATIENCE: Duration = Duration::from_secs(60);

fn gateway(name: &str) -> GatewayId {
    name.parse().unwrap()
}

fn limit() -> LimitId {
    LimitId::Namespace("shop".parse().unwrap())
}

fn catalog(rate: &str) -> Catalog {
    let mut catalog = Catalog::default();
    Arc::make_mut(&mut catalog.core).rates.insert("shop".parse::<Namespace>().unwrap(), rate.parse().unwrap());
    catalog
}

fn session(cluster: &mut Cluster, name: &str) -> Session {
    let hello = GatewayHello {
        gateway: gateway(name),
        software_version: "1".into(),
        peer_address: "127.0.0.1:9".into(),
        config_version: 0,
    };
    cluster.gateway_join(hello, Time(0)).unwrap()
}

fn want(per_second: f64, sequence: u64) -> Vec<(LimitId, Option<Want>)> {
    vec![(limit(), Some(Want { calls: per_second, sequence, uses: 0.0, part: 0 }))]
}

fn held(share: Share) -> [(LimitId, Part); 1] {
    [(limit(), Part { number: 0, share })]
}

#[test]
fn a_gateway_that_asks_is_told() {
    let (catalog, mut cluster, now) = (catalog("100/s"), Cluster::default(), Instant::now());
    let lending = Lending::new(BTreeSet::new(), &Catalog::default(), now, PATIENCE);
    let (a, one) = (gateway("a"), session(&mut cluster, "a"));
    lending.join(&a, one, &[], &catalog, now);
    assert!(lending.loans(&a, one).is_empty());
    lending.report(&a, one, want(10.0, 0), &catalog, now);
    let loans = lending.loans(&a, one);
    let (id, loan) = &loans[0];
    assert!(*id == limit() && loan.share.per_second > 99.9 && loan.granted > 49.9, "{loan:?}");
    assert!(lending.loans(&a, one).is_empty(), "it is said once");
    let two = session(&mut cluster, "a");
    lending.join(&a, two, &held(loan.share), &catalog, now);
    lending.report(&a, one, want(10.0, 1), &catalog, now);
    assert!(lending.loans(&a, one).is_empty() && lending.loans(&a, two).is_empty(), "an old stream says nothing");
    let unknown = LimitId::Namespace("bank".parse().unwrap());
    lending.report(&a, two, vec![(unknown.clone(), want(1.0, 0)[0].1)], &catalog, now);
    assert!(lending.loans(&a, two).is_empty() && lending.admit(&unknown, &catalog, now).is_err());
}

#[test]
fn a_restart_lends_nothing_until_it_knows_who_holds_what() {
    let (catalog, mut cluster, now) = (catalog("100/s"), Cluster::default(), Instant::now());
    let lending = Lending::new(["a", "b"].map(gateway).into(), &catalog, now, PATIENCE);
    let (a, b) = (session(&mut cluster, "a"), session(&mut cluster, "b"));
    lending.join(&gateway("a"), a, &[], &catalog, now);
    lending.report(&gateway("a"), a, want(200.0, 0), &catalog, now);
    let share = |name: &str, session| lending.loans(&gateway(name), session)[0].1.share;
    assert_eq!(share("a", a), Share::default());
    let share_of_b = Share { per_second: 60.0, burst: 30.0 };
    lending.join(&gateway("b"), b, &held(share_of_b), &catalog, now);
    lending.report(&gateway("a"), a, want(200.0, 0), &catalog, now);
    let lent = share("a", a);
    assert!(lent.per_second > 30.0 && lent.per_second <= 40.0 && lent.burst <= 20.0, "{lent:?}");
    // Nobody knows how much of the burst was used before.
    let alone = Lending::new(BTreeSet::new(), &catalog, now, PATIENCE);
    assert!(alone.admit(&limit(), &catalog, now).unwrap().is_err());
    assert!(alone.admit(&limit(), &catalog, now + Duration::from_millis(10)).unwrap().is_ok());
}

#[test]
fn who_is_silent_for_a_minute_is_forgotten() {
    let (catalog, mut cluster, now) = (catalog("100/s"), Cluster::default(), Instant::now());
    let lending = Lending::new(["b"].map(gateway).into(), &catalog, now, PATIENCE);
    let (a, one) = (gateway("a"), session(&mut cluster, "a"));
    lending.remember(&a, now);
    lending.join(&a, one, &[], &catalog, now);
    lending.report(&a, one, want(10.0, 0), &catalog, now);
    assert!(lending.tidy(&catalog, now + PATIENCE / 2).is_empty());
    assert_eq!(lending.tidy(&catalog, now + PATIENCE), [gateway("b")]);
    lending.leave(&a, one, now + PATIENCE);
    assert!(lending.tidy(&catalog, now + PATIENCE).is_empty() && lending.remembers(&a));
    assert_eq!(lending.lost(), Lost { gateways: 1, ..Lost::default() }, "it may have had something, too");
    assert_eq!(lending.tidy(&catalog, now + PATIENCE * 2), std::slice::from_ref(&a));
    assert!(!lending.remembers(&a));
    assert_eq!(lending.lost(), Lost { gateways: 2, rates: 1, at_once: 0 });
    assert!(lending.tidy(&Catalog::default(), now + PATIENCE * 3).is_empty());
    assert_eq!(lending.census().0, 0, "limits that are gone are forgotten, too");
    assert_eq!(lending.lost().rates, 1, "it is counted once");
}
