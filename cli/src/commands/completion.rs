//! `dunlin completion`: a script that completes this command's words in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{args::Cli, exit::Failure, output::Output};

/// Arguments of `dunlin completion`.
#[derive(Args)]
#[command(after_help = "For bash:  source <(dunlin completion bash)\nFor zsh:   dunlin completion zsh > \
                        \"${fpath[1]}/_dunlin\"\nFor fish:  dunlin completion fish | source")]
pub(crate) struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs it.
pub(crate) fn run(args: &CompletionArgs, output: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dunlin", &mut script);
    output.bytes(&script)
}
