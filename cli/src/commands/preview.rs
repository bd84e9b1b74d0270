//! `dunlin preview`: a link with which anybody can look at one version for a while.

use std::time::Duration;

use clap::Args;
use dunlin_proto::{ids::VersionNumber, model::to_wire_duration, v1};
use serde_json::json;

use crate::{
    client::{Client, answer},
    exit::{Exit, Failure},
    output::printable,
    session::{FunctionArg, Session},
    units,
    view::Time,
};

/// Arguments of `dunlin preview`.
#[derive(Args)]
pub(crate) struct PreviewArgs {
    /// Function, as NAME or NAMESPACE/NAME
    name: FunctionArg,
    /// Version; the newest when left out
    version: Option<VersionNumber>,
    /// How long the link works, 24h at most
    #[arg(long, default_value = "1h", value_parser = units::parse_duration)]
    lifetime: Duration,
    /// Who gets it, for the records
    #[arg(long, value_name = "WHO", env = "USER", default_value = "dunlin", hide_env = true)]
    subject: String,
}

/// Runs it.
pub(crate) async fn run(args: PreviewArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let version = version(&client, &args).await?;
    let request = v1::CreateTokenRequest {
        subject: args.subject,
        purpose: v1::TokenPurpose::Preview.into(),
        parent: version.name.clone(),
        lifetime: Some(to_wire_duration(args.lifetime)),
        ..Default::default()
    };
    let made = answer(client.tokens().create_token(request).await)?;
    let links: Vec<_> = version.preview_urls.iter().map(|url| format!("{url}?dunlin-preview={}", made.token)).collect();
    let expire_time = Time::from_wire(made.expire_time);
    if session.output.is_json() {
        return session.output.json(&json!({ "version": version.number, "links": links, "expire_time": expire_time }));
    }
    if links.is_empty() {
        return Err(Failure::new(
            Exit::Refused,
            "this gateway serves no address for functions; ask another one, or its operator",
        ));
    }
    if let Some(time) = expire_time {
        let text = format!("version {}, until {}: whoever has the link can call it", version.number, time.text());
        session.output.note(printable(&text));
    }
    session.output.text(&(links.join("\n") + "\n"))
}

/// The version, with its addresses.
async fn version(client: &Client, args: &PreviewArgs) -> Result<v1::Version, Failure> {
    let function = args.name.in_target(client.target());
    let number = match args.version {
        Some(number) => number,
        None => {
            let found =
                answer(client.functions().get_function(v1::GetFunctionRequest { name: function.to_string() }).await)?;
            let latest = found.function.unwrap_or_default().latest_version;
            VersionNumber::try_from(latest)
                .map_err(|_| Failure::new(Exit::Refused, format!("{function} has no version yet; deploy one")))?
        }
    };
    let request = v1::GetVersionRequest { name: function.version(number).to_string() };
    Ok(answer(client.functions().get_version(request).await)?.version.unwrap_or_default())
}
