//! The OpenAPI document: what is common to all endpoints, and the endpoint that serves it.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use bytes::Bytes;
use http::header;
use serde::Serialize;
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::{
        self, Content, Header, ObjectBuilder, Ref, RefOr, Response, Schema,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::{AdditionalProperties, Type},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

/// What all endpoints have in common.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Dunlin",
        description = "Administration of a Dunlin cluster: functions and their versions, invocations, logs, keys, \
            machines. The same roles hold as in the gRPC API. What follows a log answers with \
            Server-Sent Events, without an end.",
        version = "1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "This listener")),
    components(schemas(Error)),
    modifiers(&Security),
    security(("token" = [])),
)]
pub(super) struct Document;

#[derive(Debug)]
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("JWT".to_owned());
        scheme.description = Some("An administration token, as `dunlin token create` makes it.".to_owned());
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// What may have one of several shapes has no other fields either.
pub(super) fn close(document: &mut openapi::OpenApi) {
    let Some(components) = &mut document.components else { return };
    for shapes in components.schemas.values_mut() {
        let RefOr::T(Schema::OneOf(shapes)) = shapes else { continue };
        for shape in &mut shapes.items {
            if let RefOr::T(Schema::Object(shape)) = shape {
                shape.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
    }
}

/// What `conditional.rs` adds to every endpoint.
pub(super) fn conditional(document: &mut openapi::OpenApi) {
    for (name, path) in &mut document.paths.paths {
        if let Some(read) = &mut path.get
            && !super::conditional::is_endless(name)
        {
            depends_on(read, &["If-None-Match"]);
            let unchanged = Response::new("The client has it already: it named its ETag");
            read.responses.responses.insert("304".to_owned(), unchanged.into());
            if let Some(RefOr::T(found)) = read.responses.responses.get_mut("200") {
                found.headers.insert("ETag".to_owned(), Header::new(text()));
            }
        }
        // What can't be read has no ETag that a change could depend on.
        if path.get.is_none() {
            continue;
        }
        for change in [&mut path.post, &mut path.put, &mut path.patch, &mut path.delete].into_iter().flatten() {
            depends_on(change, &["If-Match", "If-None-Match"]);
            let mut changed = Response::new("It is not as the request wants it to be");
            changed.content.insert("application/json".to_owned(), Content::new(Some(Ref::from_schema_name("Error"))));
            change.responses.responses.insert("412".to_owned(), changed.into());
        }
    }
}

/// What `idempotent.rs` adds to every change.
pub(super) fn idempotent(document: &mut openapi::OpenApi) {
    for path in document.paths.paths.values_mut() {
        for change in [&mut path.post, &mut path.put, &mut path.patch, &mut path.delete].into_iter().flatten() {
            change.parameters.get_or_insert_default().push(idempotency_key());
            for (status, why) in [
                ("400", "The request or its idempotency key can't be understood"),
                ("409", "The state does not allow it now, or a request with its idempotency key is under way"),
                ("422", "The idempotency key was used for another request"),
            ] {
                let mut refused = Response::new(why);
                refused
                    .content
                    .insert("application/json".to_owned(), Content::new(Some(Ref::from_schema_name("Error"))));
                change.responses.responses.entry(status.to_owned()).or_insert_with(|| refused.into());
            }
        }
    }
}

fn idempotency_key() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(KEY_PATTERN)).build();
    let named = ParameterBuilder::new().name("Idempotency-Key").parameter_in(ParameterIn::Header);
    let what = "The same key with the same request of the same token gets the same answer for a day, and nothing is done again \
                (draft-ietf-httpapi-idempotency-key-header). With quotes or without";
    named.description(Some(what)).schema(Some(Schema::Object(text))).build()
}

fn text() -> Schema {
    Schema::Object(ObjectBuilder::new().schema_type(Type::String).build())
}

fn depends_on(operation: &mut Operation, headers: &[&str]) {
    let parameter = |name: &&str| {
        let named = ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Header);
        named.description(Some("ETags of what GET answers, or `*` (RFC 9110 13)")).schema(Some(text())).build()
    };
    operation.parameters.get_or_insert_default().extend(headers.iter().map(parameter));
}

/// What an idempotency key is like.
const KEY_PATTERN: &str = r#"^("[!#-+\-.-:<-\[\]-~]{1,255}"|[!#-+\-.-:<-\[\]-~]{1,255})$"#;

/// An error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Error {
    /// What went wrong.
    error: ErrorBody,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What a program matches on.
    #[schema(example = "not_found")]
    code: String,
    /// What a person reads.
    message: String,
    /// Leads to the cause in the platform's log.
    #[schema(format = "uuid")]
    request_id: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hint: Option<String>,
    /// The field of the request that was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<String>,
}

/// How reading can fail.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it is a part of the document")]
pub(super) enum Refused {
    /// The request can't be understood.
    #[response(status = 400)]
    Invalid(Error),
    /// There is no token, or none that is valid.
    #[response(status = 401)]
    Unauthenticated(Error),
    /// The token's role is too small.
    #[response(status = 403)]
    Denied(Error),
    /// It is not there, or not for this caller.
    #[response(status = 404)]
    Missing(Error),
    /// Too many requests.
    #[response(status = 429)]
    Busy(Error),
    /// The platform failed.
    #[response(status = 500)]
    Internal(Error),
    /// Another process of the cluster can't be reached; trying again helps.
    #[response(status = 503)]
    Unavailable(Error),
}

/// How changing can fail, beside what can go wrong in reading.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it is a part of the document")]
pub(super) enum Unchanged {
    /// The body did not arrive in time.
    #[response(status = 408)]
    Slow(Error),
    /// It is there already, or the state does not allow it now.
    #[response(status = 409)]
    Conflict(Error),
    /// The body is too large.
    #[response(status = 413)]
    Large(Error),
}

/// The document, written once.
static TEXT: LazyLock<Bytes> = LazyLock::new(|| serde_json::to_vec(&super::document()).unwrap_or_default().into());

/// Returns this document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "document",
    security(()),
    responses((status = 200, description = "The OpenAPI document", content_type = "application/json", body = Object)),
)]
pub(super) async fn get_document() -> axum::response::Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone()).into_response()
}
