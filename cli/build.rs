//! Puts the templates of `dunlin new` into the command: every file below `templates/`, by the name of its first folder.

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("templates");
    println!("cargo:rerun-if-changed=templates");
    let mut table = String::from("&[\n");
    for template in entries(&root)? {
        let name = template.file_name().unwrap_or_default().to_string_lossy().into_owned();
        writeln!(table, "    Template {{ name: {name:?}, files: &[")?;
        for file in files(&template)? {
            let relative = file.strip_prefix(&template)?.to_string_lossy().into_owned();
            // Found from where the package is when it is compiled: a working tree may have been moved, together with what is built.
            let place = format!("/templates/{name}/{relative}");
            writeln!(
                table,
                "        ({relative:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {place:?}))),"
            )?;
        }
        table.push_str("    ] },\n");
    }
    table.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("templates.rs"), table)?;
    Ok(())
}

/// What is in a folder, sorted; nothing where the folder is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    paths.sort();
    Ok(paths)
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}
