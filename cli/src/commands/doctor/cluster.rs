//! What may be wrong on the way to a cluster: the address, the token, the clocks, the versions of the software, its workers.

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use dunlin_proto::v1;
use serde::Deserialize;
use tonic::metadata::MetadataMap;

use super::Finding;
use crate::{
    client::{Client, answer, failure},
    context::Target,
    exit::Exit,
    session::Session,
    units,
};

/// The audience of administration tokens.
const AUDIENCE: &str = "dunlin-admin";

/// How far clocks may differ before tokens suffer from it. A date in HTTP has no fractions of seconds.
const SKEW: Duration = Duration::from_secs(5);

/// Looks at the cluster that commands would talk to.
pub(super) async fn check(session: &Session) -> Vec<Finding> {
    let target = match Target::resolve(&session.cluster) {
        Ok(target) => target,
        Err(failure) => return vec![Finding::of("context", &failure)],
    };
    let mut findings = vec![token(target.token.as_deref(), SystemTime::now())];
    let client = match Client::connect(target.clone()).await {
        Ok(client) => client,
        Err(failure) => {
            findings.push(Finding::of("cluster", &failure));
            return findings;
        }
    };
    findings.push(Finding::ok("cluster", format!("something answers at {}", target.url)));
    findings.extend(identity(&client).await);
    findings.extend(software(&client).await);
    findings
}

/// What a token says of itself. Only the cluster can verify it.
#[derive(Deserialize)]
struct Claims {
    exp: Option<u64>,
    aud: Option<serde_json::Value>,
}

fn token(token: Option<&str>, now: SystemTime) -> Finding {
    const CHECK: &str = "token";
    const FIX: &str = "sign in again with: dunlin login (dunlin up renews its own while it runs)";
    let Some(token) = token else { return Finding::failed(CHECK, "there is no token for this cluster", FIX) };
    let payload = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let Some(claims) = payload.and_then(|payload| serde_json::from_slice::<Claims>(&payload).ok()) else {
        return Finding::failed(CHECK, "the token is not a JWT", FIX);
    };
    let audiences = match &claims.aud {
        Some(serde_json::Value::String(one)) => vec![one.as_str()],
        Some(serde_json::Value::Array(all)) => all.iter().filter_map(serde_json::Value::as_str).collect(),
        _ => vec![],
    };
    if let Some(namespace) = audiences.iter().find_map(|audience| audience.strip_prefix("dunlin:")) {
        let message = format!("the token is for calling functions in {namespace}, not for administration");
        return Finding::failed(CHECK, message, "make one with: dunlin token create --role ROLE");
    }
    let Some(end) = claims.exp.and_then(|exp| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(exp))) else {
        return Finding::failed(CHECK, "the token says no end, so the cluster refuses it", FIX);
    };
    match end.duration_since(now) {
        Err(_) => Finding::failed(CHECK, format!("the token expired {}", units::ago(&units::age(end, now))), FIX),
        // Tokens of other issuers may have an audience of their own.
        Ok(left) if !audiences.contains(&AUDIENCE) => Finding::warning(
            CHECK,
            format!(
                "the token's audience is {audiences:?} and not {AUDIENCE}; it has {} left",
                units::setting(whole(left))
            ),
            "if the cluster refuses it, sign in again with: dunlin login",
        ),
        Ok(left) => Finding::ok(CHECK, format!("the token is valid for another {}", units::setting(whole(left)))),
    }
}

fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// Whether the cluster accepts the token, and what its clock says.
async fn identity(client: &Client) -> Vec<Finding> {
    let called = client.tokens().get_identity(v1::GetIdentityRequest {}).await;
    let now = SystemTime::now();
    match called {
        Ok(response) => {
            let mut findings = clock(date(response.metadata()), now);
            let identity = crate::view::access::IdentityView::from(response.into_inner());
            let message = format!("the cluster knows you as {} ({})", identity.subject, identity.grants_text());
            findings.insert(0, Finding::ok("identity", message));
            findings
        }
        Err(status) => {
            let mut findings = clock(date(status.metadata()), now);
            findings.insert(0, Finding::of("identity", &failure(status)));
            findings
        }
    }
}

/// The server's time in a response (RFC 9110 6.6.1).
fn date(metadata: &MetadataMap) -> Option<SystemTime> {
    httpdate::parse_http_date(metadata.get("date")?.to_str().ok()?).ok()
}

fn clock(server: Option<SystemTime>, now: SystemTime) -> Vec<Finding> {
    let Some(server) = server else { return vec![] };
    let (apart, word) = match server.duration_since(now) {
        Ok(ahead) => (ahead, "behind"),
        Err(behind) => (behind.duration(), "ahead of"),
    };
    if apart <= SKEW {
        return vec![Finding::ok("clock", "this machine and the cluster agree on the time")];
    }
    let message = format!("this machine's clock is {} {word} the cluster's", units::setting(whole(apart)));
    vec![Finding::failed("clock", message, "let both keep their time, such as with: timedatectl set-ntp true")]
}

/// Versions and workers, which only operators may see.
async fn software(client: &Client) -> Vec<Finding> {
    let cluster = match answer(client.cluster().get_cluster(v1::GetClusterRequest {}).await) {
        // Not being allowed to look, and not being signed in, is nothing wrong with the cluster.
        Err(failure) if failure.exit == Exit::NotAuthorised => return vec![],
        Err(failure) => return vec![Finding::of("scheduler", &failure)],
        Ok(cluster) => cluster,
    };
    let own = env!("CARGO_PKG_VERSION");
    let processes = cluster.workers.iter().map(|worker| (&worker.name, &worker.software_version));
    let processes = processes.chain(cluster.gateways.iter().map(|gateway| (&gateway.name, &gateway.software_version)));
    let scheduler = "scheduler".to_owned();
    let mut findings: Vec<_> = processes
        .chain([(&scheduler, &cluster.software_version)])
        .filter(|(_, version)| !same_release(version, own))
        .map(|(name, version)| {
            let message = format!("{name} has version {version}, this command {own}");
            Finding::warning("versions", message, "install the same version everywhere")
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok("versions", format!("every process has version {own}")));
    }
    let ready = cluster.workers.iter().filter(|worker| worker.state() == v1::WorkerState::Ready).count();
    findings.push(match ready {
        0 => Finding::failed("workers", "no worker is ready, so no function can run", "start one with: dunlin worker"),
        count => Finding::ok("workers", format!("{count} ready")),
    });
    findings
}

/// Whether two versions differ in no more than their last part.
fn same_release(a: &str, b: &str) -> bool {
    let release = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    release(a) == release(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::State;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_is_looked_at() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        for (text, state, message) in [
            (None, State::Failed, "there is no token"),
            (Some("junk".to_owned()), State::Failed, "not a JWT"),
            (Some(jwt(r#"{"exp":1060,"aud":"dunlin-admin"}"#)), State::Ok, "valid for another 1m"),
            (Some(jwt(r#"{"exp":940,"aud":"dunlin-admin"}"#)), State::Failed, "expired 60s ago"),
            (Some(jwt(r#"{"exp":1060,"aud":["dunlin:shop"]}"#)), State::Failed, "for calling functions in shop"),
            (Some(jwt(r#"{"exp":1060,"aud":"other"}"#)), State::Warning, "audience"),
            (Some(jwt(r#"{"aud":"dunlin-admin"}"#)), State::Failed, "no end"),
        ] {
            let finding = token(text.as_deref(), now);
            assert_eq!(finding.state, state, "{text:?}");
            assert!(finding.message.contains(message), "{finding:?}");
        }
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let apart = |seconds: i64| {
            let server = SystemTime::UNIX_EPOCH + Duration::from_secs((1_000 + seconds) as u64);
            clock(Some(server), now).remove(0)
        };
        assert_eq!(apart(3).state, State::Ok);
        assert_eq!(apart(60).message, "this machine's clock is 1m behind the cluster's");
        assert_eq!(apart(-60).message, "this machine's clock is 1m ahead of the cluster's");
        assert!(clock(None, now).is_empty());
    }

    #[test]
    fn versions_are_compared_by_release() {
        assert!(same_release("0.1.0", "0.1.9") && !same_release("0.1.0", "0.2.0"));
    }
}
