//! `dunlin logs`: what functions wrote to their standard output and error, and with `-f` what they go on to write.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use clap::Args;
use dunlin_proto::v1::{self, read_logs_response::Event};

use super::invocations::must_exist;
use crate::{
    client::{Client, answer, failure},
    exit::{Exit, Failure},
    output::{Format, Output, Style, printable},
    session::{FunctionArg, Session, scope_name},
    units,
    view::invocation::{LogGapView, LogLineView},
};

/// How long to wait before following again, when the connection broke.
const RETRY: Duration = Duration::from_secs(1);

/// Arguments of `dunlin logs`.
#[derive(Args)]
pub(crate) struct LogsArgs {
    /// Function, as NAME or NAMESPACE/NAME; all of the namespace when left out
    name: Option<FunctionArg>,
    /// Go on with new lines until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only lines from this time on: a duration such as 5m, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_parser = since)]
    since: Option<SystemTime>,
    /// The last so many lines
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    lines: u32,
    /// Only lines of the invocation with this id, or with this X-Request-Id of the caller's
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    request_id: String,
    /// Only lines that contain this text
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    search: String,
    /// Only lines of this version
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    /// Only lines of calls that ended with this status, such as 404, or of this class, such as 5xx, as far as they are recorded; with
    /// -f they come once their call has ended
    #[arg(long, default_value = "", hide_default_value = true)]
    status: String,
    /// Only lines that this worker wrote
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    worker: String,
    /// Go on after the line that had this cursor in -o json
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "since")]
    cursor: String,
}

fn since(text: &str) -> Result<SystemTime, String> {
    units::parse_since(text, SystemTime::now())
}

/// Runs it.
pub(crate) async fn run(args: LogsArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let mut request = v1::ReadLogsRequest {
        parent: scope_name(args.name.as_ref(), client.target()),
        follow: args.follow,
        since: args.since.map(Into::into),
        lines: args.lines,
        request_id: args.request_id,
        search: args.search,
        version: args.version.unwrap_or_default(),
        worker: args.worker,
        status: args.status,
        cursor: args.cursor,
    };
    // Where calls come one by one, the lines of a worker are not in its order.
    let mut seen = Seen { is_in_order: request.status.is_empty(), ..Seen::default() };
    let printer = Printer { output: session.output, style: Style::of_stdout(), named: args.name.is_some() };
    if args.follow
        && let Some(failure) = missing(&client, args.name.as_ref()).await
    {
        let (missing, _) = failure.parts();
        session.output.warn(format!("warning: {}; waiting for its lines all the same", printable(&missing)));
    }
    loop {
        match read(&client, &mut request, &printer, &mut seen).await {
            Err(failure) if args.follow && failure.exit == Exit::Unreachable => {
                session.output.note("the connection broke; following again");
            }
            Ok(()) if args.follow => {}
            Ok(()) if seen.is_empty() => return missing(&client, args.name.as_ref()).await.map_or(Ok(()), Err),
            ended => return ended,
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Says that there is nothing of the name, where that is known: without the scheduler, nobody can say.
async fn missing(client: &Client, name: Option<&FunctionArg>) -> Option<Failure> {
    must_exist(client, name).await.err().filter(|failure| failure.exit == Exit::NotFound)
}

/// Prints lines until the stream ends; `request` then goes on after them.
async fn read(
    client: &Client,
    request: &mut v1::ReadLogsRequest,
    printer: &Printer,
    seen: &mut Seen,
) -> Result<(), Failure> {
    let mut stream = answer(client.logs().read_logs(request.clone()).await)?;
    while let Some(v1::ReadLogsResponse { event, cursor }) = stream.message().await.map_err(failure)? {
        if !cursor.is_empty() {
            request.cursor.clone_from(&cursor);
            request.since = None;
        }
        match event {
            Some(Event::Line(line)) if seen.is_new(&line.worker, (line.boot, line.sequence)) => {
                printer.line(&LogLineView { cursor, ..LogLineView::from(line) })?;
            }
            Some(Event::Gap(gap)) if seen.is_new(&gap.worker, (gap.boot, gap.sequence)) => {
                printer.gap(&LogGapView::new(gap, cursor))?;
            }
            Some(Event::UnreachableWorker(worker)) => printer
                .output
                .warn(format!("warning: {} did not answer; its lines are missing here", printable(&worker))),
            Some(Event::Line(_) | Event::Gap(_)) | None => {}
        }
    }
    Ok(())
}

/// What was printed: the last line of each worker. Not every response has a cursor, so that a few lines may come again.
#[derive(Debug, Default)]
struct Seen {
    last: HashMap<String, (u64, u64)>,
    is_in_order: bool,
}

impl Seen {
    /// Whether no worker told anything.
    fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Whether what a worker tells is new; a worker that does not number its lines tells nothing old.
    fn is_new(&mut self, worker: &str, place: (u64, u64)) -> bool {
        let last = self.last.entry(worker.to_owned()).or_default();
        let new = !self.is_in_order || place == (0, 0) || place > *last;
        *last = place.max(*last);
        new
    }
}

/// How lines are printed.
struct Printer {
    output: Output,
    style: Style,
    /// Whether all lines are of one function, which then need not be repeated.
    named: bool,
}

impl Printer {
    fn line(&self, line: &LogLineView) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.output.json_line(line);
        }
        self.output.text(&text(line, self.style, self.named, self.output.format == Format::Wide))
    }

    fn gap(&self, gap: &LogGapView) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.output.json_line(gap);
        }
        let time = gap.time.map(crate::view::Time::text).unwrap_or_default();
        let text = format!("[{}]", printable(&gap.text));
        self.output.text(&format!("{} {}\n", self.style.faint(&time), self.style.caution(&text)))
    }
}

/// A line for people: time, version, invocation (its last 12 digits, or all of them), text.
fn text(line: &LogLineView, style: Style, named: bool, wide: bool) -> String {
    let time = line.time.map(crate::view::Time::text).unwrap_or_default();
    let function = if named { String::new() } else { format!("{}@", printable(&line.function)) };
    let id = line.invocation.get(if wide { 0 } else { 24 }..).unwrap_or(&line.invocation);
    let worker = if wide { format!(" {}", printable(&line.worker)) } else { String::new() };
    let head = style.faint(&format!("{time} {function}v{} {}{worker}", line.version, printable(id)));
    let body = printable(&line.text);
    let body = if line.stream == "stderr" { style.caution(&body) } else { body.into_owned() };
    let dropped = match line.dropped_bytes {
        0 => String::new(),
        bytes => format!("{head} {}\n", style.caution(&format!("[{} dropped, over the limit]", units::size(bytes)))),
    };
    format!("{dropped}{head} {body}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Time;

    fn line() -> LogLineView {
        LogLineView {
            time: Some(Time(SystemTime::UNIX_EPOCH)),
            namespace: "shop".into(),
            function: "a".into(),
            version: 3,
            invocation: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".into(),
            stream: "stdout",
            text: "hi\x1b[2J".into(),
            worker: "w1".into(),
            dropped_bytes: 0,
            boot: 7,
            sequence: 1,
            fields: None,
            level: None,
            cursor: String::new(),
        }
    }

    #[test]
    fn what_was_printed_is_not_printed_again() {
        let mut seen = Seen { is_in_order: true, ..Seen::default() };
        let places = [(1, 1), (1, 2), (1, 2), (1, 1), (2, 0), (2, 1), (2, 1), (0, 0)];
        assert_eq!(places.map(|place| seen.is_new("w1", place)), [true, true, false, false, true, true, false, true]);
        assert!(seen.is_new("w2", (1, 1)));
        let mut by_call = Seen::default();
        assert_eq!([(1, 3), (1, 1)].map(|place| by_call.is_new("w1", place)), [true, true]);
    }

    #[test]
    fn a_line_cannot_steer_the_terminal() {
        assert_eq!(text(&line(), Style::PLAIN, true, false), "1970-01-01T00:00:00.000Z v3 3f1f6d1c1a2b hi\\u{1b}[2J\n");
        assert_eq!(
            text(&line(), Style::PLAIN, false, true),
            "1970-01-01T00:00:00.000Z a@v3 0198c5b2-7a43-7000-8000-3f1f6d1c1a2b w1 hi\\u{1b}[2J\n"
        );
    }

    #[test]
    fn dropped_output_is_told() {
        let text = text(&LogLineView { dropped_bytes: 2_048, ..line() }, Style::PLAIN, true, false);
        assert!(text.contains("[2 KiB dropped, over the limit]\n"), "{text}");
    }
}
