//! How the path of a source file is shown: as its developer knows it, not as the machine that built it does. Pure.

use crate::line_table::MAX_PATH;

/// The parts of a file's path as DWARF has them. Each may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts<'a> {
    /// Where the compiler ran.
    pub(super) compiled_in: &'a [u8],
    /// The file's folder, absolute or below `compiled_in`.
    pub(super) folder: &'a [u8],
    /// The file, absolute or in `folder`.
    pub(super) name: &'a [u8],
}

impl Parts<'_> {
    /// The path below the folder of the compilation; of a file elsewhere its end, from the name of its crate where it has one.
    /// At most [`MAX_PATH`] bytes, without control characters. And whether the file is the developer's own.
    pub(super) fn shown(self) -> (String, bool) {
        let (compiled_in, folder, name) = (text(self.compiled_in), text(self.folder), text(self.name));
        let compiled_in = compiled_in.trim_end_matches('/');
        let path = if is_absolute(&name) || folder.is_empty() { name } else { format!("{folder}/{name}") };
        let below = path.strip_prefix(compiled_in).and_then(|rest| rest.strip_prefix('/'));
        let below = below.filter(|_| !compiled_in.is_empty()).or((!is_absolute(&path)).then_some(&*path));
        match (below.map(|path| path.trim_start_matches("./")), package(compiled_in)) {
            (Some(below), Some(package)) => (shorten(&format!("{package}/{below}")), false),
            (Some(below), None) => (shorten(below), !compiled_in.starts_with("/rustc/")),
            (None, _) => (shorten(package(&path).unwrap_or_else(|| elsewhere(&path))), false),
        }
    }
}

/// Where packages of others are unpacked, and how many parts of a path come then before the package's name.
const PACKAGES: [(&str, usize); 3] = [("/registry/src/", 1), ("/git/checkouts/", 0), ("/rust/deps/", 0)];

/// The path from the name of its package on; nothing where it is in none of others.
fn package(path: &str) -> Option<&str> {
    let found = |(place, skipped): &(&str, usize)| Some((path.find(place)? + place.len(), *skipped));
    let (at, skipped) = PACKAGES.iter().find_map(found)?;
    path.get(at..)?.splitn(skipped + 1, '/').nth(skipped)
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !is_unprintable(*c)).map(|c| if c == '\\' { '/' } else { c }).collect()
}

/// Control characters, and those that change the direction of text.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether it begins at a root, with a drive or with a scheme.
fn is_absolute(path: &str) -> bool {
    path.starts_with('/') || path.contains("://") || path.get(1..3) == Some(":/")
}

/// The end of an absolute path that says enough.
fn elsewhere(path: &str) -> &str {
    let from_crate = path.rfind("/src/").and_then(|at| path.get(..at)?.rfind('/'));
    let at = from_crate.or_else(|| path.rmatch_indices('/').nth(2).map(|(at, _)| at));
    at.and_then(|at| path.get(at + 1..)).unwrap_or(path).trim_start_matches('/')
}

/// Its last bytes, which say most.
fn shorten(path: &str) -> String {
    const CUT: &str = "...";
    if path.len() <= MAX_PATH {
        return path.to_owned();
    }
    let from = path.ceil_char_boundary(path.len() - (MAX_PATH - CUT.len()));
    format!("{CUT}{}", path.get(from..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(compiled_in: &str, folder: &str, name: &str) -> (String, bool) {
        let [compiled_in, folder, name] = [compiled_in, folder, name].map(str::as_bytes);
        Parts { compiled_in, folder, name }.shown()
    }

    #[test]
    fn paths_are_shown_as_their_developer_knows_them() {
        const REGISTRY: &str = "/home/me/.cargo/registry/src/mirror-6f17/serde-1.0.2";
        let table = [
            ("/home/me/pay", "", "src/lib.rs", "src/lib.rs", true),
            ("/home/me/pay", "src", "lib.rs", "src/lib.rs", true),
            ("/home/me/pay", "/home/me/pay/src", "main.c", "src/main.c", true),
            ("/home/me/pay/", "/home/me/pay", "./main.c", "main.c", true),
            ("/home/me/pay", "", "/home/me/pay/src/main.zig", "src/main.zig", true),
            ("/home/me/pay", "/home/me/payments/src", "x.c", "payments/src/x.c", false),
            ("/rustc/5980", "library/core/src", "option.rs", "library/core/src/option.rs", false),
            ("/home/me/pay", "/rustc/5980/library/core/src", "option.rs", "core/src/option.rs", false),
            ("/home/me/pay", &format!("{REGISTRY}/src/de"), "mod.rs", "serde-1.0.2/src/de/mod.rs", false),
            (REGISTRY, &format!("{REGISTRY}/src/de"), "mod.rs", "serde-1.0.2/src/de/mod.rs", false),
            (REGISTRY, "src", "lib.rs", "serde-1.0.2/src/lib.rs", false),
            ("/rust/deps/wasi-0.11.1", "src", "lib.rs", "wasi-0.11.1/src/lib.rs", false),
            ("/home/me/pay", "wasisdk://v30.0/src/libc/musl/src/stdio", "puts.c", "musl/src/stdio/puts.c", false),
            ("/home/me/pay", "/opt/sdk/include/bits", "alltypes.h", "include/bits/alltypes.h", false),
            ("C:\\pay", "C:\\pay\\src", "main.c", "src/main.c", true),
            ("/", "/srv/a/b", "c.c", "a/b/c.c", false),
            ("", "", "main.c", "main.c", true),
            ("/pay", "", "/x.c", "x.c", false),
            ("/pay", "", "", "", true),
            ("/pay", "a\n  at b", "c\u{202e}\u{1b}[31m.c", "a  at b/c[31m.c", true),
        ];
        for (compiled_in, folder, name, expected, own) in table {
            assert_eq!(shown(compiled_in, folder, name), (expected.to_owned(), own), "{compiled_in} {folder} {name}");
        }
    }

    #[test]
    fn paths_are_short_valid_text_whatever_they_were() {
        let (long, _) = shown("", &"ä/".repeat(1_000), "main.c");
        assert!(long.len() <= MAX_PATH && long.starts_with("...") && long.ends_with("/main.c"), "{long}");
        let broken = Parts { name: b"\xff\xfe/a.c", ..Parts::default() }.shown().0;
        assert_eq!(broken, "\u{fffd}\u{fffd}/a.c");
    }
}
