//! One user of the command: a home of their own, and where wanted a simulated cluster that they are signed in to.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::fake::{Fake, TOKEN};

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its data as JSON, with the times taken out, since they differ from run to run.
    pub(crate) fn json(&self) -> Value {
        let mut value: Value = serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        without_times(&mut value);
        value
    }

    /// The same run, which must have gone well.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }
}

/// Replaces every time, once it is sure that it is one in RFC 3339.
fn without_times(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_times),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "time" || name.ends_with("_time") => {
                        humantime::parse_rfc3339(text).unwrap();
                        *value = "TIME".into();
                    }
                    value => without_times(value),
                }
            }
        }
        _ => {}
    }
}

/// A user.
pub(crate) struct User {
    pub(crate) home: tempfile::TempDir,
    pub(crate) fake: Fake,
    pub(crate) token: Option<&'static str>,
}

impl User {
    /// Somebody who is signed in.
    pub(crate) async fn signed_in() -> Self {
        Self { home: tempfile::tempdir().unwrap(), fake: Fake::start().await, token: Some(TOKEN) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file into their home and names it.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path.display().to_string()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
        command.args(arguments).current_dir(self.path()).env_clear().kill_on_drop(true);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.path());
        command.env("DUNLIN_URL", &self.fake.url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(token) = self.token {
            command.env("DUNLIN_TOKEN", token);
        }
        command
    }

    /// Runs a command line; its words are divided by spaces.
    pub(crate) async fn run(&self, line: &str) -> Ran {
        self.args(&line.split_whitespace().collect::<Vec<_>>()).await
    }

    pub(crate) async fn args(&self, arguments: &[&str]) -> Ran {
        ended(self.command(arguments).output().await.unwrap())
    }

    /// Runs a command line with something on its standard input.
    pub(crate) async fn run_with_input(&self, line: &str, input: &str) -> Ran {
        let mut command = self.command(&line.split_whitespace().collect::<Vec<_>>());
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        ended(child.wait_with_output().await.unwrap())
    }
}

fn ended(output: std::process::Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
