//! How a command ends: the closed list of exit codes, and the failure that carries one with what a person needs to know.
//!
//! This is the one place where exit codes are listed; `dunlin --help` prints the list from here.

use std::{fmt, io, process::ExitCode};

use dunlin_proto::{ApiError, ErrorCode};
use serde_json::json;

use crate::output::{Style, printable};

macro_rules! exits {
    ($($(#[$doc:meta])* $variant:ident $number:literal $text:literal),+ $(,)?) => {
        /// Why a command ended as it did.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Exit {
            $($(#[$doc])* $variant = $number,)+
        }

        impl Exit {
            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];
        }

        /// The end of `dunlin --help`.
        pub(crate) const EXIT_CODES_HELP: &str = concat!(
            "Exit codes:\n",
            $("  ", $number, "  ", $text, "\n",)+
            "\nEnvironment: DUNLIN_URL, DUNLIN_TOKEN, DUNLIN_NAMESPACE, DUNLIN_CONTEXT, NO_COLOR.\n",
            "Data goes to standard output, everything else to standard error.",
        );
    };
}

exits! {
    /// Done.
    Ok 0 "done",
    /// It failed, for none of the reasons below.
    Failed 1 "failed, for none of the reasons below",
    /// The command line, the manifest or a local file is wrong.
    Usage 2 "the command line, the manifest or a local file is wrong",
    /// What it names does not exist.
    NotFound 3 "what it names does not exist",
    /// Not signed in, or not allowed.
    NotAuthorised 4 "not signed in, or not allowed",
    /// The cluster can't be reached, or can't take it now.
    Unreachable 5 "the cluster cannot be reached, or cannot take it now",
    /// The function was called and failed, or answered with status 400 or more.
    FunctionFailed 6 "the function failed, or answered with a status of 400 or more",
    /// The cluster refuses what was sent, such as an artifact it can't run.
    Refused 7 "the cluster refuses what was sent, such as an artifact that it cannot run",
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ErrorCode> for Exit {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Unauthenticated | ErrorCode::PermissionDenied => Self::NotAuthorised,
            ErrorCode::NotFound | ErrorCode::Gone | ErrorCode::Misdirected => Self::NotFound,
            ErrorCode::Unavailable | ErrorCode::TooManyRequests | ErrorCode::RequestTimeout | ErrorCode::WorkerLost => {
                Self::Unreachable
            }
            ErrorCode::FunctionFailed
            | ErrorCode::MemoryExceeded
            | ErrorCode::ResponseTooLarge
            | ErrorCode::DeadlineExceeded => Self::FunctionFailed,
            ErrorCode::InvalidArgument
            | ErrorCode::MethodNotAllowed
            | ErrorCode::AlreadyExists
            | ErrorCode::FailedPrecondition
            | ErrorCode::Changed
            | ErrorCode::PayloadTooLarge
            | ErrorCode::UriTooLong
            | ErrorCode::UnsupportedMediaType
            | ErrorCode::InvalidArtifact
            | ErrorCode::KeyReused
            | ErrorCode::HeadersTooLarge
            | ErrorCode::NotImplemented => Self::Refused,
            ErrorCode::Internal | ErrorCode::Cancelled => Self::Failed,
        }
    }
}

/// Why a command failed, for a person and for a script.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) exit: Exit,
    /// What was wrong and where.
    message: String,
    /// What caused it, the nearest cause first.
    causes: Vec<String>,
    /// What to do about it.
    hint: Option<String>,
    /// The code that the cluster gave.
    code: Option<ErrorCode>,
}

impl Failure {
    /// A failure with a message for people.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), hint: None, code: None }
    }

    /// The command line, the manifest or a local file is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Says what to do about it, unless something already does.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds what caused it.
    #[must_use]
    pub(crate) fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// The code that the cluster gave, where it was the cluster.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.code
    }

    /// The same failure, counted as another kind.
    #[must_use]
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// What was wrong with all its causes in one line, and what to do about it.
    pub(crate) fn parts(&self) -> (String, Option<String>) {
        let line = self.causes.iter().fold(self.message.clone(), |line, cause| format!("{line}: {cause}"));
        (line, self.hint.clone())
    }

    /// As lines for people. What others wrote has its control characters escaped.
    pub(crate) fn text(&self, style: Style) -> String {
        let mut text = format!("{} {}\n", style.bad("error:"), printable(&self.message));
        for cause in &self.causes {
            text.push_str(&format!("  because: {}\n", printable(cause)));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  {} {}\n", style.strong("hint:"), printable(hint)));
        }
        text
    }

    /// As an object for programs: what the platform's own errors look like over HTTP.
    pub(crate) fn json(&self) -> serde_json::Value {
        let code = self.code.map_or(
            match self.exit {
                Exit::Usage => "usage",
                Exit::Unreachable => "unreachable",
                _ => "failed",
            },
            ErrorCode::as_str,
        );
        json!({ "error": {
            "code": code, "message": self.message, "causes": self.causes, "hint": self.hint, "exit_code": self.exit as u8,
        } })
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let mut failure = Self::new(error.code.into(), error.message);
        failure.code = Some(error.code);
        failure.hint = standing_hint(error.code).map(str::to_owned).or(error.hint);
        failure
    }
}

/// What helps with an error of the cluster, where this command knows better than the cluster does.
fn standing_hint(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::Unauthenticated => Some("sign in with: dunlin login, or see: dunlin doctor"),
        _ => None,
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let mut failure = Self::new(Exit::Failed, error.to_string());
        failure.causes = error.chain().skip(1).map(ToString::to_string).collect();
        failure
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_exit_code_once() {
        for exit in Exit::ALL {
            let line = format!("\n  {}  ", *exit as u8);
            assert_eq!(EXIT_CODES_HELP.matches(&line).count(), 1, "{exit:?}");
        }
    }

    #[test]
    fn an_error_of_the_cluster_keeps_its_hint_and_becomes_an_exit_code() {
        let signed_out = Failure::from(ApiError::new(ErrorCode::Unauthenticated, "what").hint("do this"));
        assert_eq!(signed_out.exit as u8, 4);
        assert!(signed_out.text(Style::PLAIN).contains("dunlin login"));
        for (code, exit) in [
            (ErrorCode::NotFound, 3),
            (ErrorCode::Unavailable, 5),
            (ErrorCode::FunctionFailed, 6),
            (ErrorCode::DeadlineExceeded, 6),
            (ErrorCode::InvalidArtifact, 7),
            (ErrorCode::AlreadyExists, 7),
            (ErrorCode::Internal, 1),
        ] {
            let failure = Failure::from(ApiError::new(code, "what").hint("do this"));
            assert_eq!(failure.exit as u8, exit, "{code}");
            assert_eq!(failure.text(Style::PLAIN), "error: what\n  hint: do this\n");
            assert_eq!(failure.json()["error"]["code"], code.as_str());
        }
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        let text = Failure::new(Exit::Failed, "a\x1b[2Jb").because("c\rd").text(Style::PLAIN);
        assert!(!text.contains(['\x1b', '\r']), "{text:?}");
    }
}
