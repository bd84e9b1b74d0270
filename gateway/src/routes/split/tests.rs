//! Shares as they were asked for, callers who stay, and those who move only forwards.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn number(number: u32) -> VersionNumber {
    number.try_into().unwrap()
}

fn uid(id: u128) -> FunctionUid {
    uuid::Uuid::from_u128(id + 1).to_string().parse().unwrap()
}

fn split(id: u128, division: u64, shares: &[(u32, u32)]) -> Split {
    let shares = shares.iter().map(|(version, percent)| (number(*version), *percent));
    Split::new(uid(id), "", division, shares, Sticky::default())
}

fn of(split: &Split, subject: &str) -> u32 {
    split.choose(Who::Token { issuer: "dunlin", subject }).unwrap().get()
}

#[test]
fn shares_hold_within_a_point_over_ten_thousand_callers() {
    for (id, shares) in [
        &[(7, 90), (8, 10)][..],
        &[(7, 99), (8, 1)],
        &[(7, 1), (8, 99)],
        &[(1, 50), (2, 30), (3, 20)],
        &[(9, 5), (7, 90), (8, 5)],
        &[(7, 100)],
    ]
    .into_iter()
    .enumerate()
    {
        let split = split(id as u128, 3, shares);
        let mut calls: HashMap<u32, f64> = HashMap::new();
        (0..10_000).for_each(|caller| *calls.entry(of(&split, &format!("caller-{caller}"))).or_default() += 1.0);
        for (version, percent) in shares {
            let got = calls.get(version).copied().unwrap_or_default() / 100.0;
            assert!((got - f64::from(*percent)).abs() <= 1.0, "{shares:?}: version {version} got {got} %");
        }
    }
}

#[test]
fn shares_are_told_as_they_were_asked_for() {
    let told = |shares: &[(u32, u32)]| {
        let split = split(1, 1, shares);
        split.shares().map(|(version, percent)| (version.get(), percent)).collect::<Vec<_>>()
    };
    assert_eq!(told(&[(7, 90), (9, 0), (8, 10)]), [(8, 10), (7, 90)]);
    assert_eq!(told(&[(7, 100)]), [(7, 100)]);
    assert_eq!(told(&[]), []);
}

#[test]
fn every_kind_of_caller_is_spread() {
    let (split, keys) =
        (split(1, 1, &[(1, 50), (2, 50)]), ["abcdefghijkl", "abcdefghijkm"].map(|id| id.parse().unwrap()));
    let texts: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    let newer =
        |of: &dyn Fn(&str) -> Option<VersionNumber>| texts.iter().filter(|text| of(text) == Some(number(2))).count();
    for count in [
        newer(&|text| split.choose(Who::Header(text.as_bytes()))),
        newer(&|text| split.choose(Who::Cookie(text.as_bytes()))),
        newer(&|text| split.choose(Who::Token { issuer: text, subject: "zoe" })),
        newer(&|_| split.choose(Who::Request(InvocationId::new()))),
    ] {
        assert!((420..=580).contains(&count), "{count}");
    }
    assert!(keys.iter().all(|key| split.choose(Who::Key(key)).is_some()));
}

#[test]
fn who_writes_like_another_is_somebody_else() {
    let split = split(1, 1, &[(1, 50), (2, 50)]);
    let places = [
        split.place(Who::Token { issuer: "ab", subject: "c" }),
        split.place(Who::Token { issuer: "a", subject: "bc" }),
        split.place(Who::Header(b"abc")),
        split.place(Who::Cookie(b"abc")),
    ];
    let distinct: std::collections::HashSet<_> = places.iter().collect();
    assert_eq!(distinct.len(), places.len(), "{places:?}");
}

#[test]
fn another_division_and_another_alias_give_other_places() {
    let shares = [(number(1), 50), (number(2), 50)];
    let splits = [
        Split::new(uid(1), "", 1, shares, Sticky::default()),
        Split::new(uid(1), "", 2, shares, Sticky::default()),
        Split::new(uid(1), "beta", 1, shares, Sticky::default()),
        Split::new(uid(2), "", 1, shares, Sticky::default()),
    ];
    for (at, one) in splits.iter().enumerate() {
        for other in &splits[at + 1..] {
            let same = (0..1_000).filter(|n| of(one, &n.to_string()) == of(other, &n.to_string())).count();
            assert!((400..=600).contains(&same), "{same}");
        }
    }
}

#[test]
fn functions_of_one_rollout_have_the_same_callers_on_the_same_side() {
    let part = |id, [old, new]: [u32; 2], percent, seed| {
        let shares = [(number(old), 100 - percent), (number(new), percent)];
        Split::new(uid(id), "", u64::from(old), shares, Sticky::default()).with_seed(seed)
    };
    let new_ones = |split: &Split, new| (0..1_000).filter(|n| of(split, &n.to_string()) == new).collect::<Vec<_>>();
    let (till, mail) = (part(1, [1, 2], 30, "a"), part(2, [7, 9], 30, "a"));
    assert_eq!(new_ones(&till, 2), new_ones(&mail, 9));
    let later = new_ones(&part(2, [7, 9], 60, "a"), 9);
    assert!(new_ones(&till, 2).iter().all(|caller| later.contains(caller)), "a step moves nobody back");
    assert_ne!(new_ones(&till, 2), new_ones(&part(1, [1, 2], 30, "b"), 2), "another rollout is another draw");
}

#[test]
fn what_is_no_whole_goes_to_the_oldest_and_nothing_goes_nowhere() {
    assert!(split(1, 1, &[]).is_empty() && split(1, 1, &[]).choose(Who::Cookie(b"")).is_none());
    assert!(split(1, 1, &[(1, 0)]).is_empty());
    let little = split(1, 1, &[(1, 1), (2, 1)]);
    assert!((0..200).filter(|n| of(&little, &n.to_string()) == 1).count() > 180);
    assert_eq!((split(1, 1, &[(7, 100)]).only(), little.only()), (Some(number(7)), None));
}

/// Two divisions of the same versions, of which the second gives no version and those newer than it less than before.
fn forwards() -> impl Strategy<Value = (Vec<u32>, Vec<u32>)> {
    let cuts = prop::collection::vec(0_u32..=100, 1..5);
    (cuts.clone(), cuts).prop_map(|(mut before, mut after)| {
        let count = before.len().min(after.len());
        before.truncate(count);
        after.truncate(count);
        before.sort_unstable();
        after.sort_unstable();
        let after = before.iter().zip(after).map(|(before, after)| after.max(*before)).collect();
        (before, after)
    })
}

/// Shares from the places where versions end, the newest first; the oldest, 1, has the rest.
fn from_cuts(cuts: &[u32]) -> Vec<(u32, u32)> {
    let count = u32::try_from(cuts.len()).unwrap() + 1;
    let mut begin = 0;
    let mut shares = Vec::new();
    for (version, end) in (1..=count).rev().zip(cuts.iter().copied().chain([100])) {
        shares.push((version, end - begin));
        begin = end;
    }
    shares
}

proptest! {
    #[test]
    fn a_higher_weight_moves_callers_only_to_newer_versions((before, after) in forwards(), callers in prop::collection::vec(any::<u32>(), 100)) {
        let (before, after) = (split(1, 1, &from_cuts(&before)), split(1, 1, &from_cuts(&after)));
        for caller in callers {
            let caller = caller.to_string();
            prop_assert!(of(&after, &caller) >= of(&before, &caller));
        }
    }

    #[test]
    fn a_caller_stays_while_weights_stay(percent in 1_u32..100, caller in ".*") {
        let shares = [(7, 100 - percent), (8, percent)];
        let here = split(1, 1, &shares);
        let elsewhere = split(1, 1, &[shares[1], shares[0]]);
        prop_assert_eq!(of(&here, &caller), of(&elsewhere, &caller));
    }
}
