//! The names of a core module's functions, read from its custom section `name` and written anew: the one thing of a guest's
//! custom sections that the engine gets, so that a trap can say where it was. What the engine reads is what is written here, and is
//! bounded; a section that is broken is read as far as it goes.

use wasmparser::{BinaryReader, Name, NameSectionReader, Naming};

use super::strip::number;

/// Most bytes of names that are kept of a module.
const MAX_BYTES: usize = 256 << 10;
/// Most bytes of a name; longer ones are left out.
const MAX_NAME: usize = 512;
/// The subsection of functions' names (WebAssembly core specification, appendix "Name Section").
const FUNCTIONS: u8 = 1;
const NAME: &str = "name";

/// The contents of a custom section with the names of functions alone; nothing where this one is another, or has none.
pub(super) fn kept(contents: &[u8]) -> Option<Vec<u8>> {
    let mut reader = BinaryReader::new(contents, 0);
    if reader.read_string().ok()? != NAME {
        return None;
    }
    let mut names = NameSectionReader::new(reader).map_while(Result::ok);
    let functions = names.find_map(|name| if let Name::Function(names) = name { Some(names) } else { None })?;
    let mut room = MAX_BYTES;
    let fits = |name: &Naming<'_>| {
        room = room.saturating_sub(name.name.len());
        room > 0
    };
    let short = |name: &Naming<'_>| name.name.len() <= MAX_NAME;
    let named: Vec<_> = functions.into_iter().map_while(Result::ok).filter(short).take_while(fits).collect();
    (!named.is_empty()).then(|| written(&named))
}

fn written(named: &[Naming<'_>]) -> Vec<u8> {
    let mut map = Vec::new();
    number(&mut map, named.len());
    for Naming { index, name } in named {
        number(&mut map, *index as usize);
        text(&mut map, name);
    }
    let mut contents = Vec::new();
    text(&mut contents, NAME);
    contents.push(FUNCTIONS);
    number(&mut contents, map.len());
    contents.extend_from_slice(&map);
    contents
}

fn text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[(u32, &str)]) -> Vec<u8> {
        written(&names.iter().map(|(index, name)| Naming { index: *index, name }).collect::<Vec<_>>())
    }

    #[test]
    fn functions_keep_their_names_and_nothing_else_is_kept() {
        let names = named(&[(0, "charge"), (200, "card")]);
        assert_eq!(kept(&names).as_ref(), Some(&names));
        assert_eq!(kept(b"\x05names\x01\x02\x01\x00"), None);
        assert_eq!(kept(b""), None);
        // A module's own name, in the subsection before.
        let mut with_module = b"\x04name\x00\x02\x01m".to_vec();
        with_module.extend_from_slice(&names[5..]);
        assert_eq!(kept(&with_module), Some(names));
    }

    #[test]
    fn what_is_long_or_broken_is_left_out() {
        let long = "x".repeat(MAX_NAME + 1);
        assert_eq!(kept(&named(&[(0, &long), (1, "card")])), Some(named(&[(1, "card")])));
        let many: Vec<_> = (0..2_000).map(|index| (index, &long[1..])).collect();
        assert!(kept(&named(&many)).unwrap().len() <= MAX_BYTES + 10_000);
        let whole = named(&[(0, "charge"), (1, "card")]);
        (0..whole.len()).for_each(|length| _ = kept(&whole[..length]));
    }
}
