//! How a change applies to a configuration: to exactly the version that it names, or not at all. Pure.

use std::collections::HashSet;

use dunlin_proto::internal::v1::{ConfigDelta, ConfigSnapshot};

/// A change that is not for the configuration there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a change of configuration {base} does not apply to {have}")]
pub(super) struct WrongBase {
    base: u64,
    have: u64,
}

/// The configuration after a change.
pub(super) fn apply(config: ConfigSnapshot, delta: ConfigDelta) -> Result<ConfigSnapshot, WrongBase> {
    if delta.base_version != config.version {
        return Err(WrongBase { base: delta.base_version, have: config.version });
    }
    let ids = delta.functions.iter().map(|function| &function.uid).chain(&delta.removed_functions);
    let replaced: HashSet<_> = ids.cloned().collect();
    let mut functions = config.functions;
    functions.retain(|function| !replaced.contains(&function.uid));
    functions.extend(delta.functions);
    let ids = delta.keys.iter().map(|key| &key.id).chain(&delta.removed_keys);
    let replaced: HashSet<_> = ids.cloned().collect();
    let mut keys = config.keys;
    keys.retain(|key| !replaced.contains(&key.id));
    keys.extend(delta.keys);
    let mut namespaces = config.namespaces;
    namespaces.retain(|name| !delta.removed_namespaces.contains(name) && !delta.namespaces.contains(name));
    namespaces.extend(delta.namespaces);
    let token_keys = if delta.token_keys.is_empty() { config.token_keys } else { delta.token_keys };
    let limits = delta.limits.or(config.limits);
    let names = delta.routes.iter().map(|route| &route.name).chain(&delta.removed_routes);
    let replaced: HashSet<_> = names.cloned().collect();
    let mut routes = config.routes;
    routes.retain(|route| !replaced.contains(&route.name));
    routes.extend(delta.routes);
    let domains = delta.domains.or(config.domains);
    let aliases = config.aliases;
    let version = delta.version;
    Ok(ConfigSnapshot { version, functions, keys, token_keys, namespaces, limits, routes, domains, aliases })
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{
        internal::v1::{
            FunctionConfig, KeyConfig, NamespaceLimit, NamespaceLimits, OwnedDomain, OwnedDomains, TokenKey,
        },
        v1::Route,
    };

    use super::*;

    fn function(uid: &str, public: bool) -> FunctionConfig {
        FunctionConfig { uid: uid.to_owned(), public, ..FunctionConfig::default() }
    }

    fn limits(max_concurrency: u32) -> NamespaceLimits {
        let limits = vec![NamespaceLimit { namespace: "shop".to_owned(), max_concurrency }];
        NamespaceLimits { limits, ..NamespaceLimits::default() }
    }

    fn key(id: &str) -> KeyConfig {
        KeyConfig { id: id.to_owned(), ..KeyConfig::default() }
    }

    fn route(name: &str, path: &str) -> Route {
        Route { name: name.to_owned(), path: path.to_owned(), ..Route::default() }
    }

    fn domains(domain: &str) -> OwnedDomains {
        OwnedDomains { domains: vec![OwnedDomain { domain: domain.to_owned(), namespace: "shop".to_owned() }] }
    }

    fn config() -> ConfigSnapshot {
        ConfigSnapshot {
            version: 5,
            functions: vec![function("a", false), function("b", false)],
            keys: vec![key("k"), key("l")],
            token_keys: vec![TokenKey::default()],
            namespaces: vec!["shop".to_owned(), "bank".to_owned()],
            limits: Some(limits(3)),
            routes: vec![route("a", "/1"), route("b", "/1")],
            domains: Some(domains("example.com")),
            aliases: true,
        }
    }

    #[test]
    fn a_change_replaces_adds_and_removes() {
        let delta = ConfigDelta {
            base_version: 5,
            version: 8,
            functions: vec![function("a", true), function("c", false)],
            removed_functions: vec!["b".to_owned()],
            keys: vec![key("m")],
            removed_keys: vec!["k".to_owned()],
            token_keys: Vec::new(),
            namespaces: vec!["new".to_owned()],
            removed_namespaces: vec!["bank".to_owned()],
            limits: None,
            routes: vec![route("a", "/2"), route("c", "/1")],
            removed_routes: vec!["b".to_owned()],
            domains: None,
        };
        let after = apply(config(), delta).unwrap();
        assert_eq!(after.limits, Some(limits(3)), "they stay where nothing is said of them");
        let changed = ConfigDelta { base_version: 5, limits: Some(limits(4)), ..ConfigDelta::default() };
        assert_eq!(apply(config(), changed).unwrap().limits, Some(limits(4)));
        assert_eq!(after.version, 8);
        assert_eq!(after.functions, [function("a", true), function("c", false)]);
        assert_eq!(after.keys, [key("l"), key("m")]);
        assert_eq!(after.namespaces, ["shop", "new"]);
        assert_eq!(after.token_keys.len(), 1);
        assert_eq!(after.routes, [route("a", "/2"), route("c", "/1")]);
        assert_eq!(after.domains, Some(domains("example.com")));
        let changed =
            ConfigDelta { base_version: 5, domains: Some(domains("other.example")), ..ConfigDelta::default() };
        assert_eq!(apply(config(), changed).unwrap().domains, Some(domains("other.example")));
    }

    #[test]
    fn a_change_of_another_version_does_not_apply() {
        for base_version in [0, 4, 6] {
            let delta = ConfigDelta { base_version, version: 9, ..ConfigDelta::default() };
            assert_eq!(apply(config(), delta), Err(WrongBase { base: base_version, have: 5 }));
        }
    }
}
