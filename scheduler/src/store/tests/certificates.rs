//! Certificates of domains: who wants one, what is remembered of them, and with what they go.

use dunlin_proto::ids::DomainName;

use super::{Bench, conformance, namespace};
use crate::model::{CertificateRecord, DomainRecord, DomainTls, Issued, ProofKind, Time};

conformance!(
    a_certificate_is_remembered_with_its_failures_and_goes_with_its_domain,
    an_account_is_kept_replaced_and_forgotten,
);

fn domain(domain: &str, tls: DomainTls) -> DomainRecord {
    let name = format!("namespaces/shop/domains/{domain}").parse().unwrap();
    DomainRecord { name, creator: "zoe".into(), create_time: Time(1), tls, proof: ProofKind::Vouched }
}

fn issued(end: i64) -> Issued {
    Issued {
        chain: "chain".into(),
        sealed_key: vec![0, 255, 7],
        issuer: "Trust".into(),
        start: Time(10),
        expire: Time(end),
    }
}

async fn a_certificate_is_remembered_with_its_failures_and_goes_with_its_domain(bench: &Bench) {
    let store = &bench.store;
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let own: DomainName = "a.example".parse().unwrap();
    store.domain_create(&domain("a.example", DomainTls::Acme)).await.unwrap();
    store.domain_create(&domain("b.example", DomainTls::None)).await.unwrap();
    let shop = "shop".parse().unwrap();
    let listed = store.domain_list(&shop, "", 10).await.unwrap();
    assert_eq!(listed.iter().map(|domain| domain.tls).collect::<Vec<_>>(), [DomainTls::Acme, DomainTls::None]);
    assert_eq!(store.certificate_wanted().await.unwrap(), [(own.clone(), None)]);
    assert!(store.certificate_list(&shop).await.unwrap().is_empty());

    for failures in [1, 2] {
        store.certificate_fail(&own, ("no", "do this"), Time(50 + failures)).await.unwrap();
        let record = CertificateRecord {
            domain: own.clone(),
            issued: None,
            failures: u32::try_from(failures).unwrap(),
            error: "no".into(),
            hint: "do this".into(),
            attempt: Time(50 + failures),
        };
        assert_eq!(store.certificate_list(&shop).await.unwrap(), std::slice::from_ref(&record));
        assert_eq!(store.certificate_wanted().await.unwrap(), [(own.clone(), Some(record))]);
    }
    store.certificate_issue(&own, &issued(100), Time(70)).await.unwrap();
    let good = CertificateRecord {
        domain: own.clone(),
        issued: Some(issued(100)),
        failures: 0,
        error: String::new(),
        hint: String::new(),
        attempt: Time(70),
    };
    assert_eq!(store.certificate_list(&shop).await.unwrap(), [good]);
    store.certificate_fail(&own, ("again", ""), Time(80)).await.unwrap();
    let failing = store.certificate_list(&shop).await.unwrap();
    assert_eq!((failing[0].failures, &failing[0].issued), (1, &Some(issued(100))), "the old one stays");
    store.certificate_issue(&own, &issued(200), Time(170)).await.unwrap();
    assert_eq!(store.certificate_list(&shop).await.unwrap()[0].issued, Some(issued(200)));

    store.domain_delete(&domain("a.example", DomainTls::Acme).name).await.unwrap();
    assert!(store.certificate_list(&shop).await.unwrap().is_empty());
    // An order that ends after its domain has gone leaves nothing.
    store.certificate_issue(&own, &issued(300), Time(170)).await.unwrap();
    store.certificate_fail(&own, ("late", ""), Time(80)).await.unwrap();
    store.domain_create(&domain("a.example", DomainTls::Acme)).await.unwrap();
    assert_eq!(store.certificate_wanted().await.unwrap(), [(own, None)]);
}

async fn an_account_is_kept_replaced_and_forgotten(bench: &Bench) {
    let store = &bench.store;
    let (one, other) = ("https://one.example/dir", "https://other.example/dir");
    assert_eq!(store.acme_account(one).await.unwrap(), None);
    store.acme_account_put(one, &[1, 2]).await.unwrap();
    store.acme_account_put(one, &[3]).await.unwrap();
    store.acme_account_put(other, &[4]).await.unwrap();
    assert_eq!(store.acme_account(one).await.unwrap(), Some(vec![3]));
    store.acme_account_forget(one).await.unwrap();
    assert_eq!(
        (store.acme_account(one).await.unwrap(), store.acme_account(other).await.unwrap()),
        (None, Some(vec![4]))
    );
}
