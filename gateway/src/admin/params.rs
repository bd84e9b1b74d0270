//! What paths and queries carry, checked before anything is made of it: an id can't smuggle a slash into a name.

use axum::{
    extract::{FromRequestParts, Path, Query as AxumQuery},
    http::request::Parts,
};
use dunlin_proto::{
    ApiError,
    ids::{
        AliasId, AppId, DomainName, FunctionName, InvocationId, Namespace, PlanId, ReleaseNumber, RouteId,
        VersionNumber, WorkerId,
    },
    names::{
        AliasName, AppName, DomainRef, FunctionRef, InvocationName, KeyId, KeyName, NamespaceRef, PlanName,
        ReleaseName, RouteName, VersionName, WorkerName,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;

use super::fault::Fault;

/// A query whose errors are of the closed list.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        Ok(Self(AxumQuery::from_request_parts(parts, state).await?.0))
    }
}

/// A resource that a path names.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

/// Makes a resource's name of a path's ids.
pub(super) trait FromIds: Sized {
    /// The ids, as they stand in the path.
    type Ids: DeserializeOwned + Send;

    /// The name.
    fn from_ids(ids: Self::Ids) -> Result<Self, ApiError>;
}

impl<T: FromIds, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let Path(ids) = Path::<T::Ids>::from_request_parts(parts, state).await?;
        Ok(Self(T::from_ids(ids)?))
    }
}

macro_rules! from_ids {
    ($(#[$doc:meta])* $ids:ident => $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),+ }) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize, IntoParams)]
        #[into_params(parameter_in = Path)]
        pub(super) struct $ids {
            $($(#[$attribute])* pub(super) $field: String,)+
        }

        impl FromIds for $name {
            type Ids = $ids;

            fn from_ids(ids: $ids) -> Result<Self, ApiError> {
                $(let $field: $type = ids.$field.parse().map_err(|error| ApiError::invalid(stringify!($field), error))?;)+
                Ok(Self { $($field),+ })
            }
        }
    };
}

from_ids! {
    /// The path of a namespace.
    NamespaceIds => NamespaceRef {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace
    }
}
from_ids! {
    /// The path of a function.
    FunctionIds => FunctionRef {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace,
        /// The function's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "checkout")]
        function: FunctionName
    }
}
from_ids! {
    /// The path of a version.
    VersionIds => VersionName {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace,
        /// The function's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "checkout")]
        function: FunctionName,
        /// The version's number.
        #[param(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, example = 1)]
        number: VersionNumber
    }
}
from_ids! {
    /// The path of an alias.
    AliasIds => AliasName {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace,
        /// The function's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "checkout")]
        function: FunctionName,
        /// The alias's bare name; `live` is the function's own traffic.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "live")]
        alias: AliasId
    }
}
from_ids! {
    /// The path of an invocation.
    InvocationIds => InvocationName {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace,
        /// The function's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "checkout")]
        function: FunctionName,
        /// The invocation's id.
        #[param(format = "uuid", example = "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b")]
        id: InvocationId
    }
}
from_ids! {
    /// The path of a key.
    KeyIds => KeyName {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace,
        /// The key's bare id.
        #[param(pattern = "^[A-Za-z0-9]{12}$", example = "abcDEF123456")]
        key: KeyId
    }
}
from_ids! {
    /// The path of a plan.
    PlanIds => PlanName {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace,
        /// The plan's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 63, example = "basic")]
        plan: PlanId
    }
}
from_ids! {
    /// The path of a route.
    RouteIds => RouteName {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace,
        /// The route's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 63, example = "users")]
        route: RouteId
    }
}
from_ids! {
    /// The path of an app.
    AppIds => AppName {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace,
        /// The app's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 63, example = "till")]
        app: AppId
    }
}
/// The path of a release.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ReleaseIds {
    /// The namespace's bare name.
    #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
    pub(super) namespace: String,
    /// The release's number.
    #[param(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, example = 1)]
    pub(super) release: String,
}

impl FromIds for ReleaseName {
    type Ids = ReleaseIds;

    fn from_ids(ids: ReleaseIds) -> Result<Self, ApiError> {
        let namespace: Namespace = ids.namespace.parse().map_err(|error| ApiError::invalid("namespace", error))?;
        let number: ReleaseNumber = ids.release.parse().map_err(|error| ApiError::invalid("release", error))?;
        Ok(Self { namespace, number })
    }
}

from_ids! {
    /// The path of a domain.
    DomainIds => DomainRef {
        /// The namespace's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: Namespace,
        /// The domain.
        #[param(pattern = "^[a-z](-?[a-z0-9])*(\\.[a-z](-?[a-z0-9])*)+$", max_length = 253, example = "shop.example")]
        domain: DomainName
    }
}
from_ids! {
    /// The path of a worker.
    WorkerIds => WorkerName {
        /// The worker's bare name.
        #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 63, example = "worker-1")]
        worker: WorkerId
    }
}

/// The path of a request.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RequestIds {
    /// The namespace's bare name.
    #[param(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
    pub(super) namespace: String,
    /// The id in the answer's `Dunlin-Request-Id`, or the caller's own.
    #[param(min_length = 1, max_length = 128, pattern = "^[!-~]+$", example = "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b")]
    pub(super) id: String,
}

/// A request of a namespace, by its id or its caller's.
#[derive(Debug)]
pub(super) struct RequestName {
    pub(super) namespace: Namespace,
    pub(super) id: String,
}

impl FromIds for RequestName {
    type Ids = RequestIds;

    fn from_ids(ids: RequestIds) -> Result<Self, ApiError> {
        let namespace: Namespace = ids.namespace.parse().map_err(|error| ApiError::invalid("namespace", error))?;
        Ok(Self { namespace, id: visible("id", Some(ids.id))? })
    }
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// How many, from 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(super) page_size: Option<u16>,
    /// `next_page_token` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{1,512}$")]
    pub(super) page_token: Option<String>,
}

impl Page {
    /// Size and token for a message.
    pub(super) fn checked(self) -> Result<(i32, String), ApiError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let fine = |token: &String| (1..=512).contains(&token.len()) && token.bytes().all(plain);
        if self.page_token.as_ref().is_some_and(|token| !fine(token)) {
            return Err(ApiError::invalid("page_token", "page_token must be the next_page_token of the page before"));
        }
        Ok((page_size(self.page_size)?, self.page_token.unwrap_or_default()))
    }
}

/// What a list answers: a page that is not there was not found, since its token is a part of its address.
pub(super) fn listed<T>(answer: Result<T, ApiError>) -> Result<T, ApiError> {
    answer.map_err(|error| match error.field.as_deref() {
        Some("page_token") => ApiError::not_found("the page with this page_token").hint("begin with the first page"),
        _ => error,
    })
}

/// Text of a query, of so many characters at most.
pub(super) fn at_most(field: &str, text: Option<String>, most: usize) -> Result<String, ApiError> {
    let text = text.unwrap_or_default();
    if text.chars().count() > most {
        return Err(ApiError::invalid(field, format!("{field} may have {most} characters at most")));
    }
    Ok(text)
}

/// Text without spaces, as ids are, of 128 characters at most.
pub(super) fn visible(field: &str, text: Option<String>) -> Result<String, ApiError> {
    let text = at_most(field, text, 128)?;
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(ApiError::invalid(field, format!("{field} may have letters, digits and punctuation only"))),
    }
}

/// A page's size for a message; a size of 0 was sent and is none.
pub(super) fn page_size(size: Option<u16>) -> Result<i32, ApiError> {
    match size {
        Some(0) => Err(ApiError::invalid("page_size", "page_size is 0 but must lie between 1 and 1000")),
        size => Ok(size.unwrap_or(100).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t24_an_id_of_a_path_cannot_become_two() {
        let function = |namespace: &str, function: &str| {
            FunctionRef::from_ids(FunctionIds { namespace: namespace.into(), function: function.into() })
        };
        assert_eq!(function("shop", "pay").unwrap().to_string(), "namespaces/shop/functions/pay");
        for (namespace, name) in [("shop/functions/x", "pay"), ("shop", "../x"), ("shop", ""), ("..", "pay")] {
            assert!(function(namespace, name).is_err(), "{namespace} {name}");
        }
    }
}
