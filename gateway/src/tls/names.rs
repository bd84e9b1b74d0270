//! The names that a certificate is for (RFC 9525): DNS names, to the letter or with a wildcard for their first label, and
//! addresses. The subject's common name is none of them.

use std::{collections::BTreeSet, net::IpAddr};

use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

/// The names of a certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// In their order; there are few.
    exact: Vec<String>,
    /// What follows `*.`.
    wildcards: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Names {
    /// Those of a certificate; none where it has no alternative names that can be read.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let mut names = Self::default();
        if let Ok(Some(found)) = certificate.subject_alternative_name() {
            found.value.general_names.iter().for_each(|name| names.add(name));
        }
        names
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => {
                let name = name.to_ascii_lowercase();
                if let Some(parent) = name.strip_prefix("*.") {
                    self.wildcards.insert(parent.to_owned());
                } else {
                    self.exact.push(name);
                }
            }
            GeneralName::IPAddress(bytes) => self.addresses.extend(address(bytes)),
            _ => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.addresses.is_empty()
    }

    /// The first one without wildcard.
    pub(super) fn first(&self) -> Option<&str> {
        self.exact.first().map(String::as_str)
    }

    /// All of them for people: names in their order, wildcards, addresses.
    pub(super) fn written(&self) -> Vec<String> {
        let wildcards = self.wildcards.iter().map(|parent| format!("*.{parent}"));
        let addresses = self.addresses.iter().map(ToString::to_string);
        self.exact.iter().cloned().chain(wildcards).chain(addresses).collect()
    }

    /// Whether they are for a domain in lower case, or for names below it.
    pub(crate) fn serve(&self, domain: &str) -> bool {
        let below =
            |name: &String| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        self.covers(domain) || self.exact.iter().chain(&self.wildcards).any(below)
    }

    /// Whether a name in lower case is one of them to the letter.
    pub(super) fn has(&self, name: &str) -> bool {
        self.exact.iter().any(|own| own == name)
    }

    /// Whether a wildcard stands for a name in lower case.
    pub(super) fn has_wildcard(&self, name: &str) -> bool {
        name.split_once('.').is_some_and(|(label, parent)| !label.is_empty() && self.wildcards.contains(parent))
    }

    /// Whether they cover a host in canonical form: a name in lower case, or an address, the new ones in brackets.
    pub(super) fn covers(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.map_or_else(|_| self.has(host) || self.has_wildcard(host), |address| self.addresses.contains(&address))
    }
}

/// The address in four or sixteen bytes.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let old = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    old.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_serves_domains_and_what_is_below_them() {
        let mut names = Names::default();
        for name in ["www.shop.example", "*.fn.example.com"] {
            names.add(&GeneralName::DNSName(name));
        }
        for (domain, serves) in [
            ("www.shop.example", true),
            ("shop.example", true),
            ("hop.example", false),
            ("a.www.shop.example", false),
            ("fn.example.com", true),
            ("pay.fn.example.com", true),
            ("example.com", true),
            ("other.example", false),
        ] {
            assert_eq!(names.serve(domain), serves, "{domain}");
        }
        names.add(&GeneralName::IPAddress(&[192, 0, 2, 7]));
        assert_eq!(names.written(), ["www.shop.example", "*.fn.example.com", "192.0.2.7"]);
    }

    #[test]
    fn t34_a_wildcard_stands_for_one_label() {
        let mut names = Names::default();
        for name in ["Example.com", "*.fn.example.com"] {
            names.add(&GeneralName::DNSName(name));
        }
        names.add(&GeneralName::IPAddress(&[192, 0, 2, 7]));
        names.add(&GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
        names.add(&GeneralName::IPAddress(&[1, 2, 3]));
        for (host, covered) in [
            ("example.com", true),
            ("www.example.com", false),
            ("pay--shop.fn.example.com", true),
            ("a.b.fn.example.com", false),
            ("fn.example.com", false),
            (".fn.example.com", false),
            ("*.fn.example.com", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("[::1]", true),
            ("[::2]", false),
            ("", false),
        ] {
            assert_eq!(names.covers(host), covered, "{host}");
        }
    }
}
