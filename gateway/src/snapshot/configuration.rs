//! The configuration as it is told, and how a change applies to it: to exactly the version that it names, or not at all. Pure.
//!
//! Keys and routes can be very many: versions share those which did not change, and what differs between two versions is
//! found without looking at the others. What they mean is in `convert.rs`.

use std::{collections::HashSet, sync::Arc};

use dunlin_proto::{
    internal::v1::{ConfigDelta, ConfigSnapshot, KeyConfig},
    v1::Route,
};
use imbl::OrdMap;
use prost::Message;

use super::{disk::Stored, encoded::Encoded};

/// The numbers of the fields of [`ConfigSnapshot`] that hold keys and routes.
const KEYS: u32 = 3;
const ROUTES: u32 = 7;

/// A change that is not for the configuration there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a change of configuration {base} does not apply to {have}")]
pub(super) struct WrongBase {
    base: u64,
    have: u64,
}

/// One version of the configuration; clones share all of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Configuration {
    pub(super) version: u64,
    /// All but the version, keys and routes.
    pub(super) core: Arc<ConfigSnapshot>,
    /// By their ids.
    pub(super) keys: OrdMap<String, Encoded<KeyConfig>>,
    /// By their names.
    pub(super) routes: OrdMap<String, Encoded<Route>>,
}

impl Configuration {
    /// The configuration after a change.
    pub(super) fn apply(&self, delta: ConfigDelta) -> Result<Self, WrongBase> {
        if delta.base_version != self.version {
            return Err(WrongBase { base: delta.base_version, have: self.version });
        }
        let core = if is_core(&delta) { Arc::new(changed(&self.core, &delta)) } else { self.core.clone() };
        let (mut keys, mut routes) = (self.keys.clone(), self.routes.clone());
        delta.removed_keys.iter().for_each(|id| drop(keys.remove(id)));
        keys.extend(delta.keys.into_iter().map(by_id));
        delta.removed_routes.iter().for_each(|name| drop(routes.remove(name)));
        routes.extend(delta.routes.into_iter().map(by_name));
        Ok(Self { version: delta.version, core, keys, routes })
    }
}

fn by_id(key: KeyConfig) -> (String, Encoded<KeyConfig>) {
    let encoded = Encoded::new(&key);
    (key.id, encoded)
}

fn by_name(route: Route) -> (String, Encoded<Route>) {
    let encoded = Encoded::new(&route);
    (route.name, encoded)
}

/// Whether anything but keys and routes changes.
fn is_core(delta: &ConfigDelta) -> bool {
    let functions = !delta.functions.is_empty() || !delta.removed_functions.is_empty();
    let namespaces = !delta.namespaces.is_empty() || !delta.removed_namespaces.is_empty();
    functions || namespaces || !delta.token_keys.is_empty() || delta.limits.is_some() || delta.domains.is_some()
}

/// All but keys and routes after a change.
fn changed(core: &ConfigSnapshot, delta: &ConfigDelta) -> ConfigSnapshot {
    let mut core = core.clone();
    let ids = delta.functions.iter().map(|function| &function.uid).chain(&delta.removed_functions);
    let replaced: HashSet<_> = ids.collect();
    core.functions.retain(|function| !replaced.contains(&function.uid));
    core.functions.extend(delta.functions.iter().cloned());
    core.namespaces.retain(|name| !delta.removed_namespaces.contains(name) && !delta.namespaces.contains(name));
    core.namespaces.extend(delta.namespaces.iter().cloned());
    if !delta.token_keys.is_empty() {
        core.token_keys.clone_from(&delta.token_keys);
    }
    core.limits = delta.limits.clone().or(core.limits);
    core.domains = delta.domains.clone().or(core.domains);
    core
}

impl From<ConfigSnapshot> for Configuration {
    fn from(mut whole: ConfigSnapshot) -> Self {
        let keys = std::mem::take(&mut whole.keys);
        let routes = std::mem::take(&mut whole.routes);
        let version = std::mem::take(&mut whole.version);
        let (keys, routes) = (keys.into_iter().map(by_id).collect(), routes.into_iter().map(by_name).collect());
        Self { version, core: Arc::new(whole), keys, routes }
    }
}

impl Stored for Configuration {
    type Message = ConfigSnapshot;

    /// Keys and routes are bytes already: nothing of them is encoded again, and of very many no second copy is made.
    fn write_to(&self, bytes: &mut Vec<u8>) {
        let core = ConfigSnapshot { version: self.version, ..(*self.core).clone() };
        // A vector takes everything.
        let _ = core.encode(bytes);
        self.keys.values().for_each(|key| key.write_field(KEYS, bytes));
        self.routes.values().for_each(|route| route.write_field(ROUTES, bytes));
    }
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

    fn config() -> Configuration {
        Configuration::from(ConfigSnapshot {
            version: 5,
            functions: vec![function("a", false), function("b", false)],
            keys: vec![key("k"), key("l")],
            token_keys: vec![TokenKey::default()],
            namespaces: vec!["shop".to_owned(), "bank".to_owned()],
            limits: Some(limits(3)),
            routes: vec![route("a", "/1"), route("b", "/1")],
            domains: Some(domains("example.com")),
            aliases: true,
        })
    }

    fn apply(config: &Configuration, delta: ConfigDelta) -> Result<ConfigSnapshot, WrongBase> {
        config.apply(delta).map(|after| written(&after))
    }

    /// What is read of what is written.
    fn written(config: &Configuration) -> ConfigSnapshot {
        let mut bytes = Vec::new();
        config.write_to(&mut bytes);
        ConfigSnapshot::decode(bytes.as_slice()).unwrap()
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
        let after = apply(&config(), delta).unwrap();
        assert_eq!(after.limits, Some(limits(3)), "they stay where nothing is said of them");
        let changed = ConfigDelta { base_version: 5, limits: Some(limits(4)), ..ConfigDelta::default() };
        assert_eq!(apply(&config(), changed).unwrap().limits, Some(limits(4)));
        assert_eq!(after.version, 8);
        assert_eq!(after.functions, [function("a", true), function("c", false)]);
        assert_eq!(after.keys, [key("l"), key("m")]);
        assert_eq!(after.namespaces, ["shop", "new"]);
        assert_eq!(after.token_keys.len(), 1);
        assert_eq!(after.routes, [route("a", "/2"), route("c", "/1")]);
        assert_eq!(after.domains, Some(domains("example.com")));
        let changed =
            ConfigDelta { base_version: 5, domains: Some(domains("other.example")), ..ConfigDelta::default() };
        assert_eq!(apply(&config(), changed).unwrap().domains, Some(domains("other.example")));
    }

    #[test]
    fn what_a_change_does_not_name_is_shared() {
        let (before, key) = (config(), key("m"));
        let delta = ConfigDelta { base_version: 5, version: 6, keys: vec![key], ..ConfigDelta::default() };
        let after = before.apply(delta).unwrap();
        assert!(Arc::ptr_eq(&before.core, &after.core) && before.routes.ptr_eq(&after.routes));
        assert!(before.keys["k"].ptr_eq(&after.keys["k"]) && after.keys.len() == 3);
        assert_eq!(Configuration::from(written(&after)), after);
    }

    #[test]
    fn a_change_of_another_version_does_not_apply() {
        for base_version in [0, 4, 6] {
            let delta = ConfigDelta { base_version, version: 9, ..ConfigDelta::default() };
            assert_eq!(apply(&config(), delta), Err(WrongBase { base: base_version, have: 5 }));
        }
    }
}
