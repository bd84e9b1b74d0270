//! `dunlin versions`: the versions of a function, the newest first.

use clap::Args;
use dunlin_proto::{names::FunctionRef, v1};

use crate::{
    client::{Client, all_pages, answer},
    exit::Failure,
    session::{FunctionArg, Session},
    view::{
        function::FunctionView,
        version::{COLUMNS, VersionView},
    },
};

/// Arguments of `dunlin versions`.
#[derive(Args)]
pub(crate) struct VersionsArgs {
    /// Function, as NAME or NAMESPACE/NAME
    name: FunctionArg,
}

/// Runs it.
pub(crate) async fn run(args: VersionsArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let name = args.name.in_target(client.target());
    let function = function(&client, &name).await?;
    let versions = versions(&client, &name, &function).await?;
    session.output.list(&versions, COLUMNS, &format!("{} has no versions", name.function))
}

/// The function itself.
pub(crate) async fn function(client: &Client, name: &FunctionRef) -> Result<FunctionView, Failure> {
    let request = v1::GetFunctionRequest { name: name.to_string() };
    let found = answer(client.functions().get_function(request).await)?;
    Ok(found.function.unwrap_or_default().into())
}

/// Its versions with their shares of its traffic.
pub(crate) async fn versions(
    client: &Client,
    name: &FunctionRef,
    function: &FunctionView,
) -> Result<Vec<VersionView>, Failure> {
    let parent = name.to_string();
    let versions = all_pages(|token| page(client, &parent, token)).await?;
    let with_traffic = |version: v1::Version| {
        let percent = Some(function.percent_of(version.number));
        VersionView { traffic_percent: percent, ..VersionView::from(version) }
    };
    Ok(versions.into_iter().map(with_traffic).collect())
}

async fn page(client: &Client, parent: &str, page_token: String) -> Result<(Vec<v1::Version>, String), Failure> {
    let request = v1::ListVersionsRequest { parent: parent.to_owned(), page_size: 0, page_token };
    let page = answer(client.functions().list_versions(request).await)?;
    Ok((page.versions, page.next_page_token))
}
