//! `dunlin domain`: the domains that a namespace owns, and their certificates.

use std::time::SystemTime;

use clap::{Subcommand, ValueEnum};
use dunlin_proto::{ApiError, ids::DomainName, names::DomainRef, v1};

use crate::{
    client::{Client, all_pages, answer},
    exit::Failure,
    output::pairs,
    session::{Session, namespace_name},
    view::domain::{DOMAINS, DomainView},
};

/// What to do with domains.
#[derive(Subcommand)]
pub(crate) enum DomainCommand {
    /// Ask for a domain, with every name below it, for the namespace, or look for its proof again: it belongs to the namespace
    /// once the DNS has the record that is shown
    Add {
        /// Its name, such as example.com
        #[arg(value_parser = name)]
        domain: DomainName,
        /// How it gets a certificate, for this name alone: by ACME where the operator has set up an authority, or none
        #[arg(long, value_enum, default_value_t = Tls::Acme)]
        tls: Tls,
        /// Give it without proof, as an operator
        #[arg(long)]
        vouch: bool,
    },
    /// Show a domain, its proof and what has become of its certificate
    Show {
        /// Its name
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

/// How a domain gets a certificate.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Tls {
    /// By ACME
    Acme,
    /// It gets none
    None,
}

/// Reads the name of a domain.
fn name(text: &str) -> Result<DomainName, String> {
    if let Some(parent) = text.strip_prefix("*.") {
        return Err(format!(
            "a domain has every name below it without asking; add {parent}. Certificates for wildcards are not got by ACME, for \
             that takes DNS-01: give the gateways one as a file, and add the domain with --tls none"
        ));
    }
    text.parse().map_err(|error: dunlin_proto::ids::IdError| error.to_string())
}

/// Runs it.
pub(crate) async fn run(command: DomainCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        DomainCommand::Add { domain, tls, vouch } => add(&client, session, &domain, (tls, vouch)).await,
        DomainCommand::Show { domain } => show(&client, session, &domain).await,
        DomainCommand::List => list(&client, session).await,
        DomainCommand::Remove { domain, yes } => remove(&client, session, domain, yes).await,
    }
}

async fn add(
    client: &Client,
    session: &Session,
    domain: &DomainName,
    (tls, vouch): (Tls, bool),
) -> Result<(), Failure> {
    let tls = match tls {
        Tls::Acme => v1::DomainTls::Acme,
        Tls::None => v1::DomainTls::None,
    };
    let (parent, domain_name) = (namespace_name(client.target()), domain.to_string());
    let request = v1::CreateDomainRequest { parent, domain: domain_name, tls: tls.into(), vouch };
    let given = DomainView::from(answer(client.domains().create_domain(request).await)?.domain.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&given);
    }
    let namespace = &client.target().namespace;
    if let Some(record) = given.proof.wanted() {
        session
            .output
            .note(format!("{domain} belongs to namespace {namespace} once the DNS has this record:\n\n  {record}\n"));
        session.output.note(format!("it is looked for until then, and may stay; see: dunlin domain show {domain}"));
        return Ok(());
    }
    session.output.note(format!("{domain} belongs to namespace {namespace}; its routes are served there from / on"));
    Ok(())
}

async fn list(client: &Client, session: &Session) -> Result<(), Failure> {
    let views = all(client).await?;
    warn(session, &views);
    session.output.list(&views, DOMAINS, "no domains yet; take one with: dunlin domain add NAME")
}

async fn show(client: &Client, session: &Session, domain: &DomainName) -> Result<(), Failure> {
    let mut views = all(client).await?;
    views.retain(|view| view.domain == domain.as_str());
    let missing = || {
        let name = DomainRef { namespace: client.target().namespace.clone(), domain: domain.clone() };
        Failure::from(ApiError::not_found(name).hint("the namespace's domains: dunlin domain list"))
    };
    let view = views.first().ok_or_else(missing)?;
    warn(session, &views);
    if session.output.is_json() { session.output.json(view) } else { session.output.text(&pairs(&view.facts())) }
}

/// Tells of certificates that should have been renewed.
fn warn(session: &Session, views: &[DomainView]) {
    let now = SystemTime::now();
    views.iter().filter_map(|view| view.warning(now)).for_each(|warning| session.output.warn(warning));
}

/// All domains of the namespace; there are few.
async fn all(client: &Client) -> Result<Vec<DomainView>, Failure> {
    let parent = namespace_name(client.target());
    let domains = all_pages(|token| page(client, &parent, token)).await?;
    Ok(domains.into_iter().map(Into::into).collect())
}

async fn page(client: &Client, parent: &str, page_token: String) -> Result<(Vec<v1::Domain>, String), Failure> {
    let request = v1::ListDomainsRequest { parent: parent.to_owned(), page_size: 0, page_token };
    let page = answer(client.domains().list_domains(request).await)?;
    Ok((page.domains, page.next_page_token))
}

async fn remove(client: &Client, session: &Session, domain: DomainName, yes: bool) -> Result<(), Failure> {
    session.confirm(yes, &format!("give {domain} back"))?;
    let name = DomainRef { namespace: client.target().namespace.clone(), domain: domain.clone() }.to_string();
    answer(client.domains().delete_domain(v1::DeleteDomainRequest { name: name.clone() }).await)?;
    session.output.deleted(&name, &format!("{domain} is nobody's now"))
}
