//! Names of routes, made of what a document calls its operations. Pure.

use std::collections::BTreeSet;

use dunlin_proto::ids::RouteId;
use sha2::{Digest, Sha256};

/// How long a name may be.
const MOST: usize = 63;

/// The name of an operation's route. It depends on the document alone, so that the next import finds the same routes.
pub(crate) fn name(wanted: &str, request: &str, taken: &BTreeSet<RouteId>) -> Option<RouteId> {
    let plain = slug(wanted);
    let first = plain.parse::<RouteId>().ok().filter(|name| !taken.contains(name));
    first.or_else(|| {
        let digest = hex::encode(Sha256::digest(request.as_bytes()));
        let short: String = plain.chars().take(MOST - 9).collect();
        format!("{}-{}", short.trim_end_matches('-'), digest.get(..8)?).parse().ok()
    })
}

/// Lower-case letters, digits and single hyphens, a letter first: `listPets` is `list-pets`.
pub(crate) fn slug(text: &str) -> String {
    let mut out = String::new();
    let mut before = '-';
    for character in text.chars() {
        let new_word = character.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if (new_word || !character.is_ascii_alphanumeric()) && !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
        if character.is_ascii_alphanumeric() {
            out.push(character.to_ascii_lowercase());
        }
        before = character;
    }
    let out = out.trim_end_matches('-');
    if out.starts_with(|first: char| first.is_ascii_lowercase()) {
        out.to_owned()
    } else {
        format!("r-{out}").trim_end_matches('-').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_routes_may_be_called() {
        for (wanted, expected) in [
            ("listPets", "list-pets"),
            ("GET /pets/{petId}", "get-pets-pet-id"),
            ("get_pet__by.id", "get-pet-by-id"),
            ("v2HTTPCall", "v2-httpcall"),
            ("1st", "r-1st"),
            ("Zähler", "z-hler"),
        ] {
            assert_eq!(slug(wanted), expected);
            assert!(slug(wanted).parse::<RouteId>().is_ok(), "{wanted}");
        }
    }

    #[test]
    fn a_name_that_is_taken_or_too_long_gets_an_end_of_its_own() {
        let taken = BTreeSet::from(["list".parse().unwrap()]);
        let second = name("list", "GET /a", &taken).unwrap();
        assert!(second.as_str().starts_with("list-") && second != name("list", "GET /b", &taken).unwrap());
        assert_eq!(name(&"x".repeat(100), "GET /a", &taken).unwrap().as_str().len(), 63);
        assert!(name("", "GET /", &taken).is_some());
    }
}
