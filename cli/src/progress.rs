//! Progress on standard error: a bar where a person watches, plain lines where nobody does, nothing where asked to be quiet.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{Output, Style, printable};

/// How fast the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Tells how a longer piece of work goes.
pub(crate) struct Progress {
    output: Output,
    terminal: bool,
    bar: ProgressBar,
}

impl Progress {
    /// Progress of a command that prints to `output`.
    pub(crate) fn new(output: Output) -> Self {
        Self { output, terminal: io::stderr().is_terminal(), bar: ProgressBar::hidden() }
    }

    /// Begins an upload of so many bytes; each piece is to be told with [`Progress::sent`].
    pub(crate) fn upload(&mut self, bytes: u64) {
        self.end_step();
        if !self.terminal || self.output.quiet {
            return self.output.note(format!("uploading {}", crate::units::size(bytes)));
        }
        self.bar = ProgressBar::new(bytes).with_message("uploading");
        self.style("{msg} [{bar:32}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}");
    }

    /// What tells that bytes have been sent.
    pub(crate) fn sent(&self) -> impl Fn(u64) + Send + 'static {
        let bar = self.bar.clone();
        move |bytes| bar.inc(bytes)
    }

    /// Enters the next step.
    pub(crate) fn step(&mut self, text: &str) {
        self.end_step();
        let text = printable(text).into_owned();
        if !self.terminal || self.output.quiet {
            return self.output.note(text);
        }
        self.bar = ProgressBar::new_spinner().with_message(text);
        self.style("{spinner} {msg} {elapsed}");
        self.bar.enable_steady_tick(TICK);
    }

    /// Says something between the steps.
    pub(crate) fn note(&self, text: &str) {
        self.bar.suspend(|| self.output.note(printable(text)));
    }

    /// Ends the last step.
    pub(crate) fn end(mut self) {
        self.end_step();
    }

    /// Leaves one line that the step is done.
    fn end_step(&mut self) {
        if self.bar.is_hidden() {
            return;
        }
        let (text, time) = (self.bar.message(), self.bar.elapsed());
        self.bar.finish_and_clear();
        let time = Style::of_stderr().faint(&crate::units::duration(time));
        self.output.note(format!("{text} {time}"));
        self.bar = ProgressBar::hidden();
    }

    fn style(&self, template: &str) {
        // The templates are fixed; one that could not be read would only look different.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
