//! Resource names: how the public API spells what it means, as in `namespaces/shop/functions/checkout/versions/3`.
//!
//! They follow the habits of well-known gRPC APIs (resource-oriented names, google.aip.dev/122). Each type reads and
//! writes exactly one spelling, and every one that belongs to a tenant can say which.

use std::{fmt, str::FromStr};

use crate::ids::{
    AliasId, AppId, DomainName, FunctionName, InvocationId, Namespace, PlanId, ReleaseNumber, RouteId, VersionNumber,
    WorkerId,
};

/// A resource name that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It does not have the pattern.
    #[error("resource name {text:?} must have the form {pattern}")]
    Pattern {
        /// The beginning of what was sent.
        text: String,
        /// What it should look like.
        pattern: &'static str,
    },
    /// One of its parts is not valid.
    #[error(transparent)]
    Part(#[from] crate::ids::IdError),
}

/// Splits `collection/id/collection/id...` by a pattern such as `namespaces/{}/functions/{}`.
fn ids<'a, const N: usize>(
    text: &'a str,
    collections: [&str; N],
    pattern: &'static str,
) -> Result<[&'a str; N], NameError> {
    let wrong = || NameError::Pattern { text: text.chars().take(120).collect(), pattern };
    let mut parts = text.split('/');
    let mut out = [""; N];
    for (slot, collection) in out.iter_mut().zip(collections) {
        if parts.next() != Some(collection) {
            return Err(wrong());
        }
        *slot = parts.next().ok_or_else(wrong)?;
    }
    parts.next().is_none().then_some(out).ok_or_else(wrong)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty => $collection:literal),+ }, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            $(#[doc = concat!("The id in `", $collection, "`.")] pub $field: $type,)+
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let [$($field),+] = ids(text, [$($collection),+], $pattern)?;
                Ok(Self { $($field: $field.parse()?),+ })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let parts = [$(format!(concat!($collection, "/{}"), self.$field)),+];
                f.write_str(&parts.join("/"))
            }
        }
    };
}

name! {
    /// `namespaces/{namespace}`.
    NamespaceRef { namespace: Namespace => "namespaces" }, "namespaces/{namespace}"
}
name! {
    /// `namespaces/{namespace}/functions/{function}`.
    FunctionRef { namespace: Namespace => "namespaces", function: FunctionName => "functions" },
    "namespaces/{namespace}/functions/{function}"
}
name! {
    /// `namespaces/{namespace}/functions/{function}/versions/{number}`.
    VersionName { namespace: Namespace => "namespaces", function: FunctionName => "functions", number: VersionNumber => "versions" },
    "namespaces/{namespace}/functions/{function}/versions/{number}"
}
name! {
    /// `namespaces/{namespace}/functions/{function}/aliases/{alias}`.
    AliasName { namespace: Namespace => "namespaces", function: FunctionName => "functions", alias: AliasId => "aliases" },
    "namespaces/{namespace}/functions/{function}/aliases/{alias}"
}
name! {
    /// `namespaces/{namespace}/functions/{function}/invocations/{id}`.
    InvocationName { namespace: Namespace => "namespaces", function: FunctionName => "functions", id: InvocationId => "invocations" },
    "namespaces/{namespace}/functions/{function}/invocations/{id}"
}
name! {
    /// `namespaces/{namespace}/keys/{key}`.
    KeyName { namespace: Namespace => "namespaces", key: KeyId => "keys" }, "namespaces/{namespace}/keys/{key}"
}
name! {
    /// `namespaces/{namespace}/plans/{plan}`.
    PlanName { namespace: Namespace => "namespaces", plan: PlanId => "plans" }, "namespaces/{namespace}/plans/{plan}"
}
name! {
    /// `namespaces/{namespace}/routes/{route}`.
    RouteName { namespace: Namespace => "namespaces", route: RouteId => "routes" }, "namespaces/{namespace}/routes/{route}"
}
name! {
    /// `namespaces/{namespace}/apps/{app}`.
    AppName { namespace: Namespace => "namespaces", app: AppId => "apps" }, "namespaces/{namespace}/apps/{app}"
}
name! {
    /// `namespaces/{namespace}/releases/{number}`.
    ReleaseName { namespace: Namespace => "namespaces", number: ReleaseNumber => "releases" },
    "namespaces/{namespace}/releases/{number}"
}
name! {
    /// `namespaces/{namespace}/domains/{domain}`.
    DomainRef { namespace: Namespace => "namespaces", domain: DomainName => "domains" },
    "namespaces/{namespace}/domains/{domain}"
}
/// What a namespace has one of at most: `namespaces/{namespace}/budget`.
macro_rules! only {
    ($(#[$doc:meta])* $name:ident, $last:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            /// The namespace.
            pub namespace: Namespace,
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let pattern = concat!("namespaces/{namespace}/", $last);
                let wrong = || NameError::Pattern { text: text.chars().take(120).collect(), pattern };
                let parent = text.strip_suffix(concat!("/", $last)).ok_or_else(wrong)?;
                let parent: NamespaceRef = parent.parse().map_err(|_| wrong())?;
                Ok(Self { namespace: parent.namespace })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("namespaces/{}/", $last), self.namespace)
            }
        }
    };
}

only! {
    /// `namespaces/{namespace}/budget`: a namespace has one at most.
    BudgetName, "budget"
}
only! {
    /// `namespaces/{namespace}/webhook`: a namespace has one at most.
    WebhookName, "webhook"
}

name! {
    /// `workers/{worker}`.
    WorkerName { worker: WorkerId => "workers" }, "workers/{worker}"
}

impl FunctionRef {
    /// The name of one of its versions.
    #[must_use]
    pub fn version(&self, number: VersionNumber) -> VersionName {
        VersionName { namespace: self.namespace.clone(), function: self.function.clone(), number }
    }

    /// The name of one of its aliases.
    #[must_use]
    pub fn alias(&self, alias: AliasId) -> AliasName {
        AliasName { namespace: self.namespace.clone(), function: self.function.clone(), alias }
    }

    /// The name of one of its invocations.
    #[must_use]
    pub fn invocation(&self, id: InvocationId) -> InvocationName {
        InvocationName { namespace: self.namespace.clone(), function: self.function.clone(), id }
    }
}

impl VersionName {
    /// The name of its function.
    #[must_use]
    pub fn parent(&self) -> FunctionRef {
        FunctionRef { namespace: self.namespace.clone(), function: self.function.clone() }
    }
}

impl AliasName {
    /// The name of its function.
    #[must_use]
    pub fn parent(&self) -> FunctionRef {
        FunctionRef { namespace: self.namespace.clone(), function: self.function.clone() }
    }
}

/// A namespace, or one function of it: the parents that lists of invocations and logs accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The tenant.
    pub namespace: Namespace,
    /// One of its functions, or all.
    pub function: Option<FunctionName>,
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(NamespaceRef { namespace }) = text.parse() {
            return Ok(Self { namespace, function: None });
        }
        let FunctionRef { namespace, function } = text.parse()?;
        Ok(Self { namespace, function: Some(function) })
    }
}

/// The public part of a caller's key: 12 characters of base 62.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; Self::LEN]);

impl KeyId {
    /// Its length in characters.
    pub const LEN: usize = 12;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Letters and digits always are a text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyId").field(&self.as_str()).finish()
    }
}

impl FromStr for KeyId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let id =
            text.as_bytes().try_into().ok().filter(|id: &[u8; Self::LEN]| id.iter().all(u8::is_ascii_alphanumeric));
        let wrong = || NameError::Pattern { text: text.chars().take(40).collect(), pattern: "12 letters and digits" };
        id.map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The audience of tokens for looking at a version by its own address.
#[must_use]
pub fn preview_audience(version: &VersionName) -> String {
    let VersionName { namespace, function, number } = version;
    format!("dunlin-preview:{namespace}/{function}@{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let name: VersionName = "namespaces/shop/functions/check-out/versions/3".parse().unwrap();
        assert_eq!(name.number.get(), 3);
        assert_eq!(name.to_string(), "namespaces/shop/functions/check-out/versions/3");
        assert_eq!(name.parent().to_string(), "namespaces/shop/functions/check-out");
        assert_eq!("namespaces/shop".parse::<Scope>().unwrap().function, None);
        assert!("namespaces/shop/functions/a".parse::<Scope>().unwrap().function.is_some());
        let budget = "namespaces/shop/budget";
        assert_eq!(budget.parse::<BudgetName>().unwrap().to_string(), budget);
        assert!("namespaces/shop/x/budget".parse::<BudgetName>().is_err() && "budget".parse::<BudgetName>().is_err());
    }

    #[test]
    fn t24_names_that_are_not_names_are_refused() {
        for bad in [
            "",
            "/",
            "namespaces",
            "namespaces/",
            "namespaces/a/",
            "namespaces/../functions/a",
            "namespaces/a/functions/../b",
            "namespaces/a/functions/b/",
            "/namespaces/a/functions/b",
            "namespaces/a/functions/%2e%2e",
            "namespaces/a/functions/b\0",
            "functions/b",
            "namespaces/a/functions/ü",
            "namespaces/A/functions/b",
            "namespaces/a//b",
        ] {
            assert!(bad.parse::<FunctionRef>().is_err(), "{bad:?}");
        }
    }
}
