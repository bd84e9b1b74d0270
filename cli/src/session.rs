//! What every command that talks to a cluster has: where to, and where to print; and how people name functions.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    str::FromStr,
};

use dunlin_proto::{
    ids::{AliasId, FunctionName, IdError, Namespace},
    names::{FunctionRef, NamespaceRef},
};

use crate::{
    client::Client,
    context::{ContextArgs, Target},
    exit::Failure,
    output::{Output, printable},
};

/// One run of the command.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Which cluster was asked for.
    pub(crate) cluster: ContextArgs,
    /// Where to print.
    pub(crate) output: Output,
}

impl Session {
    /// Connects to the cluster.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let target = Target::resolve(&self.cluster)?;
        Client::connect(target).await
    }

    /// Asks whether to go on with what cannot be undone. Where nobody can answer, only `yes` goes on.
    pub(crate) fn confirm(&self, yes: bool, deed: &str) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Failure::usage(format!("cannot ask whether to {deed}: there is no terminal"))
                .hint("say so beforehand with -y"));
        }
        self.output.warn(format!("Really {}? [y/N]", printable(deed)));
        io::stderr().flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        let agreed = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
        agreed.then_some(()).ok_or_else(|| Failure::usage("nothing was done"))
    }
}

/// A function as people name it: `checkout` in the session's namespace, or `shop/checkout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FunctionArg {
    namespace: Option<Namespace>,
    function: FunctionName,
}

impl FromStr for FunctionArg {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.split_once('/') {
            Some((namespace, function)) => {
                Ok(Self { namespace: Some(namespace.parse()?), function: function.parse()? })
            }
            None => Ok(Self { namespace: None, function: text.parse()? }),
        }
    }
}

impl FunctionArg {
    /// A function in the session's namespace.
    pub(crate) fn bare(function: FunctionName) -> Self {
        Self { namespace: None, function }
    }

    /// Its resource name.
    pub(crate) fn in_target(&self, target: &Target) -> FunctionRef {
        let namespace = self.namespace.clone().unwrap_or_else(|| target.namespace.clone());
        FunctionRef { namespace, function: self.function.clone() }
    }
}

/// An alias of a function as people name it: `checkout:beta` or `shop/checkout:beta`; without alias, the function's own traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AliasArg {
    /// Which function.
    pub(crate) function: FunctionArg,
    /// Which of its aliases.
    pub(crate) alias: Option<AliasId>,
}

impl FromStr for AliasArg {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (function, alias) = match text.split_once(':') {
            Some((function, alias)) => (function, Some(alias.parse()?)),
            None => (text, None),
        };
        Ok(Self { function: function.parse()?, alias })
    }
}

/// How this command was called, so that lines to paste find it again.
pub(crate) fn own_name() -> String {
    std::env::args().next().filter(|name| name.contains('/')).unwrap_or_else(|| "dunlin".to_owned())
}

/// The resource name of the namespace to work in.
pub(crate) fn namespace_name(target: &Target) -> String {
    NamespaceRef { namespace: target.namespace.clone() }.to_string()
}

/// The resource name of a function, or of the whole namespace.
pub(crate) fn scope_name(function: Option<&FunctionArg>, target: &Target) -> String {
    function.map_or_else(|| namespace_name(target), |function| function.in_target(target).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_named_with_or_without_their_namespace() {
        let target = Target { context: None, url: String::new(), token: None, namespace: "default".parse().unwrap() };
        for (text, name) in
            [("hello", "namespaces/default/functions/hello"), ("shop/check-out", "namespaces/shop/functions/check-out")]
        {
            assert_eq!(text.parse::<FunctionArg>().unwrap().in_target(&target).to_string(), name);
        }
        let named: AliasArg = "shop/pay:beta".parse().unwrap();
        assert_eq!(named.function.in_target(&target).to_string(), "namespaces/shop/functions/pay");
        assert_eq!(named.alias.map(|alias| alias.to_string()).as_deref(), Some("beta"));
        assert_eq!("pay".parse::<AliasArg>().unwrap().alias, None);
        for text in ["", ":", "pay:", ":beta", "pay:a:b", "pay:A", "pay:a/b"] {
            assert!(text.parse::<AliasArg>().is_err(), "{text:?}");
        }
        for text in ["", "/", "a/", "/b", "a/b/c", "../a", "a/../b", "A", "ä", "a:b"] {
            assert!(text.parse::<FunctionArg>().is_err(), "{text:?}");
        }
    }
}
