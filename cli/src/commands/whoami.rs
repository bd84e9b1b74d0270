//! `dunlin whoami`: whom the token names, from when to when it is valid, and what it lets one do.

use dunlin_proto::v1;

use crate::{
    client::{Client, answer},
    exit::Failure,
    output::pairs,
    session::Session,
    view::{Time, access::IdentityView, or_dash},
};

/// Runs it.
pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let identity = identity(&client).await?;
    if session.output.is_json() {
        return session.output.json(&identity);
    }
    let (target, time) = (client.target(), |time: Option<Time>| time.map_or_else(|| "-".to_owned(), Time::text));
    let mut facts = vec![("Subject", identity.subject.clone()), ("Grants", or_dash(&identity.grants_text()))];
    facts.extend(identity.allows().into_iter().map(|allows| ("May", allows)));
    facts.extend([
        ("Issuer", identity.issuer.clone()),
        ("Issued", time(identity.issue_time)),
        ("Expires", time(identity.expire_time)),
        ("Token", or_dash(identity.token_id.as_deref().unwrap_or_default())),
        ("Address", or_dash(&identity.address)),
        ("Cluster", target.url.clone()),
        ("Context", or_dash(target.context.as_deref().unwrap_or_default())),
        ("Namespace", target.namespace.to_string()),
    ]);
    session.output.text(&pairs(&facts))
}

/// Who the cluster says one is.
pub(crate) async fn identity(client: &Client) -> Result<IdentityView, Failure> {
    Ok(answer(client.tokens().get_identity(v1::GetIdentityRequest {}).await)?.into())
}
