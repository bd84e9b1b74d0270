//! Whether what a document says of an operation's parameters fits together (OpenAPI 3.1, 4.8.12). What they may be is
//! `validation.rs`'s.

use std::collections::BTreeMap;

use dunlin_proto::route::PathPattern;

use crate::{
    at::{At, Malformed},
    template,
};

/// An operation, the path that it stands under, and its route's.
pub(super) struct Paths<'a> {
    pub(super) written: &'a str,
    pub(super) whole: &'a str,
}

impl Paths<'_> {
    fn has(&self, name: &str) -> bool {
        let mut whole = self.whole.parse::<PathPattern>().into_iter().flat_map(|pattern| names(&pattern));
        template::parameters(self.written).any(|known| known == name) || whole.any(|known| known == name)
    }
}

fn names(pattern: &PathPattern) -> Vec<String> {
    pattern.parameters().map(ToString::to_string).collect()
}

/// Checks the parameters of an operation, and those that its path has for all.
pub(super) fn check(operation: &At<'_>, item: Option<&At<'_>>, paths: &Paths<'_>) -> Result<(), Malformed> {
    for at in item.into_iter().chain([operation]) {
        let mut known = BTreeMap::new();
        for written in at.get("parameters").map_or(Ok(Vec::new()), |list| list.items())? {
            let parameter = written.clone().resolved()?;
            let (name, place) = (parameter.need("name")?.text()?, parameter.need("in")?.text()?);
            if place == "path" {
                in_path(&written, &parameter, (name, paths))?;
            }
            // Headers have no case.
            let key = (place, if place == "header" { name.to_ascii_lowercase() } else { name.to_owned() });
            if let Some(other) = known.insert(key, written.place.clone()) {
                return Err(written.wrong(format!("the parameter {name:?} in {place} is there already, at {other}")));
            }
        }
    }
    Ok(())
}

fn in_path(written: &At<'_>, parameter: &At<'_>, (name, paths): (&str, &Paths<'_>)) -> Result<(), Malformed> {
    if !paths.has(name) {
        let message = format!("the path {} has no parameter {name:?}", paths.written);
        return Err(written.wrong(message).hint(format!("write {{{name}}} in the path, or leave the parameter out")));
    }
    if parameter.flag("required")? {
        return Ok(());
    }
    Err(parameter.wrong(format!("the parameter {name:?} is in the path, so it must say required: true")))
}
