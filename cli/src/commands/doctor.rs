//! `dunlin doctor`: looks for what is wrong with a project and with the way to a cluster, and says the fix of each.
//!
//! It changes nothing. What it looks at is in `doctor/project.rs` and `doctor/cluster.rs`.

mod cluster;
mod project;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    manifest::FILE_NAME,
    output::{Output, Style, printable},
    session::Session,
};

/// Arguments of `dunlin doctor`.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Folder of a function, or its manifest; the present one where it has a manifest
    path: Option<PathBuf>,
    /// Look at the project only
    #[arg(long)]
    offline: bool,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warning,
    Failed,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    message: String,
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Ok, message: message.into(), fix: None }
    }

    fn warning(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, state: State::Warning, message: message.into(), fix: Some(fix.into()) }
    }

    fn failed(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, state: State::Failed, message: message.into(), fix: Some(fix.into()) }
    }

    /// What a command would have failed with.
    fn of(check: &'static str, failure: &Failure) -> Self {
        let (message, fix) = failure.parts();
        Self { check, state: State::Failed, message, fix }
    }
}

/// Runs it.
pub(crate) async fn run(args: DoctorArgs, session: &Session) -> Result<Exit, Failure> {
    let mut findings = Vec::new();
    let here = || PathBuf::from(".");
    if args.path.is_some() || here().join(FILE_NAME).is_file() {
        findings.extend(project::check(&args.path.unwrap_or_else(here)).await);
    }
    if !args.offline {
        findings.extend(cluster::check(session).await);
    }
    print(&findings, session.output)?;
    let failed = findings.iter().any(|finding| finding.state == State::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn print(findings: &[Finding], output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&findings);
    }
    output.text(&text(findings, Style::of_stdout()))?;
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    output.note(format!(
        "{} failed, {} to look at, {} fine",
        count(State::Failed),
        count(State::Warning),
        count(State::Ok)
    ));
    Ok(())
}

fn text(findings: &[Finding], style: Style) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Ok => style.good("ok     "),
            State::Warning => style.caution("warning"),
            State::Failed => style.bad("failed "),
        };
        text.push_str(&format!("{state}  {:width$}  {}\n", finding.check, printable(&finding.message)));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("         {:width$}  fix: {}\n", "", printable(fix)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_one_line_and_its_fix_another() {
        let findings = [Finding::ok("manifest", "fine"), Finding::failed("tool", "zig is missing", "install it")];
        assert_eq!(
            text(&findings, Style::PLAIN),
            "ok       manifest  fine\nfailed   tool      zig is missing\n                   fix: install it\n"
        );
    }
}
