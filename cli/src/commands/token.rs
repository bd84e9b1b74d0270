//! `dunlin token`: tokens of the cluster's own, for people and tools (administration) or for callers of functions.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use dunlin_proto::{ids::Namespace, model::to_wire_duration, v1};
use serde_json::json;

use crate::{
    client::answer,
    context::Target,
    exit::Failure,
    session::{Session, namespace_name},
    units,
    view::Time,
};

/// What to do with tokens.
#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a token and print it
    Create(CreateArgs),
}

/// Arguments of `dunlin token create`.
#[derive(Args)]
#[command(group(ArgGroup::new("purpose").required(true).args(["roles", "call"])))]
pub(crate) struct CreateArgs {
    /// For administration: a role (viewer, developer, admin) in the namespace or as ROLE@NAMESPACE, or operator; may be repeated
    #[arg(long = "role", value_name = "ROLE[@NAMESPACE]", value_parser = role)]
    roles: Vec<(v1::Role, Option<Namespace>)>,
    /// For calling the private functions of the namespace
    #[arg(long)]
    call: bool,
    /// A scope of a call token; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", conflicts_with = "roles")]
    scopes: Vec<String>,
    /// Whom it names
    #[arg(long, env = "USER", default_value = "dunlin", hide_env = true)]
    subject: String,
    /// How long it is valid, 24h at most
    #[arg(long, default_value = "1h", value_parser = units::parse_duration)]
    lifetime: Duration,
}

fn role(text: &str) -> Result<(v1::Role, Option<Namespace>), String> {
    let (name, namespace) = match text.split_once('@') {
        Some((name, namespace)) => (name, Some(namespace.parse::<Namespace>().map_err(|error| error.to_string())?)),
        None => (text, None),
    };
    let role = match name {
        "viewer" => v1::Role::Viewer,
        "developer" => v1::Role::Developer,
        "admin" => v1::Role::Admin,
        "operator" if namespace.is_none() => v1::Role::Operator,
        "operator" => return Err("an operator is one in the whole cluster; leave the namespace out".to_owned()),
        _ => return Err(format!("{name:?} is no role; there are viewer, developer, admin and operator")),
    };
    Ok((role, namespace))
}

/// Runs it.
pub(crate) async fn run(command: TokenCommand, session: &Session) -> Result<(), Failure> {
    let TokenCommand::Create(args) = command;
    let client = session.connect().await?;
    let made = answer(client.tokens().create_token(request(args, client.target())).await)?;
    let expire_time = Time::from_wire(made.expire_time);
    if session.output.is_json() {
        return session.output.json(&json!({ "token": made.token, "expire_time": expire_time }));
    }
    if let Some(time) = expire_time {
        session.output.note(format!("valid until {}", time.text()));
    }
    session.output.text(&format!("{}\n", made.token))
}

fn request(args: CreateArgs, target: &Target) -> v1::CreateTokenRequest {
    let purpose = if args.call { v1::TokenPurpose::Call } else { v1::TokenPurpose::Administration };
    let grant = |(role, namespace): (v1::Role, Option<Namespace>)| v1::RoleGrant {
        role: role.into(),
        namespace: match role {
            v1::Role::Operator => String::new(),
            _ => namespace.unwrap_or_else(|| target.namespace.clone()).to_string(),
        },
    };
    v1::CreateTokenRequest {
        subject: args.subject,
        purpose: purpose.into(),
        grants: args.roles.into_iter().map(grant).collect(),
        parent: if args.call { namespace_name(target) } else { String::new() },
        lifetime: Some(to_wire_duration(args.lifetime)),
        scopes: args.scopes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_with_or_without_their_namespace() {
        assert_eq!(role("admin").unwrap(), (v1::Role::Admin, None));
        assert_eq!(role("viewer@shop").unwrap(), (v1::Role::Viewer, Some("shop".parse().unwrap())));
        assert!(role("operator").is_ok());
        for bad in ["", "root", "operator@shop", "viewer@", "viewer@../x"] {
            assert!(role(bad).is_err(), "{bad:?}");
        }
    }
}
