//! What may be wrong with a function's folder: its manifest, the tools of its build, the file that comes out.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::Finding;
use crate::{
    artifact::Artifact,
    exit::Exit,
    project::{Project, Projects},
    units,
};

/// Where well-known tools come from.
const TOOLS: [(&str, &str); 14] = [
    ("cargo", "install Rust from https://rustup.rs"),
    ("rustc", "install Rust from https://rustup.rs"),
    ("npm", "install Node.js from https://nodejs.org"),
    ("npx", "install Node.js from https://nodejs.org"),
    ("node", "install Node.js from https://nodejs.org"),
    ("jco", "run: npm install --global @bytecodealliance/jco"),
    ("componentize-py", "run: pip install componentize-py"),
    ("python3", "install Python from https://www.python.org"),
    ("pip", "install Python from https://www.python.org"),
    ("zig", "install Zig from https://ziglang.org/download"),
    ("clang", "install the WASI SDK from https://github.com/WebAssembly/wasi-sdk"),
    ("go", "install Go from https://go.dev"),
    ("tinygo", "install TinyGo from https://tinygo.org"),
    ("make", "install make with your system's package manager"),
];

/// Words that a shell understands by itself.
const BUILTINS: [&str; 12] = ["cd", "echo", "exec", "export", "false", "if", "set", "test", "true", "unset", "[", ":"];

/// Looks at the project in a folder.
pub(super) async fn check(path: &Path) -> Vec<Finding> {
    let projects = match Projects::load(path) {
        Ok(projects) => projects.functions,
        Err(failure) => return vec![Finding::of("manifest", &failure)],
    };
    let mut findings = Vec::new();
    for project in &projects {
        findings.extend(check_one(project).await);
    }
    findings
}

/// Looks at one function of it.
async fn check_one(project: &Project) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("manifest", format!("function {} is described well", project.manifest.name))];
    if let Some(build) = &project.manifest.build {
        let folder = build.workdir.as_ref().map_or_else(|| project.folder.clone(), |dir| project.folder.join(dir));
        let search = env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = env::split_paths(&search).collect();
        findings.extend(commands(&build.command).into_iter().map(|tool| self::tool(tool, &folder, &folders)));
        if let Some(target) = rust_target(&build.command) {
            findings.push(rust_target_finding(target).await);
        }
    }
    findings.push(source(project));
    findings
}

/// The commands that a shell line runs, each once: the first word of each part.
fn commands(line: &str) -> Vec<&str> {
    let parts = line.split(['\n', ';', '|', '&', '(', ')']);
    let first = |part: &'_ str| -> Option<usize> {
        let assignment = |word: &str| word.split_once('=').is_some_and(|(name, _)| !name.contains(['/', '"', '\'']));
        let word = part.split_whitespace().find(|word| !assignment(word))?;
        Some(word.as_ptr() as usize - part.as_ptr() as usize)
    };
    let mut found = Vec::new();
    for part in parts {
        let Some(word) = first(part).and_then(|at| part.get(at..)?.split_whitespace().next()) else { continue };
        let plain = !word.contains(['$', '"', '\'', '`', '{', '}', '#']) && !BUILTINS.contains(&word);
        if plain && !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

fn tool(name: &str, folder: &Path, search: &[PathBuf]) -> Finding {
    let fix = TOOLS.iter().find(|(tool, _)| *tool == name).map_or_else(
        || match name.contains('/') {
            true => format!("{name} is relative to the build's workdir; install what the project depends on"),
            false => format!("install {name}, or put its folder into PATH"),
        },
        |(_, fix)| (*fix).to_owned(),
    );
    let found = match name.contains('/') {
        true => Some(folder.join(name)).filter(|path| is_executable(path)),
        false => search.iter().map(|dir| dir.join(name)).find(|path| is_executable(path)),
    };
    match found {
        Some(path) => Finding::ok("tool", format!("{name} is {}", path.display())),
        None => Finding::failed("tool", format!("the build needs {name}, which is not installed"), fix),
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The WebAssembly target that a cargo or rustc command builds for.
fn rust_target(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let target = words.find_map(|word| word.strip_prefix("--target"))?;
    let target = target.strip_prefix('=').or_else(|| words.next())?;
    (line.contains("cargo") || line.contains("rustc")).then_some(target).filter(|target| target.starts_with("wasm"))
}

/// Whether the compiler has the standard library for a target. RUSTC is what cargo would run.
async fn rust_target_finding(target: &str) -> Finding {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked =
        Command::new(rustc).args(["--print", "target-libdir", "--target", target]).stdin(Stdio::null()).output();
    let installed = match asked.await {
        Ok(output) if output.status.success() => Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir(),
        _ => false,
    };
    if installed {
        return Finding::ok("target", format!("Rust has the target {target}"));
    }
    let message = format!("Rust does not have the target {target}");
    Finding::failed("target", message, format!("run: rustup target add {target}"))
}

/// Whether the file to deploy is there and may travel.
fn source(project: &Project) -> Finding {
    let source = project.source();
    if !source.exists() {
        return Finding::warning("source", format!("{} is not built yet", source.display()), "run: dunlin build");
    }
    match Artifact::load(&source) {
        Ok(artifact) => {
            Finding::ok("source", format!("{} has {}", source.display(), units::size(artifact.bytes.len() as u64)))
        }
        Err(failure) => Finding::of("source", &failure.with_exit(Exit::Failed)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{commands::doctor::State, manifest::FILE_NAME};

    #[test]
    fn the_commands_of_a_build_are_found() {
        for (line, expected) in [
            ("cargo build --target wasm32-wasip2 --release", &["cargo"][..]),
            ("npm install && npm run build", &["npm"]),
            ("cd x; A=b ./tool | sort", &["./tool", "sort"]),
            ("\"$CC\" a.c; true", &[]),
            ("(zig cc a.c) || make", &["zig", "make"]),
            ("", &[]),
        ] {
            assert_eq!(commands(line), expected, "{line}");
        }
    }

    #[test]
    fn the_target_of_a_rust_build_is_found() {
        assert_eq!(rust_target("cargo build --target wasm32-wasip2"), Some("wasm32-wasip2"));
        assert_eq!(rust_target("cargo build --target=wasm32-wasip1 -q"), Some("wasm32-wasip1"));
        assert_eq!(rust_target("cargo build --target x86_64-unknown-linux-gnu"), None);
        assert_eq!(rust_target("zig cc --target wasm32-wasi"), None);
        assert_eq!(rust_target("cargo build --target"), None);
    }

    async fn findings(manifest: &str) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), manifest).unwrap();
        check(folder.path()).await
    }

    #[tokio::test]
    async fn what_is_missing_is_found_with_its_fix() {
        let begin = "name = 'a'\nsource = 'a.wasm'\n[build]\n";
        let found = findings(&format!("{begin}command = 'no-such-tool-anywhere x'")).await;
        let states: Vec<_> = found.iter().map(|finding| (finding.check, finding.state)).collect();
        assert_eq!(states, [("manifest", State::Ok), ("tool", State::Failed), ("source", State::Warning)]);
        let found = findings(&format!("{begin}command = 'cargo build --target wasm32-nowhere'")).await;
        let target = found.iter().find(|finding| finding.check == "target").unwrap();
        assert_eq!(target.fix.as_deref(), Some("run: rustup target add wasm32-nowhere"));
        let found = findings("nam = 'a'").await;
        assert!(found[0].message.contains(":1:1: unknown field"), "{found:?}");
        assert!(found[0].fix.as_ref().unwrap().contains("did you mean"), "{found:?}");
    }
}
