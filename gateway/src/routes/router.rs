//! Which route a request takes. Explicit routes only; functions' automatic addresses are `invoke/target.rs`'s.
//!
//! A namespace's routes match from `/` on the domains that it owns, and below `/{namespace}` on shared hosts, so that two
//! namespaces never want the same request. What is more specific wins: the host first, then the path, then the methods.

pub(crate) mod cors;
mod paths;
mod rule;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use dunlin_proto::{
    ids::{DomainName, FunctionName, Namespace},
    route::HostPattern,
};

pub(crate) use paths::Matched;
use paths::Paths;
pub(crate) use rule::Rule;

/// The domains and routes of all namespaces.
#[derive(Debug, Default)]
pub(crate) struct Router {
    domains: HashMap<String, Namespace>,
    sites: HashMap<String, Site>,
}

/// The routes of a namespace.
#[derive(Debug, Default)]
pub(crate) struct Site {
    exact: HashMap<String, Paths>,
    /// By the name that the hosts lie below.
    below: HashMap<String, Paths>,
    /// For all hosts.
    any: Paths,
    /// One of them stores answers.
    stores: bool,
    /// By the function that they call.
    calling: HashMap<FunctionName, Vec<Arc<Rule>>>,
}

/// What the routes say about a request.
#[derive(Debug)]
pub(crate) enum Lookup<'p> {
    /// A route takes it.
    Found(Matched<'p>),
    /// Routes have its path, but for these methods only.
    NotAllowed(BTreeSet<String>),
    /// No route has its path.
    Nothing,
}

impl Router {
    /// A router of these domains and routes.
    pub(crate) fn new(
        domains: impl Iterator<Item = (DomainName, Namespace)>,
        rules: impl Iterator<Item = Rule>,
    ) -> Self {
        let mut router =
            Self { domains: domains.map(|(name, owner)| (name.into(), owner)).collect(), ..Self::default() };
        for rule in rules {
            router.sites.entry(rule.name.namespace.to_string()).or_default().insert(Arc::new(rule));
        }
        router
    }

    /// Whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.sites.is_empty()
    }

    /// The namespace that owns a canonical host.
    pub(crate) fn owner(&self, host: &str) -> Option<&Namespace> {
        std::iter::once(host).chain(above(host)).find_map(|name| self.domains.get(name))
    }

    /// The domains of a namespace, in no order.
    pub(crate) fn domains(&self, namespace: &Namespace) -> impl Iterator<Item = &str> {
        self.domains.iter().filter(move |(_, owner)| *owner == namespace).map(|(name, _)| name.as_str())
    }

    /// Those of all routes that check requests, by their names.
    pub(crate) fn checking(&self) -> HashMap<String, &Rule> {
        let rules = self.sites.values().flat_map(|site| site.calling.values().flatten());
        let checking = rules.filter(|rule| rule.checker().is_some());
        checking.map(|rule| (rule.name.to_string(), &**rule)).collect()
    }

    /// The routes of a namespace.
    pub(crate) fn site(&self, namespace: &str) -> Option<&Site> {
        self.sites.get(namespace)
    }
}

/// The names above a host, the longest first: `b.c` and `c` of `a.b.c`.
fn above(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(host), |name| name.split_once('.').map(|(_, rest)| rest)).skip(1)
}

impl Site {
    fn insert(&mut self, rule: Arc<Rule>) {
        if let Some(function) = rule.spec.target.function() {
            self.calling.entry(function.clone()).or_default().push(rule.clone());
        }
        self.stores |= rule.spec.cache;
        let paths = match &rule.spec.host {
            Some(HostPattern::Exact(name)) => self.exact.entry(name.to_string()).or_default(),
            Some(HostPattern::Below(name)) => self.below.entry(name.to_string()).or_default(),
            None => &mut self.any,
        };
        paths.insert(rule);
    }

    /// Whether any of them stores answers.
    pub(crate) fn stores(&self) -> bool {
        self.stores
    }

    /// The routes that call a function.
    pub(crate) fn calling(&self, function: &FunctionName) -> &[Arc<Rule>] {
        self.calling.get(function).map_or(&[], Vec::as_slice)
    }

    /// The route for a request to a host of the namespace, or to a shared one where there is no host.
    pub(crate) fn find<'p>(&self, host: Option<&str>, path: &'p str, method: &str) -> Lookup<'p> {
        if let Some(matched) = self.tiers(host).find_map(|paths| paths.find(path, method)) {
            return Lookup::Found(matched);
        }
        let mut methods = BTreeSet::new();
        self.tiers(host).for_each(|paths| paths.methods(path, &mut methods));
        if methods.is_empty() { Lookup::Nothing } else { Lookup::NotAllowed(methods) }
    }

    /// The routes that may be for a host, the most specific first.
    fn tiers<'s>(&'s self, host: Option<&str>) -> impl Iterator<Item = &'s Paths> {
        let exact = host.and_then(|host| self.exact.get(host));
        let below = host.into_iter().flat_map(above).filter_map(|name| self.below.get(name));
        exact.into_iter().chain(below).chain(std::iter::once(&self.any))
    }
}

#[cfg(test)]
mod tests;
