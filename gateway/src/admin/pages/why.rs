//! What became of a request that has no page of a function's: it was refused before one was found, or no record of it is kept. What it
//! means is said by `explain.rs`.

use std::time::SystemTime;

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect},
};
use dunlin_proto::{ApiError, ids::Namespace, names::NamespaceRef, v1};
use http::StatusCode;

use super::{
    Page,
    invocation::StepRow,
    render, sentence,
    shell::{Section, Shell},
    view::{InvocationRow, visible},
};
use crate::admin::{
    app::App,
    fault::Written,
    model::{Explanation, OutcomeCount},
    session::Visitor,
};

#[derive(Debug, Template)]
#[template(path = "why.html")]
struct WhyPage {
    shell: Shell,
    namespace: String,
    id: String,
    summary: String,
    advice: String,
    /// The request, where a record is kept.
    call: Option<InvocationRow>,
    steps: Vec<StepRow>,
    /// Where none is: what became of others at that time.
    group: Vec<OutcomeCount>,
    unreachable: Vec<String>,
}

/// Shows a request by its id or the caller's own; one that reached a function has a page there.
pub(super) async fn page(
    State(app): State<App>,
    Visitor(who): Visitor,
    Path((namespace, id)): Path<(String, String)>,
) -> Page {
    let namespace: Namespace = namespace.parse().map_err(|error| ApiError::invalid("namespace", error))?;
    let parent = NamespaceRef { namespace: namespace.clone() }.to_string();
    let request = v1::ExplainInvocationRequest { parent, request_id: id.clone() };
    let found = Explanation::from(app.explain(&who, request).await?);
    match found.invocation.as_ref().filter(|call| !call.function.is_empty()) {
        Some(call) => Ok(Redirect::to(&format!("/{}", call.name)).into_response()),
        None => {
            let shell = Shell::new(&app, &who, Some(&namespace), Section::Invocations).await;
            shown(shell, &namespace, &id, found)
        }
    }
}

/// The page of a request that has none of its own, or that no record is kept of: then it says what became of others.
pub(super) fn shown(shell: Shell, namespace: &Namespace, id: &str, found: Explanation) -> Page {
    let (is_kept, now) = (found.invocation.is_some(), SystemTime::now());
    let mut response = render(&WhyPage {
        shell,
        namespace: namespace.to_string(),
        id: visible(id),
        summary: sentence(&found.summary),
        advice: if found.advice.is_empty() { String::new() } else { sentence(&found.advice) },
        call: found.invocation.map(|call| InvocationRow::new(&call, now)),
        steps: found.steps.into_iter().map(StepRow::from).collect(),
        group: found.group,
        unreachable: found.unreachable,
    })?;
    if !is_kept {
        *response.status_mut() = StatusCode::NOT_FOUND;
        response.extensions_mut().insert(Written);
    }
    Ok(response)
}
