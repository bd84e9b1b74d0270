//! A folder on this machine with the functions of a manifest: how each is built, and which file comes out.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use dunlin_proto::{
    ids::{AppId, FunctionName},
    v1,
};
use tokio::process::Command;

use crate::{
    exit::{Exit, Failure},
    manifest::{Build, FILE_NAME, Function, Manifest},
    output::Output,
};

/// A manifest and where it is.
#[derive(Debug)]
pub(crate) struct Projects {
    /// What its functions and routes together are called; absent where it is of one function without routes.
    pub(crate) app: Option<AppId>,
    /// Its functions; never empty.
    pub(crate) functions: Vec<Project>,
    /// Its routes, each with its bare name.
    pub(crate) routes: Vec<v1::Route>,
}

/// A function of a manifest.
#[derive(Debug)]
pub(crate) struct Project {
    /// The folder that the manifest's paths are relative to.
    pub(crate) folder: PathBuf,
    /// What the manifest says of it.
    pub(crate) manifest: Function,
}

impl Projects {
    /// Reads the manifest in this folder, or this manifest file.
    ///
    /// # Errors
    /// There is none, or it is wrong.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        if !file.is_file() {
            return Err(Failure::usage(format!("there is no manifest {}", file.display()))
                .hint("begin a project with: dunlin new -t rust NAME, or deploy a .wasm file itself"));
        }
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Manifest { app, functions, routes } = Manifest::load(&file)?;
        let project = |manifest| Project { folder: folder.to_owned(), manifest };
        Ok(Self { app, functions: functions.into_iter().map(project).collect(), routes })
    }

    /// The function of this name, alone.
    ///
    /// # Errors
    /// The manifest has none of this name.
    pub(crate) fn only(self, name: &FunctionName) -> Result<Self, Failure> {
        let names: Vec<_> = self.functions.iter().map(|it| it.manifest.name.to_string()).collect();
        let missing = || {
            Failure::usage(format!("the manifest has no function {name}"))
                .hint(format!("its functions: {}", names.join(", ")))
        };
        let found = self.functions.into_iter().find(|it| it.manifest.name == *name).ok_or_else(missing)?;
        Ok(Self { app: None, functions: vec![found], routes: Vec::new() })
    }
}

impl Project {
    /// The file that the build makes.
    pub(crate) fn source(&self) -> PathBuf {
        self.folder.join(&self.manifest.source)
    }

    /// Runs the build command, unless the file is deployed as it is, and checks that there is one.
    ///
    /// # Errors
    /// The build fails, or there is no file.
    pub(crate) async fn ready(&self, build: bool, output: Output) -> Result<PathBuf, Failure> {
        if build {
            self.build(output).await?;
        }
        let source = self.source();
        if source.is_file() {
            return Ok(source);
        }
        Err(Failure::usage(format!("there is no {}", source.display()))
            .hint("build it first, or give the manifest a [build] command"))
    }

    /// Runs the build command where there is one, and checks that the file is there afterwards.
    ///
    /// # Errors
    /// The command can't be run, fails, or leaves no file.
    pub(crate) async fn build(&self, output: Output) -> Result<(), Failure> {
        let Some(build) = &self.manifest.build else { return Ok(()) };
        output.note(format!("building: {}", build.command));
        self.run(build).await?;
        let source = self.source();
        if source.is_file() {
            return Ok(());
        }
        Err(Failure::usage(format!("the build ended well, but there is no {}", source.display()))
            .hint(format!("name the file that it makes as `source` in {FILE_NAME}")))
    }

    /// Runs the command with both its outputs on our standard error, since ours is data.
    async fn run(&self, build: &Build) -> Result<(), Failure> {
        let folder = build.workdir.as_ref().map_or_else(|| self.folder.clone(), |dir| self.folder.join(dir));
        if !folder.is_dir() {
            return Err(Failure::usage(format!("the build's workdir {} is not a folder", folder.display())));
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(&build.command).current_dir(&folder).stdin(Stdio::null()).stdout(std::io::stderr());
        let status =
            command.kill_on_drop(true).status().await.map_err(|error| {
                Failure::new(Exit::Failed, "cannot run sh, which runs build commands").because(error)
            })?;
        match status.code() {
            Some(0) => Ok(()),
            // POSIX.1-2017 2.8.2: what the shell says when it does not find a command.
            Some(127) => Err(failed(build, "a command that it needs is not installed")),
            Some(code) => Err(failed(build, &format!("it ended with exit code {code}"))),
            None => Err(failed(build, "a signal ended it")),
        }
    }
}

fn failed(build: &Build, why: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the build failed: {}", build.command))
        .because(why)
        .hint("what is missing on this machine says: dunlin doctor")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::output::{Format, Style};

    const QUIET: Output = Output { format: Format::Table, quiet: true };

    fn project(build: &str) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("name = 'a'\nsource = 'out/a.wasm'\n[build]\ncommand = '''{build}'''\n");
        fs::write(folder.path().join(FILE_NAME), text).unwrap();
        let project = Projects::load(folder.path()).unwrap().functions.remove(0);
        (folder, project)
    }

    async fn outcome(build: &str) -> Result<(), String> {
        let (_folder, project) = project(build);
        project.build(QUIET).await.map_err(|failure| failure.text(Style::PLAIN))
    }

    #[tokio::test]
    async fn a_build_runs_in_its_folder() {
        assert_eq!(outcome("mkdir out && echo x > out/a.wasm").await, Ok(()));
    }

    #[tokio::test]
    async fn a_build_that_fails_says_why() {
        for (command, why) in [
            ("exit 3", "exit code 3"),
            ("no-such-tool-anywhere 2>/dev/null", "not installed"),
            ("true", "there is no"),
            ("kill -9 $$", "a signal"),
        ] {
            let text = outcome(command).await.unwrap_err();
            assert!(text.contains(why) && text.contains("hint:"), "{command}: {text}");
        }
    }

    #[test]
    fn a_folder_without_a_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = Projects::load(folder.path()).unwrap_err().text(Style::PLAIN);
        assert!(text.contains("dunlin.toml") && text.contains("dunlin new"), "{text}");
    }
}
