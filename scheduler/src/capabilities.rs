//! What a new version may reach and those that have the traffic may not. Whether that is meant, somebody has to say; what a
//! version imports gives it nothing, and is only shown.
//!
//! Pure. What a pattern of hosts allows is `dunlin_proto::outbound`'s to say.

use std::collections::BTreeSet;

use dunlin_proto::{ApiError, ErrorCode, names::FunctionRef, outbound::AllowedHosts, v1};

use crate::model::VersionRecord;

/// How a version differs from those that have the traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Patterns of hosts that reach further than any of theirs.
    pub(crate) added_hosts: Vec<String>,
    /// Patterns of theirs that it has not any more.
    pub(crate) removed_hosts: Vec<String>,
    /// Interfaces that it imports, and they do not.
    pub(crate) added_imports: Vec<String>,
    /// The other way around.
    pub(crate) removed_imports: Vec<String>,
}

impl Changes {
    /// Compares what a version shall have with those before it.
    ///
    /// # Errors
    /// A pattern is none.
    pub(crate) fn between(before: &[VersionRecord], hosts: &[String], imports: &[String]) -> Result<Self, ApiError> {
        let old: Vec<_> =
            before.iter().flat_map(|version| version.spec.allowed_outbound_hosts.iter().cloned()).collect();
        let old_imports: Vec<_> = before.iter().flat_map(|version| version.imports.iter().cloned()).collect();
        Ok(Self {
            added_hosts: AllowedHosts::parse(&old)?.lacks(hosts)?,
            removed_hosts: AllowedHosts::parse(hosts)?.lacks(&old)?,
            added_imports: without(imports, &old_imports),
            removed_imports: without(&old_imports, imports),
        })
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses what nobody has said to be meant.
    ///
    /// # Errors
    /// It may reach more.
    pub(crate) fn check(&self, function: &FunctionRef) -> Result<(), ApiError> {
        if self.added_hosts.is_empty() {
            return Ok(());
        }
        let FunctionRef { namespace, function } = function;
        let hosts = self.added_hosts.join(", ");
        let message = format!("this version of {namespace}/{function} may reach more than the one before: {hosts}");
        let error = ApiError::new(ErrorCode::FailedPrecondition, message);
        Err(error.hint("if that is meant, deploy it with --allow-new-capabilities"))
    }

    pub(crate) fn to_wire(&self) -> v1::CapabilityChanges {
        v1::CapabilityChanges {
            added_outbound_hosts: self.added_hosts.clone(),
            removed_outbound_hosts: self.removed_hosts.clone(),
            added_imports: self.added_imports.clone(),
            removed_imports: self.removed_imports.clone(),
        }
    }
}

/// What the first has and the second has not, sorted.
fn without(all: &[String], others: &[String]) -> Vec<String> {
    let others: BTreeSet<_> = others.iter().collect();
    let left: BTreeSet<_> = all.iter().filter(|one| !others.contains(one)).collect();
    left.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_compared_as_sets() {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(without(&list("b a c a"), &list("c")), list("a b"));
        assert!(without(&[], &list("c")).is_empty());
    }

    #[test]
    fn only_what_reaches_further_has_to_be_meant() {
        let function = FunctionRef { namespace: "shop".parse().unwrap(), function: "pay".parse().unwrap() };
        let imports = Changes { added_imports: vec!["wasi:http/types".to_owned()], ..Changes::default() };
        assert!(imports.check(&function).is_ok() && !imports.is_empty());
        let hosts = Changes { added_hosts: vec!["https://a.example".to_owned()], ..Changes::default() };
        let error = hosts.check(&function).unwrap_err();
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
        assert!(error.message.contains("shop/pay") && error.message.ends_with(": https://a.example"), "{error:?}");
        assert!(error.hint.unwrap().contains("--allow-new-capabilities"));
    }
}
