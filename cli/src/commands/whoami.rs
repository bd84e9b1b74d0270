//! `dunlin whoami`: whom the token names and what it grants.

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
    let target = client.target();
    session.output.text(&pairs(&[
        ("Subject", identity.subject.clone()),
        ("Grants", or_dash(&identity.grants_text())),
        ("Issuer", identity.issuer.clone()),
        ("Expires", identity.expire_time.map_or_else(|| "-".to_owned(), Time::text)),
        ("Cluster", target.url.clone()),
        ("Context", or_dash(target.context.as_deref().unwrap_or_default())),
        ("Namespace", target.namespace.to_string()),
    ]))
}

/// Who the cluster says one is.
pub(crate) async fn identity(client: &Client) -> Result<IdentityView, Failure> {
    Ok(answer(client.tokens().get_identity(v1::GetIdentityRequest {}).await)?.into())
}
