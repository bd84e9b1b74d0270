use dunlin_proto::{ids::VersionNumber, v1::ReadLogsRequest};

use super::*;
use crate::logs::line::Line;

/// The call that began so many seconds after 1970.
fn call(second: u64) -> InvocationId {
    InvocationId::first_at(moment(second * 1_000_000))
}

fn line(second: u64, invocation: InvocationId, text: &str) -> Line {
    Line {
        time: second * 1_000_000,
        boot: 1,
        sequence: second,
        function: "pay".parse().unwrap(),
        version: VersionNumber::FIRST,
        invocation,
        request_id: String::new(),
        stderr: false,
        text: text.to_owned(),
        dropped_bytes: 0,
    }
}

/// A namespace's files with these lines, the oldest first.
fn files(files: &[Vec<Line>]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("shop")).unwrap();
    for (number, lines) in (1..).zip(files) {
        let text = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect::<String>();
        std::fs::write(folder.path().join(format!("shop/{number:010}.jsonl")), text).unwrap();
    }
    folder
}

fn query(search: &str) -> ReadLogsRequest {
    ReadLogsRequest { parent: "namespaces/shop".to_owned(), search: search.to_owned(), ..Default::default() }
}

fn search(folder: &Path, wire: ReadLogsRequest, before: Option<InvocationId>, most: usize) -> Search {
    Search::new(folder, wire.try_into().unwrap(), before, most).unwrap()
}

fn whole(mut search: Search) -> Found {
    while search.has_more() {
        search.step().unwrap();
    }
    search.found()
}

fn found(seconds: &[u64], complete_from: Option<u64>) -> Found {
    Found { invocations: seconds.iter().map(|second| call(*second)).collect(), complete_from: complete_from.map(call) }
}

#[test]
fn a_call_is_found_however_many_newer_lines_have_the_same_text() {
    let of_another = |from: u64| (from..from + 1_500).map(|second| line(second, call(5_000), "it failed")).collect();
    let folder = files(&[vec![line(10, call(9), "it failed")], of_another(5_001), of_another(7_000)]);
    assert_eq!(whole(search(folder.path(), query("it failed"), None, 100)), found(&[5_000, 9], None));
    assert_eq!(whole(search(folder.path(), query("it worked"), None, 100)), found(&[], None));
}

#[test]
fn of_too_many_the_newest_stay_and_it_is_said_from_where_on_they_are_all_there() {
    let lines = (10..20).map(|second| line(second, call(second), "x")).collect();
    let folder = files(&[lines]);
    let first = whole(search(folder.path(), query("x"), None, 4));
    assert_eq!(first, found(&[19, 18, 17, 16], Some(16)));
    let next = whole(search(folder.path(), query("x"), first.complete_from, 4));
    assert_eq!(next, found(&[15, 14, 13, 12], Some(12)));
    assert_eq!(whole(search(folder.path(), query("x"), next.complete_from, 4)), found(&[11, 10], None));
}

#[test]
fn older_files_are_not_read_once_nothing_in_them_can_be_newer() {
    let folder = files(&[vec![line(10, call(10), "x")], vec![line(100, call(100), "x"), line(101, call(101), "x")]]);
    let mut search = search(folder.path(), query("x"), None, 1);
    search.step().unwrap();
    assert!(search.has_more(), "the file begins before the call that is kept, by less than clocks differ");
    search.step().unwrap();
    assert_eq!(search.found(), found(&[101], Some(101)));
    let folder = files(&[vec![line(10, call(10), "x")], vec![line(90, call(89), "y"), line(101, call(100), "x")]]);
    let mut search = self::search(folder.path(), query("x"), None, 1);
    search.step().unwrap();
    assert!(!search.has_more());
    assert_eq!(search.found(), found(&[100], Some(100)));
}

#[test]
fn who_stops_early_learns_from_when_on_all_lines_were_looked_at() {
    let folder = files(&[vec![line(10, call(9), "x")], vec![line(50, call(3), "x"), line(60, call(60), "x")]]);
    let mut search = search(folder.path(), query("x"), None, 9);
    search.step().unwrap();
    // A call that began later than that has no line before, whatever the clocks say.
    assert_eq!(search.found(), found(&[60, 3], Some(52)));
}

#[test]
fn only_what_can_be_of_earlier_calls_is_read_and_nothing_before_the_time_that_is_asked_for() {
    let late = 100 + LONGEST_CALL.as_secs() + 1;
    let folder = files(&[vec![line(10, call(9), "x")], vec![line(99, call(98), "x")], vec![line(late, call(97), "x")]]);
    let earlier = whole(search(folder.path(), query("x"), Some(call(100)), 9));
    assert_eq!(earlier, found(&[98, 9], None), "a call can't have lasted for so long");
    assert_eq!(whole(search(folder.path(), query("x"), Some(call(98)), 9)), found(&[9], None));
    let since = ReadLogsRequest { since: Some(moment(50_000_000).into()), ..query("x") };
    assert_eq!(whole(search(folder.path(), since, None, 9)), found(&[98, 97], None));
}

#[test]
fn what_is_escaped_in_files_is_found_as_it_was_written() {
    let texts = ["say \"no\"", "back\\slash", "tab\tand \u{1b}[31m", "überall", "plain"];
    let lines = (1..).zip(texts).map(|(second, text)| line(second, call(second), text)).collect();
    let folder = files(&[lines]);
    for (second, text) in (1..).zip(texts) {
        assert_eq!(whole(search(folder.path(), query(text), None, 9)), found(&[second], None), "{text}");
    }
    let function = whole(search(folder.path(), query("\"function\""), None, 9));
    assert_eq!(function, found(&[], None), "what is around a line's text is none of it");
    assert_eq!(whole(search(folder.path(), query("nothing"), None, 9)), found(&[], None));
}
