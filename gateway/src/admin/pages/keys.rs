//! Callers' keys: the list, making one, which is shown once, and revoking.

use std::time::SystemTime;

use askama::Template;
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::{IntoResponse, Redirect},
};
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Namespace,
    model::{Quota, Rate},
    names::{KeyName, NamespaceRef},
    v1,
};
use serde::Deserialize;

use super::{
    Page, Problem,
    format::When,
    render,
    shell::{Section, Shell, may},
    testing,
    view::{Badge, visible},
};
use crate::{
    admin::{
        app::App,
        fault::Fault,
        model::{Key, KeyList, id_in},
        params::Named,
        session::Visitor,
    },
    auth::{Principal, Role},
};

#[derive(Debug, Template)]
#[template(path = "keys.html")]
struct KeysPage {
    shell: Shell,
    namespace: String,
    may_manage: bool,
    error: Option<Problem>,
    fresh: Option<Fresh>,
    keys: Vec<KeyRow>,
    more: bool,
    plans: Vec<PlanRow>,
}

/// A key that has just been made.
struct Fresh {
    secret: String,
    curl: String,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fresh(..)")
    }
}

#[derive(Debug)]
struct KeyRow {
    id: String,
    /// The id of the element with the command that revokes it.
    revoke_id: String,
    title: String,
    prefix: String,
    state: Badge,
    valid: bool,
    functions: String,
    plan: String,
    created: Option<When>,
    creator: String,
    expires: Option<When>,
}

impl KeyRow {
    fn new(key: Key, now: SystemTime) -> Self {
        let expired = key.expire_time.is_some_and(|end| end.at() <= now);
        let has_old = key.old_secret_expire_time.is_some_and(|end| end.at() > now);
        let state = match (key.revoke_time, expired, has_old) {
            (Some(_), ..) => Badge::bad("revoked"),
            (None, true, _) => Badge::warn("expired"),
            (None, false, true) => Badge::warn("valid, as is its old secret"),
            (None, false, false) => Badge::ok("valid"),
        };
        Self {
            valid: key.revoke_time.is_none() && !expired,
            state,
            title: if key.display_name.is_empty() { key.key.clone() } else { visible(&key.display_name) },
            functions: if key.functions.is_empty() { "all".to_owned() } else { key.functions.join(", ") },
            created: key.create_time.map(|time| When::new(time, now)),
            expires: key.expire_time.map(|time| When::new(time, now)),
            creator: visible(&key.creator),
            plan: key.plan,
            prefix: key.prefix,
            revoke_id: format!("revoke-{}", key.key),
            id: key.key,
        }
    }
}

/// What keys may use.
#[derive(Debug)]
struct PlanRow {
    name: String,
    rate: String,
    burst: String,
    quota: String,
    at_once: String,
    keys: u32,
}

impl PlanRow {
    fn new(plan: &v1::Plan) -> Self {
        let rate = plan.rate.and_then(|wire| Rate::from_wire("rate", wire).ok());
        let quota = plan.quota.and_then(|wire| Quota::from_wire("quota", wire).ok());
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "no bound".to_owned());
        Self {
            name: id_in(&plan.name, "plans").to_owned(),
            burst: rate.map(|rate| rate.burst.to_string()).unwrap_or_default(),
            rate: or_none(rate.map(|rate| rate.to_string())),
            quota: or_none(quota.map(|quota| quota.to_string())),
            at_once: or_none(plan.max_concurrency.map(|most| most.to_string())),
            keys: plan.keys,
        }
    }
}

/// Shows the keys.
pub(super) async fn page(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
) -> Page {
    show(&app, &who, &namespace, None, None).await
}

async fn show(
    app: &App,
    who: &Principal,
    namespace: &Namespace,
    fresh: Option<Fresh>,
    error: Option<&ApiError>,
) -> Page {
    let parent = format!("namespaces/{namespace}");
    let request = v1::ListKeysRequest { parent: parent.clone(), ..Default::default() };
    let (list, plans, shell) = tokio::join!(
        app.key_list(who, request),
        app.plan_list(who, v1::ListPlansRequest { parent }),
        Shell::new(app, who, Some(namespace), Section::Keys),
    );
    let (list, now) = (KeyList::from(list?), SystemTime::now());
    render(&KeysPage {
        shell,
        namespace: namespace.to_string(),
        may_manage: may(who, namespace, Role::Admin),
        error: error.map(Problem::from),
        fresh,
        more: !list.next_page_token.is_empty(),
        plans: plans?.plans.iter().map(PlanRow::new).collect(),
        keys: list.keys.into_iter().map(|key| KeyRow::new(key, now)).collect(),
    })
}

/// What the form sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    display_name: String,
    #[serde(default)]
    functions: String,
    #[serde(default)]
    lifetime_days: u16,
    /// The plan's bare name; empty means none.
    #[serde(default)]
    plan: String,
}

impl Sent {
    fn into_message(self, namespace: &Namespace) -> v1::CreateKeyRequest {
        let functions = self.functions.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty());
        let days = i64::from(self.lifetime_days);
        v1::CreateKeyRequest {
            parent: format!("namespaces/{namespace}"),
            display_name: self.display_name.trim().to_owned(),
            functions: functions.map(str::to_owned).collect(),
            lifetime: (days > 0).then_some(prost_types::Duration { seconds: days * 86_400, nanos: 0 }),
            plan: self.plan.trim().to_owned(),
        }
    }
}

/// Makes a key and shows it; a form that is wrong is shown again with what is wrong.
pub(super) async fn create(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
    sent: Result<Form<Sent>, FormRejection>,
) -> Page {
    let Form(sent) = sent.map_err(Fault::from)?;
    match app.key_create(&who, sent.into_message(&namespace)).await {
        Ok(made) => {
            let curl = example(&app, &who, &namespace, &made).await;
            show(&app, &who, &namespace, Some(Fresh { secret: made.secret, curl }), None).await
        }
        Err(error) if matches!(error.code, ErrorCode::InvalidArgument | ErrorCode::NotFound) => {
            let mut response = show(&app, &who, &namespace, None, Some(&error)).await?;
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            Ok(response)
        }
        Err(error) => Err(error.into()),
    }
}

/// A command that calls a function with the new key; empty where there is none to call.
async fn example(app: &App, who: &Principal, namespace: &Namespace, made: &v1::CreateKeyResponse) -> String {
    let request = v1::ListFunctionsRequest { parent: format!("namespaces/{namespace}"), ..Default::default() };
    let functions = app.function_list(who, request).await.map(|list| list.functions).unwrap_or_default();
    let allowed = made.key.as_ref().map(|key| key.functions.as_slice()).unwrap_or_default();
    let may_call = |function: &&v1::Function| {
        allowed.is_empty() || allowed.iter().any(|name| function.name.ends_with(&format!("/functions/{name}")))
    };
    let url = functions.iter().filter(may_call).find_map(|function| testing::base(&function.urls));
    url.map(|url| format!("curl -H 'X-Api-Key: {}' {url}", made.secret)).unwrap_or_default()
}

/// Revokes a key.
pub(super) async fn revoke(State(app): State<App>, Visitor(who): Visitor, Named(name): Named<KeyName>) -> Page {
    app.key_revoke(&who, v1::RevokeKeyRequest { name: name.to_string() }).await?;
    Ok(Redirect::to(&format!("/namespaces/{}/keys", name.namespace)).into_response())
}
