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
use imbl::OrdMap;

pub(crate) use paths::Matched;
use paths::Paths;
pub(crate) use rule::{Parameters, Rule};

/// The domains and routes of all namespaces.
#[derive(Debug, Default)]
pub(crate) struct Router {
    domains: HashMap<String, Namespace>,
    /// By their names; routers share those which did not change.
    rules: OrdMap<String, Arc<Rule>>,
    sites: HashMap<String, Arc<Site>>,
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
    /// These routes have its path, but for other methods.
    NotAllowed(Vec<Arc<Rule>>),
    /// No route has its path.
    Nothing,
}

impl Router {
    /// A router of these domains, and of the routes after changes: for each name a route, or nothing where it is gone.
    pub(crate) fn changed(
        &self,
        domains: impl Iterator<Item = (DomainName, Namespace)>,
        changes: impl Iterator<Item = (String, Option<Rule>)>,
    ) -> Self {
        let (mut rules, mut sites) = (self.rules.clone(), self.sites.clone());
        let mut touched = BTreeSet::new();
        for (name, rule) in changes {
            let after = rule.map(Arc::new);
            let before = match after.clone() {
                Some(rule) => rules.insert(name, rule),
                None => rules.remove(&name),
            };
            touched.extend(before.iter().chain(&after).map(|rule| rule.name.namespace.clone()));
        }
        for namespace in &touched {
            sites.remove(namespace.as_str());
        }
        let mut again: HashMap<String, Site> = HashMap::new();
        for rule in rules.values().filter(|rule| touched.contains(&rule.name.namespace)) {
            again.entry(rule.name.namespace.to_string()).or_default().insert(rule.clone());
        }
        sites.extend(again.into_iter().map(|(namespace, site)| (namespace, Arc::new(site))));
        Self { domains: domains.map(|(name, owner)| (name.into(), owner)).collect(), rules, sites }
    }

    /// Whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.sites.is_empty()
    }

    /// The namespace that owns a canonical host.
    pub(crate) fn owner(&self, host: &str) -> Option<&Namespace> {
        if self.domains.is_empty() {
            return None;
        }
        std::iter::once(host).chain(above(host)).find_map(|name| self.domains.get(name))
    }

    /// The domains of a namespace, in no order.
    pub(crate) fn domains(&self, namespace: &Namespace) -> impl Iterator<Item = &str> {
        self.domains.iter().filter(move |(_, owner)| *owner == namespace).map(|(name, _)| name.as_str())
    }

    /// The routes of a namespace.
    pub(crate) fn site(&self, namespace: &str) -> Option<&Site> {
        self.sites.get(namespace).map(|site| &**site)
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
        let mut others = Vec::new();
        self.tiers(host).for_each(|paths| paths.having(path, &mut others));
        if others.is_empty() { Lookup::Nothing } else { Lookup::NotAllowed(others) }
    }

    /// The routes that may be for a host, the most specific first.
    fn tiers<'s>(&'s self, host: Option<&str>) -> impl Iterator<Item = &'s Paths> {
        let exact = host.and_then(|host| self.exact.get(host));
        let below = host.into_iter().flat_map(above).filter_map(|name| self.below.get(name));
        exact.into_iter().chain(below).chain(std::iter::once(&self.any))
    }
}

/// The methods that some of the routes at a path take.
pub(crate) fn methods(rules: &[Arc<Rule>]) -> BTreeSet<&str> {
    let mut methods: BTreeSet<_> = rules.iter().flat_map(|rule| &rule.spec.methods).map(String::as_str).collect();
    if methods.contains("GET") {
        methods.insert("HEAD");
    }
    methods
}

#[cfg(test)]
mod tests;
