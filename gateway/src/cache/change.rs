//! What a request that is not safe changes: what is at its own address, and at those that its answer names (RFC 9111 4.4).

use dunlin_proto::ids::Namespace;
use http::{HeaderMap, header};
use url::Url;

use super::{Address, Cache};

/// What a request changes where it goes well.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) namespace: Namespace,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    /// The part of the caller's path that stands before the one that routes match.
    pub(crate) base: String,
    /// The part that routes match.
    pub(crate) path: String,
    pub(crate) query: Option<String>,
}

impl Change {
    /// Forgets what is stored for the request's address, and for those of the same origin and namespace that the answer names.
    pub(crate) fn forget(&self, cache: &Cache, answer: &HeaderMap) {
        cache.forget(&self.address(&self.path, self.query.as_deref()));
        for value in [header::LOCATION, header::CONTENT_LOCATION].iter().filter_map(|name| answer.get(name)) {
            if let Some(address) = value.to_str().ok().and_then(|reference| self.named(reference)) {
                cache.forget(&address);
            }
        }
    }

    fn address(&self, path: &str, query: Option<&str>) -> Address {
        Address::new(&self.namespace, &self.scheme, &self.authority, path, query)
    }

    fn named(&self, reference: &str) -> Option<Address> {
        let own = Url::parse(&format!("{}://{}{}{}", self.scheme, self.authority, self.base, self.path)).ok()?;
        let named = own.join(reference).ok().filter(|named| named.origin() == own.origin())?;
        let path = named.path().strip_prefix(&*self.base)?;
        let path = if path.is_empty() { "/" } else { path };
        path.starts_with('/').then(|| self.address(path, named.query()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_addresses_of_its_own_origin_and_namespace() {
        let change = |base: &str, path: &str| Change {
            namespace: "shop".parse().unwrap(),
            scheme: "https".to_owned(),
            authority: "Example.com:443".to_owned(),
            base: base.to_owned(),
            path: path.to_owned(),
            query: None,
        };
        for (base, path, reference, expected) in [
            ("", "/orders", "/orders/7", Some(("/orders/7", None))),
            ("", "/orders/", "7?full", Some(("/orders/7", Some("full")))),
            ("", "/orders", "https://example.com/a#part", Some(("/a", None))),
            ("", "/orders", "//example.com", Some(("/", None))),
            ("", "/orders", "http://example.com/a", None),
            ("", "/orders", "https://elsewhere.example/a", None),
            ("", "/orders", "https://example.com:8443/a", None),
            ("", "/orders", "http://[", None),
            ("/shop", "/orders", "/shop/orders/7", Some(("/orders/7", None))),
            ("/shop", "/orders", "7", Some(("/7", None))),
            ("/shop", "/orders", "/shop", Some(("/", None))),
            ("/shop", "/orders", "/shopping", None),
            ("/shop", "/orders", "/other/orders", None),
        ] {
            let change = change(base, path);
            let expected = expected.map(|(path, query)| change.address(path, query));
            assert_eq!(change.named(reference), expected, "{base} {path} {reference}");
        }
    }
}
