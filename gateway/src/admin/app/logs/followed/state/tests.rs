use std::time::Duration;

use dunlin_proto::v1::LogGap;

use super::*;

fn at(sequence: u64) -> LogPosition {
    LogPosition { boot: 1, sequence }
}

/// A line at this second.
fn line(call: InvocationId, sequence: u64) -> LogLine {
    LogLine {
        worker: "w1".to_owned(),
        boot: 1,
        sequence,
        invocation: call.to_string(),
        text: sequence.to_string(),
        time: Some(prost_types::Timestamp { seconds: sequence.cast_signed(), nanos: 0 }),
        ..Default::default()
    }
}

fn following(cursor: Cursor) -> Following {
    Following::new(500..=599, cursor)
}

/// What is handed out: texts of lines, and for a gap the lines that it stands for.
fn texts(responses: &[ReadLogsResponse]) -> Vec<String> {
    let text = |response: &ReadLogsResponse| match response.event.clone().unwrap() {
        read_logs_response::Event::Line(line) => line.text,
        read_logs_response::Event::Gap(gap) => format!("-{}", gap.lines),
        read_logs_response::Event::UnreachableWorker(name) => format!("!{name}"),
    };
    responses.iter().map(text).collect()
}

fn last(responses: &[ReadLogsResponse]) -> Cursor {
    Cursor::parse(&responses.last().unwrap().cursor).unwrap()
}

fn take(following: &mut Following, calls: &[InvocationId]) {
    for (sequence, call) in (1..).zip(calls) {
        following.take(Event::Line(line(*call, sequence)), Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_goes_on_gets_what_it_has_not_had_and_nothing_twice() {
    let [bad, good, slow] = [(); 3].map(|()| InvocationId::new());
    let lines = [slow, bad, good, bad];
    let mut first = following(Cursor::new(0));
    take(&mut first, &lines);
    assert!(first.flush(Instant::now()).is_empty(), "nobody has ended");
    first.ended(vec![(bad, 502), (good, 200)]);
    let responses = first.flush(Instant::now());
    assert_eq!(texts(&responses), ["2", "4"]);
    // With the cursor of any response it goes on after that one: what waits is read again, what was handed out is left out.
    for (cursor, expected) in [(&responses[0], vec!["4", "1"]), (&responses[1], vec!["1"])] {
        let mut again = following(Cursor::parse(&cursor.cursor).unwrap());
        take(&mut again, &lines);
        again.ended(vec![(bad, 502), (good, 200)]);
        let mut told = texts(&again.flush(Instant::now()));
        again.ended(vec![(slow, 500)]);
        let responses = again.flush(Instant::now());
        told.extend(texts(&responses));
        assert_eq!(told, expected);
        assert_eq!((last(&responses).place("w1"), last(&responses).calls()), (Some(at(4)), 0), "nothing waits");
    }
}

#[tokio::test(start_paused = true)]
async fn gaps_come_at_once_and_once() {
    let slow = InvocationId::new();
    let gap = || Event::Gap(LogGap { worker: "w1".to_owned(), boot: 1, sequence: 4, lines: 3, ..Default::default() });
    let mut first = following(Cursor::new(0));
    take(&mut first, &[slow]);
    first.take(gap(), Instant::now());
    let responses = first.flush(Instant::now());
    assert_eq!(texts(&responses), ["-3"]);
    let mut again = following(last(&responses));
    take(&mut again, &[slow]);
    again.take(gap(), Instant::now());
    assert!(again.flush(Instant::now()).is_empty());
    again.ended(vec![(slow, 500)]);
    assert_eq!(texts(&again.flush(Instant::now())), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_vain_is_a_gap_and_so_is_what_keeps_a_cursor_from_being_small() {
    let slow = InvocationId::new();
    let mut late = following(Cursor::new(0));
    take(&mut late, &[slow, slow]);
    tokio::time::advance(Duration::from_secs(60)).await;
    let responses = late.flush(Instant::now());
    assert_eq!((texts(&responses), last(&responses).place("w1")), (vec!["-2".to_owned()], Some(at(2))));
    let mut many = following(Cursor::new(0));
    let failed: Vec<_> = (0..=MOST_CALLS).map(|_| InvocationId::new()).collect();
    take(&mut many, &[&[slow], &failed[..]].concat());
    many.ended(failed.iter().map(|call| (*call, 500)).collect());
    let responses = many.flush(Instant::now());
    assert_eq!(texts(&responses).iter().filter(|text| *text == "-1").count(), 1);
    assert_eq!((responses.len(), last(&responses).calls()), (MOST_CALLS + 2, 0));
    assert!(responses.iter().all(|response| response.cursor.len() < 12_000));
}

#[tokio::test(start_paused = true)]
async fn what_there_was_comes_first_and_not_again() {
    let [old, bad, running] = [(); 3].map(|()| InvocationId::new());
    let mut past = Past::new(SystemTime::UNIX_EPOCH + Duration::from_secs(3), vec!["g2".to_owned()]);
    let mut read = Cursor::new(0);
    read.advance("w1", at(5));
    let event = |line| Some(read_logs_response::Event::Line(line));
    let response = |event| ReadLogsResponse { event, cursor: read.text() };
    past.read([old, bad].into(), vec![response(event(line(old, 2))), response(event(line(bad, 5))), response(None)]);
    let mut following = following(Cursor::new(3_000_000));
    let responses = following.past(past);
    assert_eq!(texts(&responses), ["!g2", "2", "5"]);
    assert_eq!(last(&responses).calls(), 1, "the line that is read again");
    // The last minute is read again, for the sake of calls that run.
    for (call, sequence) in [(bad, 3), (running, 4), (bad, 5), (bad, 6)] {
        following.take(Event::Line(line(call, sequence)), Instant::now());
    }
    following.ended(vec![(bad, 500), (running, 500)]);
    assert_eq!(texts(&following.flush(Instant::now())), ["4", "6"]);
}
