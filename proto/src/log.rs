//! What is the same of log lines wherever they are shown: structured fields, and words for lines that are missing.

use serde_json::{Map, Value};

use crate::v1::{LogGap, LogGapReason};

/// Names under which guests write how serious a line is.
const LEVELS: [&str; 4] = ["level", "severity", "lvl", "levelname"];
/// The longest level, in bytes.
const MAX_LEVEL: usize = 16;

/// What a line says where it is a JSON object, nested 128 deep at the most; nothing for any other line.
pub fn fields(text: &str) -> Option<Map<String, Value>> {
    let text = text.trim_ascii();
    if !text.starts_with('{') { None } else { serde_json::from_str(text).ok() }
}

/// How serious a line with these fields is, in lower case, where it says so by a common name.
pub fn level(fields: &Map<String, Value>) -> Option<String> {
    let level = LEVELS.iter().find_map(|name| fields.get(*name)?.as_str())?;
    Some(level).filter(|level| !level.is_empty() && level.len() <= MAX_LEVEL).map(str::to_ascii_lowercase)
}

/// Why lines are missing, as one word.
pub fn reason(gap: &LogGap) -> &'static str {
    match gap.reason() {
        LogGapReason::Unspecified => "unknown",
        LogGapReason::Rate => "rate",
        LogGapReason::Disk => "disk",
        LogGapReason::Restart => "restart",
        LogGapReason::Removed => "removed",
        LogGapReason::Outcome => "outcome",
    }
}

/// Says that lines are missing, for people: a sentence without its full stop.
pub fn missing(gap: &LogGap) -> String {
    let lines = match gap.lines {
        0 => "lines may be missing here".to_owned(),
        1 => "1 line is missing here".to_owned(),
        lines => format!("{lines} lines are missing here"),
    };
    let worker = &gap.worker;
    match gap.reason() {
        LogGapReason::Unspecified => format!("{lines}: worker {worker} does not say why"),
        LogGapReason::Rate => format!("{lines}: worker {worker} got more than the namespace may write in a second"),
        LogGapReason::Disk => format!("{lines}: worker {worker} could not write to its disk"),
        LogGapReason::Restart => {
            format!("{lines}: worker {worker} ended without closing its log, and what came in its last 100 ms is lost")
        }
        LogGapReason::Removed => format!("{lines}: worker {worker} removed them to make room before they were read"),
        LogGapReason::Outcome => format!(
            "{lines}: a call on worker {worker} had not ended within a minute, or too many lines waited for the end of theirs"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_have_fields_and_depth_is_bounded() {
        assert_eq!(fields(r#" {"level":"WARN","n":1} "#).unwrap()["n"], 1);
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for text in ["", "plain", "[1]", "7", "{", "{}x", "{\"a\"}", &deep] {
            assert_eq!(fields(text), None, "{text}");
        }
    }

    #[test]
    fn a_level_is_found_by_its_common_names() {
        let of = |text| level(&fields(text).unwrap());
        assert_eq!(of(r#"{"level":"WARN"}"#).as_deref(), Some("warn"));
        assert_eq!(of(r#"{"severity":"error"}"#).as_deref(), Some("error"));
        assert_eq!(
            (of("{}"), of(r#"{"level":30}"#), of(r#"{"level":"much too long to be a level"}"#)),
            (None, None, None)
        );
    }

    #[test]
    fn a_gap_says_how_many_where_and_why() {
        let of = |lines, reason: LogGapReason| {
            missing(&LogGap { lines, reason: reason.into(), worker: "w1".into(), ..Default::default() })
        };
        assert_eq!(of(3, LogGapReason::Disk), "3 lines are missing here: worker w1 could not write to its disk");
        assert!(of(1, LogGapReason::Rate).starts_with("1 line is missing here: worker w1 got more"));
        assert!(
            of(2, LogGapReason::Outcome).starts_with("2 lines are missing here: a call on worker w1 had not ended")
        );
        assert!(of(0, LogGapReason::Restart).starts_with("lines may be missing here: worker w1 ended"));
    }
}
