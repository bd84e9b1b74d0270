//! One order of a certificate, from the first question to the certificate, or to why there is none. When it is tried again is not
//! decided here (`schedule.rs`).

use std::time::Duration;

use dunlin_proto::ids::DomainName;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::certificate::X509Certificate;

use super::published::{Challenge, Served};
use crate::{config::ChallengeKind, model::Time, reconcile::Board};

/// How an order is looked after: the authority's checks and its signature may take a while.
const PATIENCE: RetryPolicy = RetryPolicy::new().backoff(1.5).timeout(Duration::from_secs(120));

/// A certificate that has just been issued.
#[derive(Debug)]
pub(super) struct Obtained {
    pub(super) served: Served,
    pub(super) issuer: String,
    pub(super) start: Time,
    pub(super) expire: Time,
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: String,
    /// What to do about it; may be empty.
    pub(super) hint: String,
    /// The authority does not know the account.
    pub(super) account_is_gone: bool,
}

impl Failure {
    pub(super) fn new(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: error.into(), hint: hint.into(), account_is_gone: false }
    }

    fn problem(problem: &Problem) -> Self {
        let kind = problem.r#type.as_deref().unwrap_or_default().rsplit(':').next().unwrap_or_default();
        let detail = problem.detail.as_deref().unwrap_or("it gives no reason");
        let hint = match kind {
            "dns" | "connection" => {
                "the authority must reach a gateway by this name, at port 80 (http-01) or 443 (tls-alpn-01): check its A and AAAA \
                 records and the firewall"
            }
            "unauthorized" | "incorrectResponse" | "tls" => {
                "something else than this cluster answers for the name: check its A and AAAA records, and what stands before the \
                 gateways"
            }
            "caa" => "a CAA record of the domain lets other authorities alone issue certificates; add this one",
            "rateLimited" => "the authority limits how often it is asked; it is asked again when it allows it",
            "rejectedIdentifier" => "the authority issues none for this name; add the domain with --tls none",
            _ => "",
        };
        let error = format!("the authority refuses: {detail} ({kind})");
        Self { account_is_gone: kind == "accountDoesNotExist", ..Self::new(error, hint) }
    }
}

impl From<instant_acme::Error> for Failure {
    fn from(error: instant_acme::Error) -> Self {
        match error {
            instant_acme::Error::Api(problem) => Self::problem(&problem),
            instant_acme::Error::Timeout(_) => Self::new("the authority did not finish in time", ""),
            error => Self::new(
                format!("the authority can't be asked: {error}"),
                "the scheduler must reach the URL of acme.directory; it tries again by itself",
            ),
        }
    }
}

impl From<rcgen::Error> for Failure {
    fn from(error: rcgen::Error) -> Self {
        Self::new(format!("the request for a certificate can't be made: {error}"), "")
    }
}

/// Gets a certificate for a domain, proving in this way that it is the cluster's.
pub(super) async fn obtain(
    account: &Account,
    domain: &DomainName,
    kind: ChallengeKind,
    board: &Board,
) -> Result<Obtained, Failure> {
    let identifiers = [Identifier::Dns(domain.to_string())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    prove(&mut order, domain, kind, board).await?;
    if order.poll_ready(&PATIENCE).await? != OrderStatus::Ready {
        return Err(refusal(&mut order).await);
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([domain.to_string()])?;
    params.distinguished_name = DistinguishedName::new();
    order.finalize_csr(params.serialize_request(&key)?.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    read(Served { chain, key: key.serialize_der() })
}

/// Answers the challenges that are open. The authority is told only once all gateways answer them: it may ask any.
async fn prove(order: &mut Order, domain: &DomainName, kind: ChallengeKind, board: &Board) -> Result<(), Failure> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let wanted = match kind {
            ChallengeKind::Http01 => ChallengeType::Http01,
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let missing =
            || Failure::new("the authority offers no challenge of the kind that is configured", "see acme.challenges");
        let mut challenge = authorization.challenge(wanted).ok_or_else(missing)?;
        let key_authorization = challenge.key_authorization().as_str().to_owned();
        let token = challenge.token.clone();
        let answer = Challenge { domain: domain.clone(), kind, token, key_authorization };
        board.challenge(answer).await.map_err(|error| Failure::new(error, "it is tried again by itself"))?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Why an order did not get ready: what the authority says of its challenges.
async fn refusal(order: &mut Order) -> Failure {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Failure::problem(problem);
        }
    }
    Failure::new("the authority refuses, and gives no reason", "")
}

/// What a certificate says of itself.
fn read(served: Served) -> Result<Obtained, Failure> {
    let unreadable = || Failure::new("the authority's certificate can't be read", "");
    let own = CertificateDer::from_pem_slice(served.chain.as_bytes()).map_err(|_| unreadable())?;
    let (_, own) = x509_parser::parse_x509_certificate(&own).map_err(|_| unreadable())?;
    let (start, expire) = (own.validity().not_before.timestamp(), own.validity().not_after.timestamp());
    let moment = |seconds: i64| Time(seconds.saturating_mul(1_000_000));
    let (issuer, start, expire) = (issuer(&own), moment(start), moment(expire));
    Ok(Obtained { served, issuer, start, expire })
}

/// The authority's name for people: its organisation and its own name, where it has them.
fn issuer(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.issuer();
    let parts = name.iter_organization().chain(name.iter_common_name()).filter_map(|part| part.as_str().ok());
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { name.to_string() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str) -> Failure {
        Failure::problem(&Problem {
            r#type: Some(format!("urn:ietf:params:acme:error:{kind}")),
            detail: Some("because".into()),
            status: None,
            subproblems: Vec::new(),
        })
    }

    #[test]
    fn what_the_authority_says_comes_with_what_to_do() {
        for (kind, hint) in [
            ("connection", "port 80"),
            ("dns", "A and AAAA"),
            ("unauthorized", "something else"),
            ("caa", "CAA"),
            ("rateLimited", "limits"),
            ("rejectedIdentifier", "--tls none"),
        ] {
            let failure = problem(kind);
            assert!(failure.error.contains("because") && failure.error.contains(kind), "{failure:?}");
            assert!(failure.hint.contains(hint) && !failure.account_is_gone, "{failure:?}");
        }
        assert!(problem("accountDoesNotExist").account_is_gone);
    }

    #[test]
    fn a_certificate_says_when_it_ends_and_who_signed_it() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Trust Ltd");
        params.distinguished_name.push(rcgen::DnType::CommonName, "R1");
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 4, 1));
        let chain = params.self_signed(&key).unwrap().pem();
        let read = read(Served { chain, key: key.serialize_der() }).unwrap();
        assert_eq!((read.issuer.as_str(), read.expire.0 - read.start.0), ("Trust Ltd, R1", 90 * 24 * 3600 * 1_000_000));
    }
}
