//! `dunlin why`: what became of a request, from its acceptance to its answer or refusal.

use clap::Args;
use dunlin_proto::v1;

use crate::{
    client::answer,
    exit::{Exit, Failure},
    output::{Style, printable},
    session::{Session, namespace_name},
    view::explanation::ExplanationView,
};

/// Arguments of `dunlin why`.
#[derive(Args)]
pub(crate) struct WhyArgs {
    /// The id in the answer's Dunlin-Request-Id header, or the X-Request-Id that the caller sent
    #[arg(value_name = "REQUEST-ID")]
    id: String,
}

/// Runs it. A request of which nothing is kept ends as what is not found does, once its group is shown.
pub(crate) async fn run(args: WhyArgs, session: &Session) -> Result<Exit, Failure> {
    let client = session.connect().await?;
    let request = v1::ExplainInvocationRequest { parent: namespace_name(client.target()), request_id: args.id };
    let explanation = ExplanationView::from(answer(client.invocations().explain_invocation(request).await)?);
    for process in &explanation.unreachable {
        session.output.warn(format!("warning: {} did not answer and may know more", printable(process)));
    }
    if session.output.is_json() {
        session.output.json(&explanation)?;
    } else {
        session.output.text(&explanation.text(Style::of_stdout()))?;
    }
    Ok(if explanation.invocation.is_some() { Exit::Ok } else { Exit::NotFound })
}
