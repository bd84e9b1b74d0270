use dunlin_proto::ids::{InvocationId, VersionNumber};

use super::*;

fn line(boot: u64, sequence: u64) -> Entry {
    Entry::Line(Line {
        time: sequence,
        boot,
        sequence,
        function: "f".parse().unwrap(),
        version: VersionNumber::FIRST,
        invocation: InvocationId::new(),
        request_id: String::new(),
        stderr: false,
        text: String::new(),
        dropped_bytes: 0,
    })
}

fn mark(boot: u64, sequence: u64, lines: u64, why: Why) -> Entry {
    Entry::Mark(Mark { time: sequence, boot, sequence, lines, why })
}

fn place(boot: u64, sequence: u64) -> Position {
    Position { boot, sequence }
}

/// What a reader learns, in short, with the last word after all.
fn told(mut track: Track, entries: &[Entry], boot: u64) -> String {
    let mut told = Vec::new();
    let mut tell = |item| {
        told.push(match item {
            Item::Line(line) => format!("{}.{}", line.boot, line.sequence),
            Item::Gap(Mark { boot, sequence, lines, why, .. }) => format!("{lines} {why:?} to {boot}.{sequence}"),
        });
    };
    entries.iter().for_each(|entry| track.step(entry, &mut tell));
    track.settle(boot, 99, &mut tell);
    told.join(", ")
}

#[test]
fn what_is_seen_is_not_told_again_and_what_is_missing_is_told_once() {
    let end = mark(1, 3, 0, Why::End);
    let table: &[(&str, Track, Vec<Entry>, u64, &str)] = &[
        ("in order", Track::default(), vec![line(1, 1), line(1, 2)], 1, "1.1, 1.2"),
        ("from somewhere", Track::default(), vec![line(1, 7), line(1, 8)], 1, "1.7, 1.8"),
        ("after a place", Track::after(place(1, 1)), vec![line(1, 1), line(1, 2)], 1, "1.2"),
        ("removed", Track::after(place(1, 1)), vec![line(1, 5)], 1, "3 Removed to 1.4, 1.5"),
        (
            "too fast",
            Track::default(),
            vec![line(1, 1), mark(1, 4, 3, Why::Rate), line(1, 5)],
            1,
            "1.1, 3 Rate to 1.4, 1.5",
        ),
        ("a mark seen in part", Track::after(place(1, 3)), vec![mark(1, 6, 5, Why::Disk)], 1, "3 Disk to 1.6"),
        ("a restart", Track::default(), vec![line(1, 3), line(2, 1)], 2, "1.3, 0 Restart to 2.0, 2.1"),
        ("a clean restart", Track::default(), vec![line(1, 3), end.clone(), line(2, 1)], 2, "1.3, 2.1"),
        ("after a clean restart", Track::after(place(1, 3)), vec![line(1, 3), end.clone(), line(2, 1)], 2, "2.1"),
        ("a restart, and nothing since", Track::after(place(1, 3)), vec![line(1, 3)], 2, "0 Restart to 2.0"),
        ("a clean one, and nothing since", Track::after(place(1, 3)), vec![end], 2, ""),
        (
            "a restart, and lines removed since",
            Track::after(place(1, 3)),
            vec![line(2, 4)],
            2,
            "0 Restart to 2.0, 3 Removed to 2.3, 2.4",
        ),
        ("nothing at all", Track::default(), vec![], 4, ""),
    ];
    for (name, track, entries, boot, expected) in table {
        assert_eq!(told(*track, entries, *boot), *expected, "{name}");
    }
}
