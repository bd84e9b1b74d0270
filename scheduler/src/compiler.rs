//! Runs the compiler: a program of its own with limits on processor, memory, time and output, since artifacts are hostile
//! until they have been compiled (threats T20, T21). What it prints is checked; limits that it hits are the artifact's fault.

mod child;
mod queue;

use std::{path::Path, time::Duration};

use dunlin_proto::{ApiError, ErrorCode};
use serde::Deserialize;

use self::child::{ChildError, Program};
pub(crate) use self::{child::ChildLimits, queue::Queue};
use crate::model::Kind;

/// What the compiler says of an artifact that it compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompilerReport {
    pub(crate) kind: Kind,
    /// Sorted.
    pub(crate) imports: Vec<String>,
    /// The engine that can map the output.
    pub(crate) fingerprint: String,
    /// Size of the output in bytes.
    pub(crate) size: u64,
}

/// The program, and how it is run.
#[derive(Debug)]
pub(crate) struct Compiler {
    program: Program,
    limits: ChildLimits,
}

/// The line that the compiler prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Ok(LineOk),
    Error(LineError),
}

#[derive(Debug, Deserialize)]
struct LineOk {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    imports: Vec<String>,
    fingerprint: String,
    #[serde(default)]
    size: u64,
}

#[derive(Debug, Deserialize)]
struct LineError {
    #[serde(default)]
    code: String,
    message: String,
    #[serde(default)]
    hint: Option<String>,
}

impl Compiler {
    /// The compiler that is `program` with `args` before its `compile` command.
    pub(crate) fn new(program: &Path, args: &[String], limits: ChildLimits) -> Self {
        Self { program: Program { path: program.to_owned(), args: args.to_vec() }, limits }
    }

    /// Asks which engine it compiles for.
    pub(crate) async fn fingerprint(&self, workplace: &Path) -> Result<String, ApiError> {
        let limits = ChildLimits { wall: Duration::from_secs(20), ..self.limits.clone() };
        let ended = self.program.run(&["compile", "--fingerprint"], workplace, &limits).await;
        let stdout = ended.map_err(|error| self.broken(&error.to_string()))?;
        let text = String::from_utf8_lossy(&stdout);
        match last_line(&text) {
            Some(Ok(Line::Ok(ok))) if is_fingerprint(&ok.fingerprint) => Ok(ok.fingerprint),
            Some(Err(plain)) if is_fingerprint(plain) => Ok(plain.to_owned()),
            _ => Err(self.broken("it printed no fingerprint")),
        }
    }

    /// Compiles `input` into `output`, both in `workplace`.
    pub(crate) async fn compile(
        &self,
        workplace: &Path,
        input: &Path,
        output: &Path,
    ) -> Result<CompilerReport, ApiError> {
        let (input, target) = (input.to_string_lossy(), output.to_string_lossy());
        let args = ["compile", "--input", &*input, "--output", &*target];
        let stdout = match self.program.run(&args, workplace, &self.limits).await {
            Ok(stdout) => stdout,
            Err(error) => return Err(self.refusal(&error)),
        };
        let report = self.report(&String::from_utf8_lossy(&stdout))?;
        match tokio::fs::metadata(output).await {
            Ok(file) if file.len() == report.size && report.size > 0 => Ok(report),
            _ => Err(self.broken("its output is not what it said")),
        }
    }

    fn report(&self, stdout: &str) -> Result<CompilerReport, ApiError> {
        let ok = match last_line(stdout) {
            Some(Ok(Line::Ok(ok))) => ok,
            Some(Ok(Line::Error(error))) => return Err(self.told(error)),
            _ => return Err(self.broken("it printed something else than its answer")),
        };
        let kind = Kind::from_text(&ok.kind).ok_or_else(|| self.broken("it named a kind that does not exist"))?;
        if !is_fingerprint(&ok.fingerprint) || ok.imports.len() > 10_000 {
            return Err(self.broken("its answer is out of bounds"));
        }
        let mut imports = ok.imports;
        imports.sort_unstable();
        imports.dedup();
        Ok(CompilerReport { kind, imports, fingerprint: ok.fingerprint, size: ok.size })
    }

    /// An artifact that the compiler did not survive, or the error that it printed before it ended.
    fn refusal(&self, error: &ChildError) -> ApiError {
        if let ChildError::Failed { stdout, .. } = error
            && let Some(Ok(Line::Error(error))) = last_line(&String::from_utf8_lossy(stdout))
        {
            return self.told(error);
        }
        if !error.is_artifacts_fault() {
            return self.broken(&error.to_string());
        }
        tracing::warn!(cause = error.to_string(), output = error.stderr(), "the compiler did not survive an artifact");
        let message = format!("the artifact can't be compiled: {error}");
        ApiError::new(ErrorCode::InvalidArtifact, message)
            .hint("make the artifact smaller or simpler: build it in release mode, and leave out what it does not need")
    }

    /// What the compiler says of the artifact, or of trouble of its own.
    fn told(&self, error: LineError) -> ApiError {
        let error = error.into_api();
        if error.code == ErrorCode::Internal { self.broken(&error.message) } else { error }
    }

    /// The compiler itself does not work: nothing that a developer can repair.
    fn broken(&self, cause: &str) -> ApiError {
        tracing::error!(compiler = %self.program.path.display(), cause, "the compiler does not work");
        ApiError::new(ErrorCode::Unavailable, "the platform's compiler does not work")
            .hint("the operator finds the cause in the scheduler's log; --compiler names the program")
            .retry_after(Duration::from_secs(10))
    }
}

impl LineError {
    fn into_api(self) -> ApiError {
        let code = ErrorCode::from_text(&self.code).unwrap_or(ErrorCode::InvalidArtifact);
        let cut = |text: &str| text.chars().take(2000).collect::<String>();
        let error = ApiError::new(code, cut(&self.message));
        match self.hint.filter(|hint| !hint.is_empty()) {
            Some(hint) => error.hint(cut(&hint)),
            None => error,
        }
    }
}

/// The last line that is not empty, as an answer where it is one.
fn last_line(stdout: &str) -> Option<Result<Line, &str>> {
    let line = stdout.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(serde_json::from_str(line).map_err(|_| line))
}

fn is_fingerprint(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) && !text.starts_with('{')
}

#[cfg(test)]
mod tests;
