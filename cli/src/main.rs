//! The `dunlin` command: develop, deploy and operate through a cluster's public API, or be a cluster with `dunlin up`.
//!
//! It is an honest client: nothing here goes around the API, not even the sample that `dunlin up` deploys. Commands are
//! in `commands/`, one file each; what they print is in `view/` and `output.rs`; how they end is in `exit.rs`.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::bare_urls,
    reason = "comments of arguments are help texts, not Markdown"
)]

mod args;
mod artifact;
mod client;
mod commands;
mod context;
mod deploy;
mod exit;
mod manifest;
mod output;
mod progress;
mod project;
mod session;
mod templates;
mod units;
mod up;
mod view;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // The compiler that the scheduler runs has arguments of its own, which are nobody's to type.
    let arguments = std::env::args_os();
    if std::env::args_os().nth(1).is_some_and(|first| first == "compile") {
        return dunlin_worker::compile::main(arguments.skip(1));
    }
    commands::run(args::Cli::parse())
}
