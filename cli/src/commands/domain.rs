//! `dunlin domain`: the domains that a namespace owns.

use clap::Subcommand;
use dunlin_proto::{ids::DomainName, names::DomainRef, v1};

use crate::{
    client::{Client, all_pages, answer},
    exit::Failure,
    session::{Session, namespace_name},
    view::route::{DOMAINS, DomainView},
};

/// What to do with domains.
#[derive(Subcommand)]
pub(crate) enum DomainCommand {
    /// Take a domain, with every name below it, for the namespace; the first that asks gets it
    Add {
        /// Its name, such as example.com
        domain: DomainName,
    },
    /// List the namespace's domains
    #[command(visible_alias = "ls")]
    List,
    /// Give a domain back
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        domain: DomainName,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Runs it.
pub(crate) async fn run(command: DomainCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        DomainCommand::Add { domain } => add(&client, session, &domain).await,
        DomainCommand::List => list(&client, session).await,
        DomainCommand::Remove { domain, yes } => remove(&client, session, domain, yes).await,
    }
}

async fn add(client: &Client, session: &Session, domain: &DomainName) -> Result<(), Failure> {
    let request = v1::CreateDomainRequest { parent: namespace_name(client.target()), domain: domain.to_string() };
    let given = DomainView::from(answer(client.domains().create_domain(request).await)?.domain.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&given);
    }
    let namespace = &client.target().namespace;
    session.output.note(format!("{domain} belongs to namespace {namespace}; its routes are served there from / on"));
    Ok(())
}

async fn list(client: &Client, session: &Session) -> Result<(), Failure> {
    let parent = namespace_name(client.target());
    let domains = all_pages(|token| page(client, &parent, token)).await?;
    let views: Vec<DomainView> = domains.into_iter().map(Into::into).collect();
    session.output.list(&views, DOMAINS, "no domains yet; take one with: dunlin domain add NAME")
}

async fn page(client: &Client, parent: &str, page_token: String) -> Result<(Vec<v1::Domain>, String), Failure> {
    let request = v1::ListDomainsRequest { parent: parent.to_owned(), page_size: 0, page_token };
    let page = answer(client.domains().list_domains(request).await)?;
    Ok((page.domains, page.next_page_token))
}

async fn remove(client: &Client, session: &Session, domain: DomainName, yes: bool) -> Result<(), Failure> {
    session.confirm(yes, &format!("give {domain} back"))?;
    let name = DomainRef { namespace: client.target().namespace.clone(), domain: domain.clone() }.to_string();
    answer(client.domains().delete_domain(v1::DeleteDomainRequest { name }).await)?;
    session.output.note(format!("{domain} is nobody's now"));
    Ok(())
}
