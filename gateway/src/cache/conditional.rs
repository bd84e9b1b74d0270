//! Requests that want an answer only if it has changed (RFC 9110 13): from callers, answered with what is stored, and to
//! functions, of which a stored answer is confirmed.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::rules::date;

/// The headers by which a request depends on what its caller has.
const CONDITIONS: [HeaderName; 2] = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];

/// Whether the caller has this answer already.
pub(super) fn is_known(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        let own = stored.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(opaque);
        let values = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        return values.flat_map(tags).any(|tag| tag == "*" || Some(tag) == own);
    }
    let time = |headers: &HeaderMap, name: HeaderName| headers.get(name).and_then(date);
    let changed = || time(stored, header::LAST_MODIFIED).or_else(|| time(stored, header::DATE));
    time(request, header::IF_MODIFIED_SINCE).is_some_and(|since| changed().is_some_and(|changed| changed <= since))
}

/// Whether a caller has an answer with this very tag, weak or not.
pub(crate) fn names(request: &HeaderMap, own: &HeaderValue) -> bool {
    let Ok(own) = own.to_str() else { return false };
    let values = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(written).any(|tag| tag == own.trim())
}

/// What tells two answers apart: weak tags are as good as strong ones here (RFC 9110 8.8.3.2).
fn opaque(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// The tags of a list, without what makes them weak.
fn tags(text: &str) -> impl Iterator<Item = &str> {
    written(text).map(opaque)
}

/// The tags of a list, which may have commas in them.
fn written(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let start = opaque(rest);
        let end = match start.strip_prefix('"') {
            Some(inner) => inner.find('"').map(|at| at + 2)?,
            None => start.find(',').unwrap_or(start.len()),
        };
        let (tag, after) = start.split_at_checked(end).filter(|(tag, _)| !tag.is_empty())?;
        let whole = rest.get(..rest.len() - after.len()).unwrap_or(tag);
        rest = after;
        Some(whole.trim())
    })
}

/// Makes a request to a function one that asks whether this answer has changed, or one for the whole where there is none.
pub(crate) fn ask(passed: &mut HeaderMap, stored: Option<&HeaderMap>) {
    for name in CONDITIONS {
        passed.remove(name);
    }
    let Some(stored) = stored else { return };
    for (own, name) in [header::ETAG, header::LAST_MODIFIED].into_iter().zip(CONDITIONS) {
        if let Some(value) = stored.get(own) {
            passed.insert(name, value.clone());
        }
    }
}

/// Whether an answer without a body confirms a stored one (RFC 9111 4.3.4).
pub(super) fn confirms(answer: &HeaderMap, stored: &HeaderMap) -> bool {
    let tag = |headers: &HeaderMap| {
        headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(opaque).map(str::to_owned)
    };
    tag(answer).is_none_or(|confirmed| tag(stored) == Some(confirmed))
}

/// Whether an answer can be asked about.
pub(super) fn is_confirmable(stored: &HeaderMap) -> bool {
    stored.contains_key(header::ETAG) || stored.contains_key(header::LAST_MODIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_caller_that_has_the_answer_is_told_so() {
        let modified = ("last-modified", "Tue, 02 Jan 2024 12:00:00 GMT");
        for (asked, stored, expected) in [
            (("if-none-match", "\"a\""), ("etag", "\"a\""), true),
            (("if-none-match", "W/\"a\""), ("etag", "\"a\""), true),
            (("if-none-match", "\"a\""), ("etag", "W/\"a\""), true),
            (("if-none-match", "\"b\", \"a\""), ("etag", "\"a\""), true),
            (("if-none-match", "\"b,\"\t,W/\"a\""), ("etag", "\"a\""), true),
            (("if-none-match", "\"b,\\\", \"a\""), ("etag", "\"a\""), true),
            (("if-none-match", "*"), ("etag", "\"a\""), true),
            (("if-none-match", "*"), modified, true),
            (("if-none-match", "\"b\""), ("etag", "\"a\""), false),
            (("if-none-match", "\"x \"a\""), ("etag", "\"a\""), false),
            (("if-none-match", "\"a"), ("etag", "\"a"), false),
            (("if-none-match", "\"a\""), modified, false),
            (("if-none-match", ""), ("etag", "\"a\""), false),
            (("if-modified-since", "Tue, 02 Jan 2024 12:00:00 GMT"), modified, true),
            (("if-modified-since", "Tue, 02 Jan 2024 11:59:59 GMT"), modified, false),
            (("if-modified-since", "yesterday"), modified, false),
            (("if-modified-since", "Tue, 02 Jan 2024 12:00:00 GMT"), ("date", "Tue, 02 Jan 2024 12:00:00 GMT"), true),
            (("accept", "*/*"), modified, false),
        ] {
            assert_eq!(is_known(&map(&[asked]), &map(&[stored])), expected, "{asked:?} {stored:?}");
        }
    }

    #[test]
    fn a_function_is_asked_about_what_is_stored_and_not_about_what_its_caller_has() {
        let mut passed = map(&[("if-none-match", "\"mine\""), ("if-modified-since", "x"), ("accept", "a")]);
        ask(&mut passed, Some(&map(&[("etag", "\"a\"")])));
        assert_eq!(passed, map(&[("if-none-match", "\"a\""), ("accept", "a")]));
        ask(&mut passed, None);
        assert_eq!(passed, map(&[("accept", "a")]));
    }

    #[test]
    fn an_answer_about_another_tag_confirms_nothing() {
        let stored = map(&[("etag", "\"a\"")]);
        for (answer, expected) in [("\"a\"", true), ("W/\"a\"", true), ("\"b\"", false)] {
            assert_eq!(confirms(&map(&[("etag", answer)]), &stored), expected, "{answer}");
        }
        assert!(confirms(&HeaderMap::new(), &stored));
        assert!(!confirms(&map(&[("etag", "\"b\"")]), &map(&[("last-modified", "x")])));
    }
}
