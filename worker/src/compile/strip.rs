//! Removes custom sections (debug information, producers and the like) at every level. Nothing at run time needs them, and the
//! engine's parsers of debug information never see a guest's. The names of functions are kept, in a section of our own
//! (`names.rs`); source lines go behind the compiled code (`lines.rs`).

use super::CompileError;
use super::detect::malformed;
use super::names;

/// Bytes of magic number, version and layer.
const HEADER: usize = 8;
/// The layer of a component, in the last two bytes of the header.
const COMPONENT_LAYER: [u8; 2] = [1, 0];
const CUSTOM: u8 = 0;
/// In a component: a core module, and a component.
const NESTED: [u8; 2] = [1, 4];

/// The same module or component without its custom sections but for the names of functions. The caller has checked nesting and structure.
pub(super) fn without_custom_sections(wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    let (header, mut rest) = wasm.split_at_checked(HEADER).ok_or_else(|| malformed("its header is truncated"))?;
    let is_component = header.ends_with(&COMPONENT_LAYER);
    let (mut stripped, mut named) = (header.to_vec(), is_component);
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = read_length(after)?;
        let (contents, after) = after.split_at_checked(length).ok_or_else(|| malformed("a section is truncated"))?;
        rest = after;
        if id == CUSTOM {
            if let Some(names) = names::kept(contents).filter(|_| !named) {
                append(&mut stripped, CUSTOM, &names);
                named = true;
            }
            continue;
        }
        if is_component && NESTED.contains(&id) {
            append(&mut stripped, id, &without_custom_sections(contents)?);
        } else {
            append(&mut stripped, id, contents);
        }
    }
    Ok(stripped)
}

fn append(wasm: &mut Vec<u8>, id: u8, contents: &[u8]) {
    wasm.push(id);
    number(wasm, contents.len());
    wasm.extend_from_slice(contents);
}

/// Writes an unsigned LEB128 number.
pub(super) fn number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads an unsigned LEB128 number of 32 bits.
fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), CompileError> {
    let mut length = 0_u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let length = usize::try_from(length).map_err(|_| malformed("a section is too long"))?;
            return Ok((length, bytes.get(index + 1..).unwrap_or_default()));
        }
    }
    Err(malformed("a section's length is broken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom_sections(wasm: &[u8]) -> usize {
        let payloads = wasmparser::Parser::new(0).parse_all(wasm);
        payloads.filter(|payload| matches!(payload, Ok(wasmparser::Payload::CustomSection(_)))).count()
    }

    #[test]
    fn t25_custom_sections_disappear_at_every_level_but_for_names_and_the_rest_stays_valid() {
        let text = r#"(component $outer
            (core module $m (func $named (export "f")) (@custom ".debug_info" "junk"))
            (component $inner (core module $n (func $x)))
            (core instance (instantiate $m)))"#;
        let wasm = wat::parse_str(text).unwrap();
        assert!(custom_sections(&wasm) >= 4);
        let stripped = without_custom_sections(&wasm).unwrap();
        assert_eq!(custom_sections(&stripped), 2, "the names of one function each");
        assert!(!stripped.windows(5).any(|bytes| bytes == b"debug" || bytes == b"outer"));
        wasmparser::Validator::new().validate_all(&stripped).unwrap();
        assert_eq!(without_custom_sections(&stripped).unwrap(), stripped);
    }

    #[test]
    fn truncated_sections_are_refused() {
        let wasm = wat::parse_str("(module (func (export \"f\")))").unwrap();
        for length in (0..wasm.len()).filter(|length| *length != HEADER) {
            let cut = without_custom_sections(&wasm[..length]);
            assert!(cut.is_err() || cut.unwrap().len() <= length, "{length}");
        }
        assert!(without_custom_sections(b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\xff\x0f").is_err());
    }
}
