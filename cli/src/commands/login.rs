//! `dunlin login`: remembers a cluster and a token for it, once the cluster has accepted the token.

use std::io::{self, BufRead, IsTerminal, Read};

use clap::Args;

use super::whoami::identity;
use crate::{
    client::Client,
    context::{Context, Contexts, DEFAULT_URL, Target, default_namespace, normal},
    exit::{Exit, Failure},
    output::printable,
    session::Session,
    view::or_dash,
};

/// The longest token that is read.
const MAX_TOKEN_BYTES: u64 = 16 << 10;

/// Arguments of `dunlin login`.
#[derive(Args)]
pub(crate) struct LoginArgs {
    /// Administration address of the cluster; --url says the same
    address: Option<String>,
    /// Read the token from standard input without asking for it
    #[arg(long)]
    token_stdin: bool,
}

/// Runs it. `--url` says where, `--context` how to call it, `--namespace` where to work there.
pub(crate) async fn run(args: LoginArgs, session: &Session) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    let name = session.cluster.context.clone().or_else(|| contexts.current.clone());
    let known = name.as_ref().and_then(|name| contexts.contexts.get(name)).map(|context| context.url.clone());
    let url = args.address.clone().or_else(|| session.cluster.url.clone()).or(known);
    let url = normal(&url.unwrap_or_else(|| DEFAULT_URL.to_owned()))?;
    let name = session.cluster.context.clone().unwrap_or_else(|| name_for(&contexts, &url));
    let token = token(&args, session, &url)?;
    let namespace = session.cluster.namespace.clone();
    let target = Target {
        context: Some(name.clone()),
        url: url.clone(),
        token: Some(token.clone()),
        namespace: namespace.clone().map_or_else(default_namespace, Ok)?,
    };
    let identity = identity(&Client::connect(target).await?).await?;
    contexts.contexts.insert(name.clone(), Context { url: url.clone(), token: Some(token), namespace });
    contexts.current = Some(name.clone());
    contexts.save()?;
    let grants = or_dash(&identity.grants_text());
    session
        .output
        .note(format!("signed in to {url} as {} ({grants}); context {name} is in use", printable(&identity.subject)));
    Ok(())
}

/// The context that has this address already, else one called after its host.
fn name_for(contexts: &Contexts, url: &str) -> String {
    let host = || url.split("://").last().unwrap_or_default().replace(['[', ']'], "");
    contexts.at(url).map_or_else(host, |(name, _)| name.clone())
}

/// The token: from standard input, or asked for.
fn token(args: &LoginArgs, session: &Session, url: &str) -> Result<String, Failure> {
    let mut text = String::new();
    if args.token_stdin {
        io::stdin().lock().take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
    } else if io::stdin().is_terminal() {
        session.output.warn(format!("Token for {url} (it will show as you paste it):"));
        io::stdin().lock().take(MAX_TOKEN_BYTES).read_line(&mut text)?;
    } else {
        return Err(Failure::usage("there is no terminal to ask for a token on")
            .hint("pipe it in: dunlin token create --role operator | dunlin login --token-stdin"));
    }
    let text = text.trim();
    let whole = text.split('.').count() == 3 && text.bytes().all(|b| b.is_ascii_graphic());
    whole.then(|| text.to_owned()).ok_or_else(|| {
        Failure::new(Exit::NotAuthorised, "what was given is not a token")
            .hint("a token has three parts with dots between them: it is a JWT")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_called_after_its_host_unless_it_has_a_name() {
        let mut contexts = Contexts::default();
        assert_eq!(name_for(&contexts, "http://10.0.0.1:8081"), "10.0.0.1:8081");
        assert_eq!(name_for(&contexts, "https://admin.example.com"), "admin.example.com");
        let context = Context { url: "http://10.0.0.1:8081/".into(), token: None, namespace: None };
        contexts.contexts.insert("shop".into(), context);
        assert_eq!(name_for(&contexts, "http://10.0.0.1:8081"), "shop");
    }
}
