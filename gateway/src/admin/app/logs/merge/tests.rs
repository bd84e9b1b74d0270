use super::*;

fn of(worker: &str, sequence: u64, seconds: i64, text: &str) -> Event {
    let time = Some(prost_types::Timestamp { seconds, nanos: 0 });
    let (worker, text) = (worker.to_owned(), text.to_owned());
    Event::Line(LogLine { time, worker, boot: 1, sequence, text, ..Default::default() })
}

fn line(seconds: i64, text: &str) -> Event {
    of(text, 1, seconds, text)
}

fn merge(keep: Keep) -> Merge {
    Merge::new(keep, Cursor::new(0))
}

fn text(response: ReadLogsResponse) -> String {
    match response.event.unwrap() {
        read_logs_response::Event::Line(line) => line.text,
        read_logs_response::Event::UnreachableWorker(worker) => format!("!{worker}"),
        read_logs_response::Event::Gap(gap) => format!("-{}", gap.lines),
    }
}

fn texts(merge: &mut Merge) -> Vec<String> {
    merge.flush().into_iter().map(text).collect()
}

fn place(text: &str, worker: &str) -> Option<(u64, u64)> {
    Cursor::parse(text).unwrap().place(worker).map(|place| (place.boot, place.sequence))
}

#[test]
fn lines_of_several_workers_come_out_in_order_and_only_the_last() {
    let mut merge = merge(Keep::Last(4));
    for event in [line(1, "a"), line(3, "c"), line(5, "e"), line(2, "b"), line(5, "f"), line(4, "d")] {
        merge.push(event);
    }
    merge.push(Event::Unreachable("w2".to_owned()));
    assert_eq!(texts(&mut merge), ["!w2", "c", "d", "e", "f"]);
    assert!(texts(&mut merge).is_empty());
    assert_eq!(
        place(&merge.place().cursor, "a"),
        Some((1, 1)),
        "what was left out at the beginning does not come again"
    );
}

#[test]
fn what_one_worker_tells_stays_in_its_order_whatever_its_clock_says() {
    let mut merge = merge(Keep::All);
    merge.push(of("w1", 1, 9, "a"));
    merge.push(Event::Gap(LogGap { worker: "w1".to_owned(), lines: 3, boot: 1, sequence: 4, ..Default::default() }));
    merge.push(of("w1", 5, 3, "b"));
    merge.push(of("w2", 1, 1, "early"));
    assert_eq!(texts(&mut merge), ["a", "-3", "early", "b"]);
}

#[test]
fn each_response_says_where_to_go_on() {
    let mut merge = merge(Keep::All);
    merge.push(of("w1", 3, 1, "a"));
    merge.push(of("w2", 8, 2, "b"));
    merge.push(Event::Position("w1".to_owned(), LogPosition { boot: 1, sequence: 6 }));
    let responses = merge.flush();
    assert_eq!((place(&responses[0].cursor, "w1"), place(&responses[0].cursor, "w2")), (Some((1, 3)), Some((1, 7))));
    assert_eq!(
        place(&responses[1].cursor, "w1"),
        Some((1, 6)),
        "the last one has the place beyond what does not match"
    );
    assert_eq!(place(&responses[1].cursor, "w2"), Some((1, 8)));
}

#[test]
fn a_page_ends_after_so_many_lines_and_the_next_one_goes_on_there() {
    let mut merge = merge(Keep::First(2));
    for event in
        [of("w1", 1, 1, "a"), of("w1", 2, 4, "d"), of("w2", 1, 2, "b"), of("w1", 3, 1, "late"), of("w2", 2, 9, "z")]
    {
        merge.push(event);
    }
    merge.push(Event::Position("w1".to_owned(), LogPosition { boot: 1, sequence: 3 }));
    let last = merge.flush().pop().unwrap().cursor;
    assert_eq!((place(&last, "w1"), place(&last, "w2")), (Some((1, 1)), Some((1, 1))));
}

#[test]
fn memory_is_bounded_whether_lines_may_be_dropped_or_not() {
    let long = "x".repeat(1 << 20);
    let mut merge = merge(Keep::Last(10_000));
    (0..40).for_each(|second| merge.push(of("w", second, second as i64, &long)));
    assert_eq!(merge.flush().len(), 15);
    merge.unbound();
    let mut pushed = 0;
    while !merge.is_full() {
        merge.push(line(1, &long));
        pushed += 1;
    }
    assert_eq!((pushed, merge.flush().len()), (16, 16));
}
