//! A namespace's releases: what its callers got, one with what it changed, and going back to it.

use askama::Template;
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::{IntoResponse, Redirect},
};
use dunlin_proto::{
    ids::RequestId,
    names::{NamespaceRef, ReleaseName},
    v1,
};
use serde::Deserialize;

use super::{
    Page, escaped,
    format::When,
    render,
    shell::{Section, Shell, may},
    view::visible,
};
use crate::{
    admin::{
        app::App,
        fault::Fault,
        model::{ReleaseDiff, ReleaseDifference, ReleaseHead, ReleaseList, Time},
        params::{Named, Query},
        session::Visitor,
    },
    auth::Role,
};

/// Releases that the page shows: all that are kept.
const SHOWN: i32 = 100;

/// Differences that the page shows.
const MOST_LINES: usize = 500;

#[derive(Debug, Template)]
#[template(path = "releases.html")]
struct ReleasesPage {
    shell: Shell,
    namespace: String,
    done: Option<String>,
    releases: Vec<ReleaseRow>,
}

#[derive(Debug)]
struct ReleaseRow {
    number: u32,
    href: String,
    cause: String,
    made: Option<When>,
    creator: String,
}

impl ReleaseRow {
    fn new(head: &ReleaseHead, when: impl Fn(Time) -> When) -> Self {
        Self {
            href: format!("/{}", head.name),
            number: head.number,
            cause: visible(&head.cause),
            made: head.create_time.map(when),
            creator: visible(&head.creator),
        }
    }
}

/// What was done just before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Done {
    /// The release that callers were given again.
    restored: Option<u32>,
    /// Which release that is.
    now: Option<u32>,
    /// Gateways that have not said that they did it.
    lagging: Option<String>,
}

impl Done {
    fn sentence(self) -> Option<String> {
        let (restored, now) = (self.restored?, self.now?);
        let what = format!("Callers get again what they got in release {restored}: release {now}");
        Some(match self.lagging.filter(|names| !names.is_empty()) {
            None => format!("{what}, on every gateway."),
            Some(names) => format!("{what}; not yet on {}.", visible(&names)),
        })
    }
}

/// Lists the releases.
pub(super) async fn list(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(parent): Named<NamespaceRef>,
    Query(done): Query<Done>,
) -> Page {
    let request = v1::ListReleasesRequest { parent: parent.to_string(), page_size: SHOWN, ..Default::default() };
    let (found, shell) = tokio::join!(
        app.release_list(&who, request),
        Shell::new(&app, &who, Some(&parent.namespace), Section::Releases),
    );
    let now = std::time::SystemTime::now();
    let row = |head: &ReleaseHead| ReleaseRow::new(head, |time| When::new(time, now));
    render(&ReleasesPage {
        shell,
        namespace: parent.namespace.to_string(),
        done: done.sentence(),
        releases: ReleaseList::from(found?).releases.iter().map(row).collect(),
    })
}

#[derive(Debug, Template)]
#[template(path = "release.html")]
struct ReleasePage {
    shell: Shell,
    namespace: String,
    release: ReleaseRow,
    /// The release with which it is compared; 0 where it is the first.
    from: u32,
    /// Nothing where that one is no longer kept.
    differences: Option<Vec<ReleaseDifference>>,
    more: bool,
    may_deploy: bool,
    diff_command: String,
    rollback_command: String,
    /// Makes a second press of the button harmless.
    request_id: String,
}

/// Shows a release with what it changed.
pub(super) async fn page(State(app): State<App>, Visitor(who): Visitor, Named(name): Named<ReleaseName>) -> Page {
    let namespace = &name.namespace;
    let get = v1::GetReleaseRequest { name: name.to_string() };
    let diff = v1::DiffReleasesRequest { name: name.to_string(), from: 0 };
    let (found, compared, shell) = tokio::join!(
        app.release_get(&who, get),
        app.release_diff(&who, diff),
        Shell::new(&app, &who, Some(namespace), Section::Releases),
    );
    let found = found?.release.unwrap_or_default();
    // The one before the oldest is not kept.
    let compared = compared.ok().map(ReleaseDiff::from);
    let (from, differences) = compared.map_or((0, None), |diff| (diff.from, Some(diff.differences)));
    let more = differences.as_ref().is_some_and(|lines| lines.len() > MOST_LINES);
    let now = std::time::SystemTime::now();
    render(&ReleasePage {
        shell,
        release: ReleaseRow::new(&ReleaseHead::from(&found), |time| When::new(time, now)),
        from,
        differences: differences.map(|lines| lines.into_iter().take(MOST_LINES).map(shown).collect()),
        more,
        may_deploy: may(&who, namespace, Role::Developer),
        diff_command: format!("dunlin release diff {} --namespace {namespace}", name.number),
        rollback_command: format!("dunlin release rollback {} --namespace {namespace}", name.number),
        request_id: RequestId::new().to_string(),
        namespace: namespace.to_string(),
    })
}

fn shown(line: ReleaseDifference) -> ReleaseDifference {
    let ReleaseDifference { subject, field, before, after } = line;
    ReleaseDifference {
        subject: visible(&subject),
        field: visible(&field),
        before: visible(&before),
        after: visible(&after),
    }
}

/// What the form sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    #[serde(default)]
    request_id: String,
}

/// Gives callers again what they got in a release.
pub(super) async fn rollback(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(name): Named<ReleaseName>,
    sent: Result<Form<Rollback>, FormRejection>,
) -> Page {
    let Form(Rollback { request_id }) = sent.map_err(Fault::from)?;
    let done = app.release_rollback(&who, v1::RollbackReleaseRequest { name: name.to_string(), request_id }).await?;
    let now = done.release.unwrap_or_default().number;
    let lagging = escaped(&done.lagging_gateways.join(", "));
    let query = format!("restored={}&now={now}&lagging={lagging}", name.number);
    Ok(Redirect::to(&format!("/namespaces/{}/releases?{query}", name.namespace)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_in_a_sentence() {
        let done = |lagging: &str| Done { restored: Some(3), now: Some(9), lagging: Some(lagging.to_owned()) };
        let what = "Callers get again what they got in release 3: release 9";
        assert_eq!(done("").sentence().unwrap(), format!("{what}, on every gateway."));
        assert_eq!(done("g-2").sentence().unwrap(), format!("{what}; not yet on g-2."));
        assert_eq!(Done::default().sentence(), None);
    }
}
