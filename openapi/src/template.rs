//! Paths as documents write them, with names in braces. Pure; which paths a route takes, `dunlin-proto` knows.

/// A path without what OpenAPI has no word for: that a parameter takes several segments.
pub(crate) fn plain(path: &str) -> String {
    path.replace("+}", "}").replace("*}", "}")
}

/// The names in braces.
pub(crate) fn parameters(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    inner.map(|name| name.trim_end_matches(['+', '*']))
}

/// What all paths have in common that differ in the names of their parameters alone.
pub(crate) fn shape(path: &str) -> String {
    let segment = |segment: &str| if segment.starts_with('{') { "{}".to_owned() } else { segment.to_owned() };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_paths_have_in_common() {
        assert_eq!(plain("/a/{b}/{c+}/{d*}"), "/a/{b}/{c}/{d}");
        assert_eq!(parameters("/a/{b}/{c+}").collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(shape("/a/{b}/c"), shape("/a/{x}/c"));
        assert_ne!(shape("/a/{b}/c"), shape("/a/b/c"));
    }
}
