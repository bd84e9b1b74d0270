//! Documents as text: YAML or JSON, of a bounded size, and no larger in memory than they look.

use serde_json::Value;
use serde_saphyr::Options;

pub use crate::at::Malformed;

/// The largest document, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// How deep values may lie in each other.
const MAX_DEPTH: usize = 100;
/// The most values, each counted as often as an alias repeats it.
const MOST_NODES: usize = 200_000;

/// Reads a document.
///
/// # Errors
/// It is neither YAML nor JSON (with the line), or too large.
pub fn read(text: &str) -> Result<Value, Malformed> {
    if text.len() > MAX_BYTES {
        return Err(Malformed::new(
            "",
            format!("the document has {} bytes but may have {MAX_BYTES} at most", text.len()),
        ));
    }
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| Malformed::new("", format!("it is not JSON: {error}")));
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let place = error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column()));
        let why = error.without_snippet().to_string();
        let why = why.lines().next().unwrap_or_default().to_owned();
        Malformed::new("", format!("it is not YAML: {}{why}", place.unwrap_or_default()))
    })
}

fn options() -> Options {
    serde_saphyr::options! {
        // As YAML 1.2 has them: `yes` is text.
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MOST_NODES,
            max_events: 2 * MOST_NODES,
            max_aliases: 1_000,
        },
    }
}

/// A document as YAML.
///
/// # Errors
/// What can't be written.
pub fn to_yaml(document: &Value) -> Result<String, String> {
    serde_saphyr::to_string(document).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_are_read_and_what_is_neither_is_refused_with_the_line() {
        assert_eq!(read("a: [1, b]\n200: yes\n"), Ok(json!({ "a": [1, "b"], "200": "yes" })));
        assert_eq!(read(" {\"a\": 1}"), Ok(json!({ "a": 1 })));
        for (text, place) in [("a: 1\nb: [1\nc: d\n", "line "), ("a: 1\na: 2\n", "line 2"), ("{\n\"a\": }", "line 2")] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(place), "{text}: {error}");
        }
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for at in 1..9 {
            let last = vec![format!("*a{}", at - 1); 10].join(", ");
            text.push_str(&format!("a{at}: &a{at} [{last}]\n"));
        }
        assert!(read(&text).is_err());
        assert!(read(&format!("a: {}1{}", "[".repeat(150), "]".repeat(150))).is_err());
    }

    #[test]
    fn what_is_written_can_be_read() {
        let value = json!({ "paths": { "/a/{b}": { "get": { "x": ["1", 1, true, null, "yes", "a: b", "#", ""] } } } });
        assert_eq!(read(&to_yaml(&value).unwrap()), Ok(value));
    }
}
