//! `dunlin namespace`: the tenants of a cluster.

use std::time::Duration;

use clap::Subcommand;
use dunlin_proto::{
    ids::{Namespace, RequestId},
    model::{Quota, Rate, to_wire_duration},
    names::NamespaceRef,
    v1,
};

use crate::{
    client::{Client, all_pages, answer},
    commands::plan::OnUnknown,
    exit::Failure,
    output::pairs,
    session::Session,
    units,
    view::cluster::{NAMESPACES, NamespaceView, namespace_pairs},
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
        /// Calls of all its functions in a day or month of UTC, such as 1000000/month; no bound by default
        #[arg(long)]
        quota: Option<Quota>,
        /// What gateways do that have used up what they were lent of the quota and do not reach the scheduler
        #[arg(long, requires = "quota", value_enum, default_value_t = OnUnknown::Allow)]
        on_unknown: OnUnknown,
        /// How long records of its calls and lines of its logs are kept, such as 7d; by default as gateways and workers are set
        #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
        log_retention: Option<Duration>,
        /// Lines of its logs that each worker keeps, such as 200MB; by default as workers are set
        #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
        log_bytes: Option<u64>,
    },
    /// Show a namespace and its bounds
    Show {
        /// Its name
        name: Namespace,
    },
    /// Change a namespace
    #[command(visible_alias = "set", group = clap::ArgGroup::new("change").required(true).multiple(true))]
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
        /// Calls of all its functions in a day or month of UTC, such as 1000000/month; `none` removes the bound
        #[arg(long, group = "change")]
        quota: Option<Metered>,
        /// What gateways do that have used up what they were lent of the quota and do not reach the scheduler
        #[arg(long, requires = "quota", value_enum, default_value_t = OnUnknown::Allow)]
        on_unknown: OnUnknown,
        /// How long records of its calls and lines of its logs are kept, such as 7d; `none`: as gateways and workers are set
        #[arg(long, value_name = "DURATION", group = "change")]
        log_retention: Option<Kept>,
        /// Lines of its logs that each worker keeps, such as 200MB; `none`: as workers are set
        #[arg(long, value_name = "SIZE", group = "change")]
        log_bytes: Option<Bytes>,
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

/// A quota, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metered(Option<Quota>);

impl std::str::FromStr for Metered {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|quota| Self(Some(quota))) }
    }
}

/// A time, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept(Option<Duration>);

impl std::str::FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { units::parse_duration(text).map(|age| Self(Some(age))) }
    }
}

/// A size, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes(Option<u64>);

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { units::parse_size(text).map(|size| Self(Some(size))) }
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
        NamespaceCommand::Create {
            name,
            description,
            max_concurrency,
            rate,
            burst,
            quota,
            on_unknown,
            log_retention,
            log_bytes,
        } => {
            let request = v1::CreateNamespaceRequest {
                namespace_id: name.to_string(),
                description,
                request_id: RequestId::new().to_string(),
                max_concurrency,
                rate: paced(rate, burst),
                quota: quota.map(|quota| on_unknown.of(quota)),
                log_retention: log_retention.map(to_wire_duration),
                log_bytes,
            };
            create(&client, session, &name, request).await
        }
        NamespaceCommand::Show { name } => show(&client, session, name).await,
        NamespaceCommand::Update {
            name,
            description,
            max_concurrency,
            rate,
            burst,
            quota,
            on_unknown,
            log_retention,
            log_bytes,
        } => {
            let rate = rate.map(|Paced(rate)| paced(rate, burst));
            let quota = quota.map(|Metered(quota)| quota.map(|quota| on_unknown.of(quota)));
            let change = Change { description, max_concurrency, rate, quota, log_retention, log_bytes };
            update(&client, session, name, change).await
        }
        NamespaceCommand::List => list(&client, session).await,
        NamespaceCommand::Delete { name, yes } => delete(&client, session, name, yes).await,
    }
}

async fn create(
    client: &Client,
    session: &Session,
    name: &Namespace,
    request: v1::CreateNamespaceRequest,
) -> Result<(), Failure> {
    let made = answer(client.namespaces().create_namespace(request).await)?;
    if session.output.is_json() {
        return session.output.json(&NamespaceView::from(made.namespace.unwrap_or_default()));
    }
    session.output.note(format!("made namespace {name}"));
    Ok(())
}

async fn show(client: &Client, session: &Session, namespace: Namespace) -> Result<(), Failure> {
    let request = v1::GetNamespaceRequest { name: NamespaceRef { namespace }.to_string() };
    let found = answer(client.namespaces().get_namespace(request).await)?.namespace.unwrap_or_default();
    let found = NamespaceView::from(found);
    if session.output.is_json() {
        return session.output.json(&found);
    }
    session.output.text(&pairs(&namespace_pairs(&found)))
}

/// What to change of a namespace; what is not there stays.
struct Change {
    description: Option<String>,
    max_concurrency: Option<Bound>,
    rate: Option<Option<v1::RateLimit>>,
    quota: Option<Option<v1::QuotaLimit>>,
    log_retention: Option<Kept>,
    log_bytes: Option<Bytes>,
}

impl Change {
    /// The names of what changes, and the new values.
    fn of(self, namespace: Namespace) -> (Vec<String>, v1::Namespace) {
        let fields = [
            ("description", self.description.is_some()),
            ("max_concurrency", self.max_concurrency.is_some()),
            ("rate", self.rate.is_some()),
            ("quota", self.quota.is_some()),
            ("log_retention", self.log_retention.is_some()),
            ("log_bytes", self.log_bytes.is_some()),
        ];
        let paths = fields.into_iter().filter(|(_, given)| *given).map(|(field, _)| field.to_owned()).collect();
        let changed = v1::Namespace {
            name: NamespaceRef { namespace }.to_string(),
            description: self.description.unwrap_or_default(),
            max_concurrency: self.max_concurrency.and_then(|Bound(most)| most),
            rate: self.rate.flatten(),
            quota: self.quota.flatten(),
            log_retention: self.log_retention.and_then(|Kept(age)| age).map(to_wire_duration),
            log_bytes: self.log_bytes.and_then(|Bytes(most)| most),
            ..v1::Namespace::default()
        };
        (paths, changed)
    }
}

async fn update(client: &Client, session: &Session, namespace: Namespace, change: Change) -> Result<(), Failure> {
    let (paths, changed) = change.of(namespace);
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
    session.output.deleted(&name, &format!("deleted {name}"))
}
