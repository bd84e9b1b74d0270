//! The real `dunlin up`: what is in its way, its first answer, and what is there again at the second start.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// How long anything may take on a busy machine, unoptimised.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster, or one that did not come to run.
struct Cluster {
    home: PathBuf,
    child: Child,
    /// What it said of itself in JSON.
    said: Value,
}

fn dunlin(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    command.args(arguments).current_dir(home).env_clear().env("HOME", home).kill_on_drop(true);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

const UP: [&str; 7] = ["up", "-o", "json", "--functions", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

impl Cluster {
    async fn start(home: &Path) -> Self {
        let mut child = dunlin(home, &UP).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        Self { home: home.to_owned(), child, said: serde_json::from_str(&line).unwrap() }
    }

    /// Runs the command as whoever started it.
    async fn run(&self, line: &str) -> (i32, String, String) {
        ended(dunlin(&self.home, &line.split(' ').collect::<Vec<_>>())).await
    }

    fn url(&self, name: &str) -> &str {
        self.said[name].as_str().unwrap()
    }

    /// Sends SIGTERM and waits.
    async fn stop(mut self) -> i32 {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code().unwrap()
    }
}

async fn ended(mut command: Command) -> (i32, String, String) {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_is_used_by_the_command_and_comes_back_with_everything() {
    let home = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(home.path()).await;
    let sample = cluster.url("sample_url");
    assert!(sample.starts_with(cluster.url("functions_url")) && sample.ends_with("/default/hello/"), "{sample}");
    let answer = reqwest::get(sample).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("Hello"));

    let (code, out, err) = cluster.run("invoke hello -d 12345 -i").await;
    assert!(code == 0 && out.contains("\"body_bytes\": 5") && err.starts_with("status: 200\n"), "{out}{err}");
    let (code, out, err) = cluster.run("doctor -o json").await;
    assert!(code == 0 && !out.contains("failed"), "{out}{err}");
    let (code, secret, err) = cluster.run("key create till").await;
    assert_eq!((code, secret.starts_with("dk_")), (0, true), "{err}");

    let second = ended(dunlin(home.path(), &UP)).await;
    assert_eq!(second.0, 1);
    assert!(second.2.contains("in use by another process") && second.2.contains("--data-dir"), "{}", second.2);
    assert_eq!(cluster.stop().await, 0);

    let again = Cluster::start(home.path()).await;
    assert_eq!(reqwest::get(again.url("sample_url")).await.unwrap().status(), 200);
    let (_, versions, _) = again.run("versions hello -o json").await;
    let versions: Value = serde_json::from_str(&versions).unwrap();
    assert_eq!(versions.as_array().unwrap().len(), 1, "the sample is not deployed again");
    let (_, keys, _) = again.run("key list").await;
    assert!(keys.contains("till"), "{keys}");
    assert_eq!(again.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--functions", "--admin"] {
        let mut arguments = UP;
        let at = arguments.iter().position(|argument| *argument == flag).unwrap();
        arguments[at + 1] = &address;
        let (code, out, err) = ended(dunlin(home.path(), &arguments)).await;
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains(&address) && err.contains(flag), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_stays_on_loopback_and_wrong_settings_are_named() {
    let home = tempfile::tempdir().unwrap();
    let (code, _, err) =
        ended(dunlin(home.path(), &["up", "--admin", "0.0.0.0:0", "--functions", "127.0.0.1:0"])).await;
    assert!(code == 1 && err.contains("--admin 0.0.0.0:0 is beyond loopback"), "{err}");
    let (code, _, err) = ended(dunlin(home.path(), &["up", "--grace", "soon"])).await;
    assert!(code == 2 && err.contains("not a duration"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compiler_is_in_the_command_and_roles_have_help() {
    let home = tempfile::tempdir().unwrap();
    let (code, out, err) = ended(dunlin(home.path(), &["compile", "--fingerprint"])).await;
    assert!(code == 0 && out.contains("wasmtime-"), "{out}{err}");
    for role in ["gateway", "scheduler", "worker", "up"] {
        let (code, out, _) = ended(dunlin(home.path(), &[role, "--help"])).await;
        assert!(code == 0 && out.contains("--data-dir"), "{role}: {out}");
    }
    let (code, out, _) = ended(dunlin(home.path(), &["worker", "--dump-config", "--capacity", "7"])).await;
    assert!(code == 0 && out.contains("capacity = 7"), "{out}");
    let scheduler = ["scheduler", "operator-token", "--data-dir", "made", "--lifetime", "5m"];
    let (code, out, err) = ended(dunlin(home.path(), &scheduler)).await;
    assert!(code == 0 && out.split('.').count() == 3, "{out}{err}");
}
