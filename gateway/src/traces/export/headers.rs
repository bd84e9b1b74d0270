//! The headers that a collector gets with each batch, such as credentials, from a file that nobody else may read.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, ensure};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The headers of a file. Errors name lines, never what they say.
pub(super) fn read(path: &Path) -> anyhow::Result<HeaderMap> {
    let name = || format!("read tracing.headers_file {}", path.display());
    let mode = fs::metadata(path).with_context(name)?.mode() & 0o777;
    ensure!(mode & 0o077 == 0, "{} can be read by others (mode {mode:04o}): chmod 600 it", path.display());
    headers(&fs::read_to_string(path).with_context(name)?).with_context(name)
}

fn headers(text: &str) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wanted = || format!("line {number} must be \"name: value\"");
        let (name, value) = line.split_once(':').with_context(wanted)?;
        let name: HeaderName = name.trim().parse().ok().with_context(wanted)?;
        let mut value = HeaderValue::from_str(value.trim()).ok().with_context(wanted)?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_secret_and_errors_say_only_where() {
        let read = headers("authorization: Bearer abc\n\nx-tenant: 7\n").unwrap();
        assert!(read["authorization"].is_sensitive() && read["x-tenant"] == "7");
        let error = format!("{:#}", headers("x: 1\nBearer abc").unwrap_err());
        assert!(error.contains("line 2") && !error.contains("abc"), "{error}");
    }
}
