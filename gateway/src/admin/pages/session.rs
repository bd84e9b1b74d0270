//! One's own session: who it is that is signed in, how, from where, until when, and what that lets them do. A session is its token,
//! which no process keeps, so that there is no list of others: to end it is to sign out, or to wait for its end.

use std::time::SystemTime;

use askama::Template;
use axum::extract::State;
use dunlin_proto::v1;
use http::{HeaderMap, header};

use super::{
    Page, escaped,
    format::When,
    render,
    shell::{Section, Shell},
    view::visible,
};
use crate::{
    admin::{
        app::App,
        model::{Grant, Identity},
        session::Visitor,
    },
    auth::Offer,
};

/// The issuer of the cluster's own tokens.
const CLUSTER: &str = "dunlin";

#[derive(Debug, Template)]
#[template(path = "session.html")]
struct SessionPage {
    shell: Shell,
    subject: String,
    /// How somebody signed in.
    way: String,
    /// When the token was issued, where it says so.
    begun: Option<When>,
    end: Option<When>,
    address: String,
    token_id: String,
    grants: Vec<GrantRow>,
    /// Where the audit log shows the sign-ins of the same subject, for who may see that.
    sign_ins: Option<String>,
    /// What sets the variables of commands and of `curl`.
    variables: String,
}

/// A role.
#[derive(Debug, PartialEq, Eq)]
struct GrantRow {
    /// Nothing where it is of the whole cluster.
    namespace: Option<String>,
    role: &'static str,
    allows: &'static str,
}

impl GrantRow {
    fn new(grant: Grant) -> Self {
        let role = v1::Role::from(grant.role);
        Self { namespace: grant.namespace, role: role.name(), allows: role.allows() }
    }
}

/// Shows the session.
pub(super) async fn page(State(app): State<App>, Visitor(who): Visitor, headers: HeaderMap) -> Page {
    let session = Identity::from(app.identity_get(&who)?);
    let (shell, now) = (Shell::new(&app, &who, None, Section::Overview).await, SystemTime::now());
    let sign_ins = format!("/audit?subject={}&action=session.begin", escaped(&session.subject));
    render(&SessionPage {
        sign_ins: shell.operator.then_some(sign_ins),
        shell,
        subject: visible(&session.subject),
        variables: variables(&headers, app.context().config.admin_tls()),
        way: way(&session.issuer, app.context().sign_ins.offers()),
        begun: session.issue_time.map(|time| When::new(time, now)),
        end: session.expire_time.map(|time| When::new(time, now)),
        address: session.address,
        token_id: visible(&session.token_id.unwrap_or_default()),
        grants: session.grants.into_iter().map(GrantRow::new).collect(),
    })
}

/// The address at which the browser has these pages, and a token, as variables of a shell.
fn variables(headers: &HeaderMap, tls: bool) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let address = format!("{}://{host}", if tls { "https" } else { "http" });
    format!("export DUNLIN_URL={} DUNLIN_TOKEN=…", shlex::try_quote(&address).unwrap_or_default())
}

/// How somebody signed in whose token is of this issuer.
fn way(issuer: &str, offers: Vec<Offer>) -> String {
    if issuer == CLUSTER {
        return "With a token of this cluster".to_owned();
    }
    match offers.into_iter().find(|offer| offer.issuer == issuer) {
        Some(offer) => format!("Through {} ({})", visible(&offer.name), visible(issuer)),
        None => format!("With a token of {}", visible(issuer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_somebody_signed_in_follows_from_the_issuer() {
        let offers = || vec![Offer { name: "Example".into(), issuer: "https://id.example".into() }];
        for (issuer, told) in [
            ("dunlin", "With a token of this cluster"),
            ("https://id.example", "Through Example (https://id.example)"),
            ("https://other.example", "With a token of https://other.example"),
        ] {
            assert_eq!(way(issuer, offers()), told);
        }
    }

    #[test]
    fn the_address_is_one_word_of_a_shell() {
        let host = |text: &str| HeaderMap::from_iter([(header::HOST, text.parse().unwrap())]);
        for (host, tls, told) in [
            (host("127.0.0.1:8081"), false, "export DUNLIN_URL=http://127.0.0.1:8081 DUNLIN_TOKEN=…"),
            (host("faas.example"), true, "export DUNLIN_URL=https://faas.example DUNLIN_TOKEN=…"),
            (host("x;id"), true, "export DUNLIN_URL='https://x;id' DUNLIN_TOKEN=…"),
            (HeaderMap::new(), false, "export DUNLIN_URL=http://localhost DUNLIN_TOKEN=…"),
        ] {
            assert_eq!(variables(&host, tls), told);
        }
    }

    #[test]
    fn a_role_is_told_with_what_it_allows() {
        let wire = v1::RoleGrant { namespace: String::new(), role: v1::Role::Operator.into() };
        let row = GrantRow::new(Grant::from_wire(&wire).unwrap());
        assert_eq!((row.namespace, row.role), (None, "operator"));
        assert!(row.allows.contains("everything"));
    }
}
