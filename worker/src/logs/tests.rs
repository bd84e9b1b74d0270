use std::{path::Path, time::SystemTime};

use dunlin_proto::{
    ids::{InvocationId, VersionNumber},
    model::Retention,
    v1::ReadLogsRequest,
};
use tokio::sync::broadcast::error::TryRecvError;

use super::{
    line::{Entry, Line, Mark, Why},
    read::{Query, Reading},
    track::Item,
    *,
};
use crate::sandbox::{LogRecord, LogStream};

const LIMITS: LogLimits = LogLimits {
    total_bytes: 1 << 20,
    namespace_bytes: 256 << 10,
    rate_bytes: 64 << 10,
    max_age: Duration::from_secs(3_600),
};

fn open(folder: &Path, limits: LogLimits) -> Logs {
    Logs::open(folder.to_owned(), limits).unwrap()
}

fn source(function: &str) -> Source {
    Source {
        function: function.parse().unwrap(),
        version: VersionNumber::FIRST,
        invocation: InvocationId::new(),
        request_id: String::new(),
    }
}

fn record(text: impl Into<String>) -> LogRecord {
    LogRecord { stream: LogStream::Stdout, text: text.into(), time: SystemTime::now(), truncated_bytes: 0 }
}

fn tenant(logs: &Logs, namespace: &str) -> Arc<Tenant> {
    logs.tenant(&namespace.parse().unwrap())
}

/// What a reader finds, as a process that starts now would say it.
fn items(folder: &Path, parent: &str, change: impl FnOnce(&mut ReadLogsRequest)) -> Vec<Item> {
    let mut wire = ReadLogsRequest { parent: parent.into(), lines: 10_000, ..ReadLogsRequest::default() };
    change(&mut wire);
    let mut reading = Reading::last(folder, Query::try_from(wire).unwrap(), u64::MAX).unwrap();
    let mut items = Vec::new();
    loop {
        let chunk = reading.chunk().unwrap();
        items.extend(chunk.items);
        if !chunk.more {
            break;
        }
    }
    items.extend(reading.settle());
    items
}

fn read(folder: &Path, parent: &str, change: impl FnOnce(&mut ReadLogsRequest)) -> Vec<Line> {
    let line = |item| if let Item::Line(line) = item { Some(line) } else { None };
    items(folder, parent, change).into_iter().filter_map(line).collect()
}

fn gaps(folder: &Path, parent: &str) -> Vec<Mark> {
    let gap = |item| if let Item::Gap(gap) = item { Some(gap) } else { None };
    items(folder, parent, |_| {}).into_iter().filter_map(gap).collect()
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// Waits for what the writer's thread brings about.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn lines_keep_their_order_over_restarts_and_torn_ends() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let logs = open(folder.path(), LIMITS);
        for line in 0..10 {
            tenant(&logs, "shop").offer(&source("pay"), record(format!("{round}.{line}")));
        }
        logs.close().await;
        let (_, last) = segments::list(&folder.path().join("shop")).unwrap().pop().unwrap();
        let torn = [std::fs::read(&last).unwrap(), b"{\"time\":12,\"func".to_vec()].concat();
        std::fs::write(last, torn).unwrap();
    }
    let found = read(folder.path(), "namespaces/shop", |_| {});
    let expected: Vec<String> = (0..30).map(|n| format!("{}.{}", n / 10, n % 10)).collect();
    assert_eq!(texts(&found), expected);
    assert!(found.is_sorted_by(|a, b| a.time < b.time));
    assert_eq!(
        found.iter().map(|line| line.sequence).collect::<Vec<_>>(),
        std::iter::repeat_n(1..=10, 3).flatten().collect::<Vec<_>>()
    );
    assert!(found.is_sorted_by(|a, b| (a.boot, a.sequence) < (b.boot, b.sequence)));
    assert_eq!(gaps(folder.path(), "namespaces/shop"), [], "each process has closed its log");
    let last = read(folder.path(), "namespaces/shop", |query| query.lines = 3);
    assert_eq!(texts(&last), ["2.7", "2.8", "2.9"]);
}

#[tokio::test]
async fn questions_find_what_they_ask_for_and_no_other_tenants_lines() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path(), LIMITS);
    let (one, two) = (source("pay"), Source { request_id: "order-7".into(), ..source("ship") });
    for (namespace, source, text) in
        [("shop", &one, "paid"), ("shop", &two, "shipped it"), ("bank", &one, "secret"), ("shop", &one, "refunded")]
    {
        tenant(&logs, namespace).offer(source, record(text));
    }
    logs.close().await;
    let ask = |parent: &str, change: fn(&mut ReadLogsRequest)| texts(&read(folder.path(), parent, change)).join(",");
    assert_eq!(ask("namespaces/shop", |_| {}), "paid,shipped it,refunded");
    assert_eq!(ask("namespaces/shop/functions/pay", |_| {}), "paid,refunded");
    assert_eq!(ask("namespaces/shop", |query| query.request_id = "order-7".into()), "shipped it");
    assert_eq!(ask("namespaces/shop", |query| query.search = "ed".into()), "shipped it,refunded");
    assert_eq!(ask("namespaces/bank", |query| query.request_id = "order-7".into()), "");
    assert_eq!(ask("namespaces/nobody", |_| {}), "");
    let by_id = read(folder.path(), "namespaces/shop", |query| query.request_id = one.invocation.to_string());
    assert_eq!(texts(&by_id), ["paid", "refunded"]);
    let since = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(by_id[1].time);
    let found = read(folder.path(), "namespaces/shop", |query| query.since = Some(since.into()));
    assert_eq!(texts(&found), ["refunded"]);
    let after = since + std::time::Duration::from_nanos(1);
    assert!(read(folder.path(), "namespaces/shop", |query| query.since = Some(after.into())).is_empty());
}

#[tokio::test]
async fn what_is_missing_among_lines_that_nobody_asks_for_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path(), LogLimits { rate_bytes: 4 << 10, ..LIMITS });
    let loud = tenant(&logs, "shop");
    for _ in 0..3 {
        (0..20).for_each(|_| loud.offer(&source("pay"), record("x".repeat(1000))));
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    loud.offer(&source("ship"), record("shipped"));
    logs.close().await;
    assert!(gaps(folder.path(), "namespaces/shop").len() >= 3);
    let lost: u64 = gaps(folder.path(), "namespaces/shop").iter().map(|gap| gap.lines).sum();
    let of_ship = gaps(folder.path(), "namespaces/shop/functions/ship");
    assert_eq!(of_ship.iter().map(|gap| gap.lines).collect::<Vec<_>>(), [lost]);
}

#[tokio::test]
async fn t09_a_flood_is_cut_counted_and_pushes_out_nobody_elses_lines() {
    let folder = tempfile::tempdir().unwrap();
    let limits = LogLimits { total_bytes: 300 << 10, rate_bytes: 1 << 20, ..LIMITS };
    let logs = open(folder.path(), limits);
    tenant(&logs, "quiet").offer(&source("f"), record("still here"));
    let (loud, line) = (tenant(&logs, "loud"), "x".repeat(1000));
    let mut offered = 0_u64;
    for round in 0..20 {
        for _ in 0..500 {
            loud.offer(&source("f"), record(line.clone()));
            offered += 1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(if round == 10 { 300 } else { 5 })).await;
    }
    // Until there is room for it: the writer may have stood still as well.
    for attempt in 0.. {
        assert!(attempt < 100, "there is never room");
        let (_, dropped, _) = logs.counted();
        loud.offer(&source("f"), record("the last"));
        offered += 1;
        if logs.counted().1 == dropped {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    logs.close().await;
    assert_eq!(texts(&read(folder.path(), "namespaces/quiet", |_| {})), ["still here"]);
    let found = read(folder.path(), "namespaces/loud", |_| {});
    assert_eq!(found.last().unwrap().text, "the last");
    assert_eq!(found.last().unwrap().sequence, offered, "dropped lines are counted");
    let (_, dropped, _) = logs.counted();
    assert!(dropped > 1000 && dropped < offered, "{dropped} of {offered} dropped");
    let places = items(folder.path(), "namespaces/loud", |_| {}).into_iter().map(|item| match item {
        Item::Line(line) => (line.sequence, line.sequence),
        Item::Gap(gap) => (gap.sequence + 1 - gap.lines, gap.sequence),
    });
    let places: Vec<_> = places.collect();
    assert!(places.windows(2).all(|two| two[0].1 + 1 == two[1].0), "every line is there or missing for a reason");
    let kept: u64 = found.iter().map(|line| line.text.len() as u64 + 1).sum();
    assert!(kept < 256 << 10, "{kept}");
    let size = |namespace: &str| {
        let files = segments::list(&folder.path().join(namespace)).unwrap();
        files.iter().map(|(_, path)| std::fs::metadata(path).unwrap().len()).sum::<u64>()
    };
    assert!(size("loud") <= 256 << 10 && size("loud") > 64 << 10, "{}", size("loud"));
}

#[tokio::test]
async fn the_total_is_kept_by_whoever_has_most() {
    let folder = tempfile::tempdir().unwrap();
    let limits = LogLimits { total_bytes: 100 << 10, namespace_bytes: 80 << 10, rate_bytes: 1 << 20, ..LIMITS };
    let logs = open(folder.path(), limits);
    for (namespace, lines) in [("small", 5), ("large", 100), ("larger", 100)] {
        for _ in 0..lines {
            tenant(&logs, namespace).offer(&source("f"), record("x".repeat(700)));
            tokio::time::sleep(std::time::Duration::from_micros(300)).await;
        }
    }
    logs.close().await;
    let count = |namespace: &str| read(folder.path(), &format!("namespaces/{namespace}"), |_| {}).len();
    assert_eq!(count("small"), 5);
    assert!(count("large") < 100 && count("larger") < 100, "{} {}", count("large"), count("larger"));
    assert!(count("large") + count("larger") > 50);
}

#[tokio::test]
async fn a_follower_that_is_too_slow_loses_lines_and_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path(), LogLimits { rate_bytes: 10 << 20, ..LIMITS });
    let shop = tenant(&logs, "shop");
    let mut follower = shop.follow();
    for line in 0..2000 {
        shop.offer(&source("f"), record(line.to_string()));
    }
    logs.close().await;
    let Err(TryRecvError::Lagged(missed)) = follower.try_recv() else { panic!("nothing was missed") };
    let next = follower.try_recv().unwrap();
    let Entry::Line(next) = &*next else { panic!("{next:?}") };
    assert_eq!(next.text, missed.to_string());
}

#[tokio::test]
async fn a_process_that_did_not_close_its_log_leaves_a_gap_and_one_that_did_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    for (before, close) in [false, true, false].into_iter().enumerate() {
        let logs = open(folder.path(), LIMITS);
        tenant(&logs, "shop").offer(&source("pay"), record("paid"));
        if close {
            logs.close().await;
        } else {
            eventually("it is written", || read(folder.path(), "namespaces/shop", |_| {}).len() > before).await;
            std::mem::forget(logs);
        }
    }
    let told = items(folder.path(), "namespaces/shop", |_| {}).into_iter().map(|item| match item {
        Item::Line(line) => line.text,
        Item::Gap(gap) => format!("{:?}", gap.why),
    });
    assert_eq!(told.collect::<Vec<_>>(), ["paid", "Restart", "paid", "paid", "Restart"]);
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_counted_and_marked() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path(), LIMITS);
    let shop = tenant(&logs, "shop");
    let mut follower = shop.follow();
    // A file where the namespace's folder would be.
    std::fs::write(folder.path().join("shop"), "").unwrap();
    for line in 0..3 {
        shop.offer(&source("pay"), record(line.to_string()));
    }
    let gap = follower.recv().await.unwrap();
    assert!(matches!(&*gap, Entry::Mark(Mark { why: Why::Disk, .. })), "{gap:?}");
    eventually("all are lost", || logs.counted().2 == 6).await;
    std::fs::remove_file(folder.path().join("shop")).unwrap();
    shop.offer(&source("pay"), record("written"));
    logs.close().await;
    assert_eq!(logs.counted().2, 6);
    assert_eq!(texts(&read(folder.path(), "namespaces/shop", |_| {})), ["written"]);
    let Item::Gap(gap) = &items(folder.path(), "namespaces/shop", |query| query.lines = 2)[0] else { panic!() };
    assert_eq!((gap.lines, gap.sequence, gap.why), (3, 3, Why::Disk));
}

#[tokio::test]
async fn lines_go_with_their_age() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path(), LIMITS);
    for namespace in ["shop", "bank"] {
        tenant(&logs, namespace).offer(&source("f"), record("old"));
    }
    logs.close().await;
    let (_, old) = segments::list(&folder.path().join("shop")).unwrap().pop().unwrap();
    let hours = SystemTime::now() - Duration::from_secs(2 * 3_600);
    std::fs::File::options().append(true).open(old).unwrap().set_modified(hours).unwrap();
    let logs = open(folder.path(), LIMITS);
    logs.look();
    logs.close().await;
    assert!(segments::list(&folder.path().join("shop")).unwrap().is_empty());
    assert_eq!(texts(&read(folder.path(), "namespaces/bank", |_| {})), ["old"]);
}

fn own(namespace: &str, age: u64, log_bytes: Option<u64>) -> NamespaceRetention {
    Retention { age: Some(Duration::from_secs(age)), log_bytes }.of(&namespace.parse().unwrap())
}

#[tokio::test]
async fn a_namespace_keeps_its_lines_for_a_time_of_its_own_from_when_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path(), LIMITS);
    let namespaces = ["brief", "usual", "long"];
    for namespace in namespaces {
        tenant(&logs, namespace).offer(&source("f"), record("a line"));
    }
    logs.close().await;
    let files = |namespace: &str| segments::list(&folder.path().join(namespace)).unwrap();
    for (namespace, minutes) in [("brief", 10), ("usual", 10), ("long", 120)] {
        let before = SystemTime::now() - Duration::from_secs(minutes * 60);
        let file = std::fs::File::options().append(true).open(&files(namespace)[0].1);
        file.unwrap().set_modified(before).unwrap();
    }
    let logs = open(folder.path(), LIMITS);
    assert!(namespaces.iter().all(|namespace| !files(namespace).is_empty()), "nobody has said anything yet");
    logs.keep(&[own("brief", 300, None), own("long", 3 * 3_600, None)]);
    let ages = namespaces.map(|namespace| logs.max_age(&namespace.parse().unwrap()).as_secs());
    assert_eq!((ages, logs.kept().len()), ([300, 3_600, 10_800], 2));
    logs.close().await;
    assert_eq!(namespaces.map(|namespace| files(namespace).len()), [0, 1, 1]);
}

#[tokio::test]
async fn a_namespace_keeps_as_many_bytes_as_it_has_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path(), LogLimits { rate_bytes: 10 << 20, ..LIMITS });
    let size = || {
        let files = segments::list(&folder.path().join("shop")).unwrap();
        files.iter().map(|(_, path)| std::fs::metadata(path).unwrap().len()).sum::<u64>()
    };
    logs.keep(&[own("shop", 3_600, Some(512 << 10))]);
    for _ in 0..4 {
        for _ in 0..100 {
            tenant(&logs, "shop").offer(&source("f"), record("x".repeat(1_000)));
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    eventually("there is more than others may have", || size() > 300 << 10).await;
    logs.keep(&[own("shop", 3_600, Some(64 << 10))]);
    logs.close().await;
    assert!(size() <= 130 << 10, "what is there goes at once, but for the file that is written: {}", size());
}

#[tokio::test(start_paused = true)]
async fn a_file_is_not_written_for_so_long_that_old_lines_stay() {
    let folder = tempfile::tempdir().unwrap();
    let share = segments::Share { bytes: 1 << 20, age: Duration::from_secs(800) };
    let mut files = segments::Segments::open(folder.path().join("shop")).unwrap();
    for seconds in [0, 99, 99] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        files.append(b"{}\n", share).unwrap();
    }
    assert_eq!(segments::list(&folder.path().join("shop")).unwrap().len(), 2);
}

#[test]
fn lines_go_into_a_new_file_where_somebody_removed_the_one_that_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (shop, share) = (folder.path().join("shop"), segments::Share { bytes: 1 << 20, age: Duration::from_secs(800) });
    let mut files = segments::Segments::open(shop.clone()).unwrap();
    for line in ["1\n", "2\n", "3\n"] {
        files.append(line.as_bytes(), share).unwrap();
        let (number, last) = segments::list(&shop).unwrap().pop().unwrap();
        assert_eq!(std::fs::read_to_string(last).unwrap(), line, "in file {number}");
        assert_eq!((files.bytes(), number.to_string()), (2, line.trim().to_owned()), "a number is not used again");
        std::fs::remove_dir_all(&shop).unwrap();
    }
    files.close();
    files.append(b"4\n", share).unwrap();
    assert_eq!(files.bytes(), 2, "what was removed while it was closed is not counted");
    std::fs::remove_dir_all(&shop).unwrap();
    std::fs::write(&shop, "").unwrap();
    files.append(b"5\n", share).unwrap_err();
}

#[tokio::test]
async fn logs_open_where_nothing_can_be_written_and_go_on_when_something_can() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("logs");
    // A file where the folder would be.
    std::fs::write(&folder, "").unwrap();
    let logs = open(&folder, LIMITS);
    let shop = tenant(&logs, "shop");
    let mut follower = shop.follow();
    shop.offer(&source("pay"), record("lost"));
    let gap = follower.recv().await.unwrap();
    assert!(matches!(&*gap, Entry::Mark(Mark { why: Why::Disk, lines: 1, .. })), "{gap:?}");
    std::fs::remove_file(&folder).unwrap();
    shop.offer(&source("pay"), record("written"));
    logs.close().await;
    assert_eq!(logs.counted().2, 5);
    let found = read(&folder, "namespaces/shop", |_| {});
    assert_eq!((texts(&found), found[0].sequence), (vec!["written"], 2));
    assert_eq!(
        gaps(&folder, "namespaces/shop").iter().map(|gap| (gap.lines, gap.why)).collect::<Vec<_>>(),
        [(1, Why::Disk)]
    );
    let later = open(&folder, LIMITS);
    assert!(later.boot > logs.boot, "a later start has a greater number");
    later.close().await;
}
