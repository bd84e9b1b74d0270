//! The templates of `dunlin new`, embedded in the command, so that it needs neither network nor installation.
//!
//! In names of files and in their text `{{name}}` becomes the function's name, `{{name_snake}}` the same with underscores.
//! A file's name loses the ending `.tmpl`, which keeps cargo from taking a template for a package.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use dunlin_proto::ids::FunctionName;

/// A folder to begin a function with.
#[derive(Debug)]
pub(crate) struct Template {
    /// What `-t` calls it.
    pub(crate) name: &'static str,
    /// Paths in the folder, and contents.
    files: &'static [(&'static str, &'static [u8])],
}

/// All of them, sorted by name.
pub(crate) const ALL: &[Template] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

impl Template {
    /// The template with this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|template| template.name == name)
    }

    /// Writes its files into a folder, which has none of them.
    ///
    /// # Errors
    /// The folder can't be written, or a file is there already.
    pub(crate) fn write(&self, folder: &Path, name: &FunctionName) -> io::Result<()> {
        for (path, contents) in self.files {
            let path = target(folder, path, name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let contents = match std::str::from_utf8(contents) {
                Ok(text) => fill(text, name).into_bytes(),
                Err(_) => contents.to_vec(),
            };
            io::Write::write_all(&mut fs::File::create_new(path)?, &contents)?;
        }
        Ok(())
    }
}

/// Where a file of a template goes in the project.
fn target(folder: &Path, path: &str, name: &FunctionName) -> PathBuf {
    folder.join(fill(path.strip_suffix(".tmpl").unwrap_or(path), name))
}

fn fill(text: &str, name: &FunctionName) -> String {
    text.replace("{{name_snake}}", &name.as_str().replace('-', "_")).replace("{{name}}", name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{FILE_NAME, Manifest};

    #[test]
    fn every_template_makes_a_project_with_a_build_command() {
        let names: Vec<_> = ALL.iter().map(|template| template.name).collect();
        assert_eq!(names, ["c", "javascript", "python", "rust", "zig"]);
        for template in ALL {
            let folder = tempfile::tempdir().unwrap();
            let name: FunctionName = "check-out".parse().unwrap();
            template.write(folder.path(), &name).unwrap();
            let manifest = Manifest::load(&folder.path().join(FILE_NAME)).unwrap();
            let function = &manifest.functions[0];
            assert_eq!((&function.name, &manifest.app), (&name, &None), "{}", template.name);
            assert!(function.build.is_some(), "{}", template.name);
            for (path, _) in template.files {
                let file = target(folder.path(), path, &name);
                let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
                assert!(!text.contains("{{name"), "{} leaves a placeholder", file.display());
            }
            assert!(template.write(folder.path(), &name).is_err(), "it must not overwrite");
        }
    }
}
