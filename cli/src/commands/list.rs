//! `dunlin list`: the functions of a namespace.

use clap::Args;
use dunlin_proto::v1;

use crate::{
    client::{Client, all_pages, answer},
    exit::Failure,
    session::{Session, namespace_name},
    view::function::{COLUMNS, FunctionView},
};

/// Arguments of `dunlin list`.
#[derive(Args)]
pub(crate) struct ListArgs {}

/// Runs it.
pub(crate) async fn run(_args: ListArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let parent = namespace_name(client.target());
    let functions = all_pages(|token| page(&client, &parent, token)).await?;
    let views: Vec<FunctionView> = functions.into_iter().map(Into::into).collect();
    let namespace = &client.target().namespace;
    session.output.list(
        &views,
        COLUMNS,
        &format!("no functions in namespace {namespace} yet; deploy one with: dunlin deploy"),
    )
}

async fn page(client: &Client, parent: &str, page_token: String) -> Result<(Vec<v1::Function>, String), Failure> {
    let request = v1::ListFunctionsRequest { parent: parent.to_owned(), page_size: 0, page_token };
    let page = answer(client.functions().list_functions(request).await)?;
    Ok((page.functions, page.next_page_token))
}
