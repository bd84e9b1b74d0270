//! `dunlin namespace`: the tenants of a cluster.

use clap::Subcommand;
use dunlin_proto::{
    ids::{Namespace, RequestId},
    model::Rate,
    names::NamespaceRef,
    v1,
};

use crate::{
    client::{Client, all_pages, answer},
    exit::Failure,
    session::Session,
    view::cluster::{NAMESPACES, NamespaceView},
};

/// What to do with namespaces.
#[derive(Subcommand)]
pub(crate) enum NamespaceCommand {
    /// Make a namespace
    Create {
        /// Its name: lower-case letters, digits and single hyphens, 22 at most
        name: Namespace,
        /// What it is for
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        description: String,
        /// Calls of all its functions that may run or wait at once, in the whole cluster; no bound by default
        #[arg(long, value_name = "COUNT")]
        max_concurrency: Option<u32>,
        /// Calls of all its functions in a time, in the whole cluster, such as 100/s or 1000/h; no bound by default
        #[arg(long, value_name = "RATE")]
        rate: Option<Rate>,
        /// Calls at once that the rate allows after a pause; by default those of half a second
        #[arg(long, value_name = "COUNT", requires = "rate")]
        burst: Option<u32>,
    },
    /// Change a namespace
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Update {
        /// Its name
        name: Namespace,
        /// What it is for
        #[arg(long, value_name = "TEXT", group = "change")]
        description: Option<String>,
        /// Calls of all its functions that may run or wait at once, in the whole cluster; `none` removes the bound
        #[arg(long, value_name = "COUNT", group = "change")]
        max_concurrency: Option<Bound>,
        /// Calls of all its functions in a time, in the whole cluster, such as 100/s; `none` removes the bound
        #[arg(long, value_name = "RATE", group = "change")]
        rate: Option<Paced>,
        /// Calls at once that the rate allows after a pause; by default those of half a second
        #[arg(long, value_name = "COUNT", requires = "rate")]
        burst: Option<u32>,
    },
    /// List the namespaces that you have a role in
    #[command(visible_alias = "ls")]
    List,
    /// Delete an empty namespace
    Delete {
        /// Its name
        name: Namespace,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// A bound, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound(Option<u32>);

impl std::str::FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            number => number.parse().map(|most| Self(Some(most))).map_err(|_| "must be a number or `none`".to_owned()),
        }
    }
}

/// A rate, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paced(Option<Rate>);

impl std::str::FromStr for Paced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|rate| Self(Some(rate))) }
    }
}

/// A rate with the burst that was asked for, as a message.
fn paced(rate: Option<Rate>, burst: Option<u32>) -> Option<v1::RateLimit> {
    rate.map(|rate| v1::RateLimit { burst: Some(burst.unwrap_or(rate.burst)), ..rate.into() })
}

/// Runs it.
pub(crate) async fn run(command: NamespaceCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        NamespaceCommand::Create { name, description, max_concurrency, rate, burst } => {
            create(&client, session, &name, description, max_concurrency, paced(rate, burst)).await
        }
        NamespaceCommand::Update { name, description, max_concurrency, rate, burst } => {
            let rate = rate.map(|Paced(rate)| paced(rate, burst));
            update(&client, session, name, description, max_concurrency, rate).await
        }
        NamespaceCommand::List => list(&client, session).await,
        NamespaceCommand::Delete { name, yes } => delete(&client, session, name, yes).await,
    }
}

async fn create(
    client: &Client,
    session: &Session,
    name: &Namespace,
    description: String,
    max_concurrency: Option<u32>,
    rate: Option<v1::RateLimit>,
) -> Result<(), Failure> {
    let request = v1::CreateNamespaceRequest {
        namespace_id: name.to_string(),
        description,
        request_id: RequestId::new().to_string(),
        max_concurrency,
        rate,
    };
    let made = answer(client.namespaces().create_namespace(request).await)?;
    if session.output.is_json() {
        return session.output.json(&NamespaceView::from(made.namespace.unwrap_or_default()));
    }
    session.output.note(format!("made namespace {name}"));
    Ok(())
}

async fn update(
    client: &Client,
    session: &Session,
    namespace: Namespace,
    description: Option<String>,
    max_concurrency: Option<Bound>,
    rate: Option<Option<v1::RateLimit>>,
) -> Result<(), Failure> {
    let fields = [
        ("description", description.is_some()),
        ("max_concurrency", max_concurrency.is_some()),
        ("rate", rate.is_some()),
    ];
    let paths = fields.into_iter().filter(|(_, given)| *given).map(|(field, _)| field.to_owned()).collect();
    let changed = v1::Namespace {
        name: NamespaceRef { namespace }.to_string(),
        description: description.unwrap_or_default(),
        max_concurrency: max_concurrency.and_then(|Bound(most)| most),
        rate: rate.flatten(),
        ..v1::Namespace::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = v1::UpdateNamespaceRequest { namespace: Some(changed), update_mask };
    let changed =
        NamespaceView::from(answer(client.namespaces().update_namespace(request).await)?.namespace.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&changed);
    }
    session.output.note(format!("changed namespace {}", changed.name));
    Ok(())
}

async fn list(client: &Client, session: &Session) -> Result<(), Failure> {
    let namespaces = all_pages(|token| page(client, token)).await?;
    let views: Vec<NamespaceView> = namespaces.into_iter().map(Into::into).collect();
    session.output.list(&views, NAMESPACES, "you have a role in no namespace")
}

async fn page(client: &Client, page_token: String) -> Result<(Vec<v1::Namespace>, String), Failure> {
    let request = v1::ListNamespacesRequest { page_size: 0, page_token };
    let page = answer(client.namespaces().list_namespaces(request).await)?;
    Ok((page.namespaces, page.next_page_token))
}

async fn delete(client: &Client, session: &Session, namespace: Namespace, yes: bool) -> Result<(), Failure> {
    session.confirm(yes, &format!("delete namespace {namespace}"))?;
    let name = NamespaceRef { namespace }.to_string();
    answer(client.namespaces().delete_namespace(v1::DeleteNamespaceRequest { name: name.clone() }).await)?;
    session.output.note(format!("deleted {name}"));
    Ok(())
}
