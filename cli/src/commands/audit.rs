//! `dunlin audit`: who changed what. Whether the log is the one that was written is computed here, from its entries: the
//! cluster's word is not taken for it.

use std::{fs, path::PathBuf, time::SystemTime};

use clap::{Args, Subcommand};
use dunlin_proto::{
    audit::{Break, Chain, Entry, Head},
    ids::Digest,
    names::NamespaceRef,
    v1,
};

use crate::{
    client::{Client, answer},
    exit::{Exit, Failure},
    session::Session,
    units,
    view::audit::{ENTRIES, EntryView, HeadView, VerifiedView, unreadable},
};

/// Entries of a page: large states fit in one.
const PAGE: i32 = 200;

/// What to do with the audit log.
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// List changes, the newest first; of one namespace with -n, otherwise of the whole cluster
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Print all entries as lines of JSON, the oldest first; of one namespace with -n
    Export {
        /// Only entries from this time on: a duration such as 7d, or a time such as 2026-01-31T12:00:00Z
        #[arg(long, value_parser = since)]
        since: Option<SystemTime>,
    },
    /// Print the signed end of the log; keep it elsewhere: dunlin audit head -o json > head.json
    Head,
    /// Check that nobody has changed, removed or added entries
    Verify {
        /// A head that was saved before; the log must go through it
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
    },
}

/// Arguments of `dunlin audit list`.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// Only entries from this time on: a duration such as 7d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_parser = since)]
    since: Option<SystemTime>,
    /// Only what this subject did
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SUBJECT")]
    actor: String,
    /// Only this action, or all of a kind: route.put, or route
    #[arg(long, default_value = "", hide_default_value = true)]
    action: String,
    /// Only this resource, or what lies below it: namespaces/shop/routes/users
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    resource: String,
    /// How many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

fn since(text: &str) -> Result<SystemTime, String> {
    units::parse_since(text, SystemTime::now())
}

/// Runs it.
pub(crate) async fn run(command: AuditCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        AuditCommand::List(args) => list(&client, session, args).await,
        AuditCommand::Export { since } => export(&client, session, since).await,
        AuditCommand::Head => head(&client, session).await,
        AuditCommand::Verify { since } => verify(&client, session, since).await,
    }
}

/// The namespace that was asked for on the command line; a context's own is not meant.
fn parent(session: &Session) -> String {
    let named = session.cluster.namespace.clone();
    named.map(|namespace| NamespaceRef { namespace }.to_string()).unwrap_or_default()
}

type Hashed = (Entry, Digest);

/// A page of entries, and the token of the next one.
async fn page(client: &Client, request: v1::ListAuditEntriesRequest) -> Result<(Vec<Hashed>, String), Failure> {
    let page = answer(client.audit().list_audit_entries(request).await)?;
    let entries = page.entries.into_iter().map(Entry::from_wire).collect::<Result<_, _>>();
    Ok((entries.map_err(|error| unreadable(&error))?, page.next_page_token))
}

async fn list(client: &Client, session: &Session, args: ListArgs) -> Result<(), Failure> {
    let wanted = args.limit as usize;
    let mut request = v1::ListAuditEntriesRequest {
        parent: parent(session),
        since: args.since.map(Into::into),
        subject: args.actor,
        action: args.action,
        resource: args.resource,
        ..Default::default()
    };
    let mut views = Vec::new();
    loop {
        request.page_size = PAGE.min(i32::try_from(wanted - views.len()).unwrap_or(PAGE));
        let (entries, next) = page(client, request.clone()).await?;
        views.extend(entries.into_iter().map(|(entry, hash)| EntryView::new(entry, &hash)).take(wanted - views.len()));
        if next.is_empty() || views.len() >= wanted {
            break;
        }
        request.page_token = next;
    }
    session.output.list(&views, ENTRIES, "no entries")
}

async fn export(client: &Client, session: &Session, since: Option<SystemTime>) -> Result<(), Failure> {
    let mut request = v1::ListAuditEntriesRequest {
        parent: parent(session),
        since: since.map(Into::into),
        oldest_first: true,
        page_size: PAGE,
        ..Default::default()
    };
    loop {
        let (entries, next) = page(client, request.clone()).await?;
        for (entry, hash) in entries {
            session.output.json_line(&EntryView::new(entry, &hash))?;
        }
        if next.is_empty() {
            return Ok(());
        }
        request.page_token = next;
    }
}

/// What the cluster says of the log's ends.
struct Ends {
    head: Head,
    checkpoint: Option<Head>,
    public_key: Vec<u8>,
}

async fn ends(client: &Client) -> Result<Ends, Failure> {
    let told = answer(client.audit().get_audit_head(v1::GetAuditHeadRequest {}).await)?;
    let read = |wire: &v1::AuditHead| Head::from_wire(wire).map_err(|error| unreadable(&error));
    Ok(Ends {
        head: read(&told.head.unwrap_or_default())?,
        checkpoint: told.checkpoint.as_ref().map(read).transpose()?,
        public_key: told.public_key.to_vec(),
    })
}

async fn head(client: &Client, session: &Session) -> Result<(), Failure> {
    let ends = ends(client).await?;
    let view = HeadView::new(&ends.head, &ends.public_key);
    if session.output.is_json() {
        return session.output.json(&view);
    }
    session.output.text(&view.text())?;
    session.output.note("keep it where the cluster's operators cannot reach it: dunlin audit head -o json > head.json");
    Ok(())
}

fn saved(path: Option<PathBuf>) -> Result<Option<(Head, Vec<u8>)>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let shown = path.display();
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure::usage(format!("cannot read the saved head {shown}")).because(error))?;
    let view: HeadView = serde_json::from_str(&text).map_err(|error| {
        let failure = Failure::usage(format!("{shown} holds no head of an audit log")).because(error);
        failure.hint("make one with: dunlin audit head -o json > head.json")
    })?;
    view.read().map(Some)
}

async fn verify(client: &Client, session: &Session, path: Option<PathBuf>) -> Result<(), Failure> {
    let saved = saved(path)?;
    let since = saved.as_ref().map(|(head, _)| head.sequence);
    let mut begun = ends(client).await?;
    let mut found = walk(client, &begun, saved.as_ref()).await?;
    if found.is_err() {
        // Entries that were deleted for their age while they were read leave a gap that is none.
        let now = ends(client).await?;
        if now.checkpoint != begun.checkpoint {
            begun = now;
            found = walk(client, &begun, saved.as_ref()).await?;
        }
    }
    let first = begun.checkpoint.map_or(1, |checkpoint| checkpoint.sequence.saturating_add(1));
    let sequence = found.as_ref().map_or(begun.head.sequence, |last| *last);
    let (bad, problem) = match &found {
        Ok(_) => (None, String::new()),
        Err(broken) => (Some(broken.sequence), broken.to_string()),
    };
    let view = VerifiedView { ok: bad.is_none(), bad_sequence: bad, problem, sequence, first, since };
    if session.output.is_json() {
        session.output.json(&view)?;
    } else if view.ok {
        session.output.text(&view.text())?;
    }
    found.map(drop).map_err(|broken| tampered(&broken))
}

fn tampered(broken: &Break) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("the audit log is not the one that was written, {broken}"));
    failure.hint("compare the database with a backup, and find out who could write to it")
}

/// Reads the log from its beginning to its end; the last entry, or the first one that is wrong.
async fn walk(client: &Client, ends: &Ends, saved: Option<&(Head, Vec<u8>)>) -> Result<Result<u64, Break>, Failure> {
    let saved = saved.map(|(head, key)| (head.clone(), key.as_slice()));
    let begun = Chain::begin(ends.head.clone(), ends.checkpoint.as_ref(), &ends.public_key, saved);
    let mut chain = match begun {
        Ok(chain) => chain,
        Err(broken) => return Ok(Err(broken)),
    };
    let mut request = v1::ListAuditEntriesRequest { oldest_first: true, page_size: PAGE, ..Default::default() };
    loop {
        let (entries, next) = page(client, request.clone()).await?;
        for (entry, hash) in &entries {
            if let Err(broken) = take(client, &mut chain, ends, entry, hash).await? {
                return Ok(Err(broken));
            }
        }
        if next.is_empty() {
            return Ok(chain.end());
        }
        request.page_token = next;
    }
}

/// Takes an entry; one behind the end may be new, and then there is a later end.
async fn take(
    client: &Client,
    chain: &mut Chain,
    begun: &Ends,
    entry: &Entry,
    hash: &Digest,
) -> Result<Result<(), Break>, Failure> {
    if entry.sequence > chain.head().sequence {
        let now = ends(client).await?.head;
        if let Err(broken) = chain.extend(now, &begun.public_key) {
            return Ok(Err(broken));
        }
    }
    Ok(chain.take(entry, hash))
}
