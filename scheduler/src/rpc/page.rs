//! Pages: sizes, and tokens that only we can read a place from. A token belongs to one list and is refused by any other.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use dunlin_proto::ApiError;
use serde::{Serialize, de::DeserializeOwned};

/// Entries of a page where the request does not say.
const DEFAULT: i32 = 100;
const MOST: i32 = 1_000;

/// How many entries a page has.
pub(super) fn size(asked: i32) -> Result<usize, ApiError> {
    match asked {
        0 => Ok(DEFAULT as usize),
        1.. => Ok(usize::try_from(asked.min(MOST)).unwrap_or_default()),
        _ => Err(ApiError::invalid("page_size", "page_size must not be negative")),
    }
}

/// The place from which a page goes on; nothing for the first page. `list` says of what the page is.
pub(super) fn read<T: DeserializeOwned>(list: &str, token: &str) -> Result<Option<T>, ApiError> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = || ApiError::invalid("page_token", "page_token is not the next_page_token of this list");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    let (of, place): (String, T) = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    if of == list { Ok(Some(place)) } else { Err(wrong()) }
}

/// The token of the next page, and the page without the entry that was read beyond its end.
pub(super) fn cut<T, P: Serialize>(
    list: &str,
    mut entries: Vec<T>,
    size: usize,
    place: impl Fn(&T) -> P,
) -> (Vec<T>, String) {
    if entries.len() <= size {
        return (entries, String::new());
    }
    entries.truncate(size);
    let token = entries.last().and_then(|last| serde_json::to_vec(&(list, place(last))).ok());
    (entries, token.map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_and_lists_do_not_mix() {
        let (page, token) = cut("functions/shop", vec!["a", "b", "c"], 2, |name| (*name).to_owned());
        assert_eq!(page, ["a", "b"]);
        assert_eq!(read::<String>("functions/shop", &token).unwrap().as_deref(), Some("b"));
        assert!(read::<String>("functions/other", &token).is_err());
        assert!(read::<String>("functions/shop", "nonsense").is_err());
        assert!(read::<u64>("functions/shop", &token).is_err());
        assert_eq!(cut("x", vec![1, 2], 2, |n| *n), (vec![1, 2], String::new()));
        assert_eq!(read::<String>("x", "").unwrap(), None);
    }

    #[test]
    fn a_size_has_a_default_and_a_most() {
        assert_eq!((size(0), size(5), size(9999)), (Ok(100), Ok(5), Ok(1000)));
        assert!(size(-1).is_err());
    }
}
