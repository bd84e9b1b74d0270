//! The base path of a document's servers. Hosts are not taken from there: a namespace serves on its own domains.

use crate::at::{At, Malformed};

/// The base path that `servers` here says; nothing where there is none.
pub(super) fn base(at: &At<'_>) -> Result<Option<String>, Malformed> {
    let Some(servers) = at.get("servers") else { return Ok(None) };
    let mut first: Option<String> = None;
    for server in servers.items()? {
        let base = path(&server)?;
        if first.as_ref().is_some_and(|first| *first != base) {
            let error = server
                .wrong(format!("the servers have different base paths: {:?} and {base:?}", first.unwrap_or_default()));
            return Err(error.hint("a route has one path"));
        }
        first = Some(base);
    }
    Ok(first)
}

fn path(server: &At<'_>) -> Result<String, Malformed> {
    let url = server.need("url")?;
    let filled = filled(url.text()?, server)?;
    let path = match filled.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
        None => &filled,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    if path.is_empty() || path.starts_with('/') {
        return Ok(path.to_owned());
    }
    Err(url.wrong("a base path begins with a slash"))
}

/// The URL with its variables' defaults.
fn filled(url: &str, server: &At<'_>) -> Result<String, Malformed> {
    let mut out = String::new();
    let mut rest = url;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(|| server.wrong("a brace of the URL is not closed"))?;
        let default = server.get("variables").and_then(|all| all.get(name)?.get("default"));
        let default = default.ok_or_else(|| server.wrong(format!("the variable {name:?} has no default")))?;
        out.push_str(before);
        out.push_str(default.text()?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
