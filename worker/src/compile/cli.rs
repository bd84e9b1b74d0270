//! The compiler as a program: reads a file, writes a file, prints one line of JSON. Its parent sets the limits of the process
//! and reads nothing but that line, the exit status and the output file.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser};
use serde_json::{Value, json};

use super::{CompileError, CompileErrorCode, CompileOptions, compile, fingerprint};
use crate::sandbox::CpuBaseline;

/// Compiles one artifact to native code.
#[derive(Debug, Clone, Args)]
pub struct CompileArgs {
    /// Prints the fingerprint of the code that these options make, and nothing else.
    #[arg(long, conflicts_with_all = ["input", "output"])]
    fingerprint: bool,
    /// The WebAssembly file.
    #[arg(long, required_unless_present = "fingerprint", requires = "output")]
    input: Option<PathBuf>,
    /// Where the compiled file goes; must not exist.
    #[arg(long, requires = "input")]
    output: Option<PathBuf>,
    /// The CPU to compile for: x86-64-v2 or x86-64-v3.
    #[arg(long, default_value_t)]
    cpu: CpuBaseline,
    /// Compiles for workers that do not offer WASI 0.3.
    #[arg(long)]
    no_wasi03: bool,
    /// Uses all cores instead of one.
    #[arg(long)]
    parallel: bool,
}

impl CompileArgs {
    /// Runs the command: one line of JSON on stdout, `{"ok": ...}` and exit status 0 or `{"error": ...}` and 1.
    pub fn run(&self) -> ExitCode {
        let (line, exit) = match self.answer() {
            Ok(ok) => (json!({ "ok": ok }), ExitCode::SUCCESS),
            Err(error) => (
                json!({ "error": { "code": error.code, "message": error.message, "hint": error.hint } }),
                ExitCode::FAILURE,
            ),
        };
        match writeln!(std::io::stdout(), "{line}") {
            Ok(()) => exit,
            Err(_) => ExitCode::FAILURE,
        }
    }

    fn answer(&self) -> Result<Value, CompileError> {
        let options = CompileOptions { cpu: self.cpu, wasi03: !self.no_wasi03, single_thread: !self.parallel };
        let (Some(input), Some(output)) = (&self.input, &self.output) else {
            return Ok(json!({ "fingerprint": fingerprint(&options)? }));
        };
        let wasm = fs::read(input).map_err(|error| file_error("read", input, &error))?;
        let compiled = compile(&wasm, &options)?;
        write_new(output, &compiled.bytes).map_err(|error| file_error("write", output, &error))?;
        Ok(json!({
            "kind": compiled.kind.to_string(),
            "imports": compiled.imports,
            "fingerprint": compiled.fingerprint,
            "size": compiled.bytes.len(),
        }))
    }
}

/// Writes a file that did not exist, to the disk.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn file_error(what: &str, path: &Path, error: &std::io::Error) -> CompileError {
    CompileError::new(CompileErrorCode::Internal, format!("cannot {what} {}: {error}", path.display()), "")
}

#[derive(Debug, Parser)]
#[command(name = "compile", about = "Compiles one artifact to native code")]
struct Cli {
    #[command(flatten)]
    args: CompileArgs,
}

/// The whole command, for programs that do not parse arguments themselves. The first argument is the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Ok(cli) => cli.args.run(),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { 2 } else { 0 })
        }
    }
}
