//! Every way to tamper with a small log, each found at the first entry that is wrong.

use super::*;

fn signer() -> AuditSigner {
    AuditSigner::generate().unwrap()
}

fn entry(sequence: u64) -> Entry {
    Entry {
        sequence,
        time: 1_000_000 + sequence.cast_signed(),
        subject: "zoe".into(),
        issuer: "dunlin".into(),
        role: "admin".into(),
        token_id: "t-1".into(),
        address: "192.0.2.7".into(),
        gateway: "gateway-1".into(),
        action: "route.put".into(),
        namespace: "shop".into(),
        resource: format!("namespaces/shop/routes/r-{sequence}"),
        outcome: Outcome::Done,
        before: String::new(),
        after: r#"{"path":"/"}"#.into(),
        request_id: "0198".into(),
    }
}

type Log = Vec<(Entry, Digest)>;

/// Chains entries, and signs each end.
fn written(signer: &AuditSigner, entries: impl IntoIterator<Item = Entry>) -> (Log, Vec<Head>) {
    let (mut before, mut log, mut heads) = (BEGINNING, Log::new(), vec![Head::empty()]);
    for entry in entries {
        before = entry.hash_after(&before);
        let head = Head { sequence: entry.sequence, hash: before, time: entry.time, signature: Vec::new() };
        heads.push(signer.sign(HeadKind::Head, &head));
        log.push((entry, before));
    }
    (log, heads)
}

fn check(signer: &AuditSigner, log: &Log, head: &Head, saved: Option<&Head>) -> Result<u64, (u64, Why)> {
    let key = signer.public_key();
    let chain = Chain::begin(head.clone(), None, key, saved.map(|saved| (saved.clone(), key)));
    chain.and_then(|chain| verify(chain, log)).map_err(|Break { sequence, why }| (sequence, why))
}

#[test]
fn a_log_that_nobody_touched_holds_from_any_saved_head() {
    let signer = signer();
    let (log, heads) = written(&signer, (1..=6).map(entry));
    for (at, head) in heads.iter().enumerate() {
        assert_eq!(check(&signer, &log[..at].to_vec(), head, None), Ok(at as u64));
        for saved in &heads[..=at] {
            assert_eq!(check(&signer, &log[..at].to_vec(), head, Some(saved)), Ok(at as u64));
        }
    }
}

#[test]
fn a_change_of_any_field_is_found_where_it_is() {
    let signer = signer();
    let (log, heads) = written(&signer, (1..=6).map(entry));
    let changes: [fn(&mut Entry); 14] = [
        |e| e.time += 1,
        |e| e.subject.push('x'),
        |e| e.issuer.push('x'),
        |e| e.role.clear(),
        |e| e.token_id.push('x'),
        |e| e.address.push('0'),
        |e| e.gateway.push('x'),
        |e| e.action.push('x'),
        |e| e.namespace = "bank".into(),
        |e| e.resource.push('x'),
        |e| e.outcome = Outcome::Refused,
        |e| e.before.push(' '),
        |e| e.after.clear(),
        |e| e.request_id.push('0'),
    ];
    for at in 0..log.len() {
        for change in changes {
            let mut forged = log.clone();
            change(&mut forged[at].0);
            assert_eq!(check(&signer, &forged, &heads[6], None), Err((at as u64 + 1, Why::Hash)));
        }
        let mut forged = log.clone();
        forged[at].1 = Digest::of(b"another");
        assert_eq!(check(&signer, &forged, &heads[6], None), Err((at as u64 + 1, Why::Hash)));
    }
}

#[test]
fn a_change_of_any_byte_of_a_text_changes_the_hash() {
    let one = entry(1);
    let hash = one.hash_after(&BEGINNING);
    for at in 0..one.resource.len() {
        let mut bytes = one.resource.clone().into_bytes();
        bytes[at] ^= 1;
        let other = Entry { resource: String::from_utf8(bytes).unwrap(), ..one.clone() };
        assert_ne!(other.hash_after(&BEGINNING), hash, "{at}");
    }
    // A byte that moves from one field into the next is a change, too.
    let moved = Entry { before: "{".into(), after: one.after[1..].into(), ..one.clone() };
    assert_ne!(moved.hash_after(&BEGINNING), hash);
    assert_ne!(one.hash_after(&hash), hash);
}

#[test]
fn removal_and_another_order_are_found_at_the_first_place_that_is_wrong() {
    let signer = signer();
    let (log, heads) = written(&signer, (1..=6).map(entry));
    for at in 0..log.len() - 1 {
        let mut without = log.clone();
        without.remove(at);
        assert_eq!(check(&signer, &without, &heads[6], None), Err((at as u64 + 1, Why::Order)));
        let mut turned = log.clone();
        turned.swap(at, at + 1);
        assert_eq!(check(&signer, &turned, &heads[6], None), Err((at as u64 + 1, Why::Order)));
        let mut twice = log.clone();
        twice.insert(at, twice[at].clone());
        assert_eq!(check(&signer, &twice, &heads[6], None), Err((at as u64 + 2, Why::Order)));
    }
}

#[test]
fn truncation_is_found_with_and_without_the_end_that_goes_with_it() {
    let signer = signer();
    let (log, heads) = written(&signer, (1..=6).map(entry));
    for left in 0..6 {
        let short = log[..left].to_vec();
        let next = left as u64 + 1;
        assert_eq!(check(&signer, &short, &heads[6], None), Err((next, Why::Missing)), "the end still names the last");
        // Whoever kept an older end can put it back; only an end that was saved elsewhere shows that.
        assert_eq!(check(&signer, &short, &heads[left], None), Ok(left as u64));
        assert_eq!(check(&signer, &short, &heads[left], Some(&heads[6])), Err((next, Why::Missing)));
    }
}

#[test]
fn a_forged_tail_and_a_log_written_anew_are_found() {
    let signer = signer();
    let (log, heads) = written(&signer, (1..=6).map(entry));
    let (longer, _) = written(&signer, (1..=8).map(entry));
    assert_eq!(check(&signer, &longer, &heads[6], None), Err((7, Why::Unsigned)));
    let forged_head = Head { sequence: 8, hash: longer[7].1, ..heads[6].clone() };
    assert_eq!(check(&signer, &longer, &forged_head, None), Err((8, Why::Signature)));
    // Somebody who has the key, too, can write another log, but not one that goes through a saved end.
    let (anew, ends) = written(&signer, (1..=8).map(|n| Entry { subject: "eve".into(), ..entry(n) }));
    assert_eq!(check(&signer, &anew, &ends[8], None), Ok(8));
    assert_eq!(check(&signer, &anew, &ends[8], Some(&heads[6])), Err((6, Why::Saved)));
    assert_eq!(check(&signer, &log, &ends[6], None), Err((6, Why::Hash)));
}

#[test]
fn a_log_that_grows_while_it_is_read_holds() {
    let signer = signer();
    let (log, heads) = written(&signer, (1..=6).map(entry));
    let mut chain = Chain::begin(heads[4].clone(), None, signer.public_key(), None).unwrap();
    log[..4].iter().for_each(|(entry, hash)| chain.take(entry, hash).unwrap());
    chain.extend(heads[3].clone(), signer.public_key()).unwrap();
    assert_eq!(chain.head().sequence, 4, "it never goes back");
    assert_eq!(chain.extend(Head { sequence: 9, ..heads[6].clone() }, signer.public_key()).unwrap_err().sequence, 9);
    chain.extend(heads[6].clone(), signer.public_key()).unwrap();
    assert_eq!(verify(chain, &log[4..]), Ok(6));
}

#[test]
fn ends_are_bound_to_key_kind_and_fields() {
    let (one, other) = (signer(), signer());
    let (log, heads) = written(&one, (1..=3).map(entry));
    assert_eq!(check(&other, &log, &heads[3], None), Err((3, Why::Signature)));
    let begun = Chain::begin(heads[3].clone(), None, one.public_key(), Some((heads[2].clone(), other.public_key())));
    assert_eq!(begun.unwrap_err().why, Why::Key);
    let checkpoint = one.sign(HeadKind::Checkpoint, &heads[2]);
    let chain = |checkpoint: &Head| Chain::begin(heads[3].clone(), Some(checkpoint), one.public_key(), None);
    assert_eq!(verify(chain(&checkpoint).unwrap(), &log[2..]), Ok(3), "a log that begins behind what was deleted");
    assert_eq!(chain(&heads[2]).unwrap_err().why, Why::Signature, "an end is no checkpoint");
    for forged in [Head { sequence: 1, ..checkpoint.clone() }, Head { time: 0, ..checkpoint.clone() }] {
        assert_eq!(chain(&forged).unwrap_err().why, Why::Signature);
    }
}

#[test]
fn what_the_cluster_itself_did_not_trust_is_told_until_it_is_known() {
    let signer = signer();
    let distrust = Entry { action: DISTRUST.into(), ..entry(3) };
    let (log, heads) = written(&signer, [entry(1), entry(2), distrust, entry(4)]);
    assert_eq!(check(&signer, &log, &heads[4], None), Err((3, Why::Distrusted)));
    assert_eq!(check(&signer, &log, &heads[4], Some(&heads[4])), Ok(4));
}

#[test]
fn entries_and_ends_travel_whole() {
    let signer = signer();
    let (log, heads) = written(&signer, [Entry { time: -1, outcome: Outcome::Refused, ..entry(1) }]);
    let (one, hash) = &log[0];
    assert_eq!(Entry::from_wire(one.to_wire(hash)).unwrap(), (one.clone(), *hash));
    assert_eq!(Head::from_wire(&heads[1].to_wire()).unwrap(), heads[1]);
    let odd = Entry { outcome: Outcome::Unknown, ..one.clone() };
    assert_eq!(Entry::from_wire(odd.to_wire(hash)).unwrap().0, odd);
    let wire = one.to_wire(hash);
    let finer = prost_types::Timestamp { nanos: 1, ..Default::default() };
    for bad in [
        crate::v1::AuditEntry { hash: "00".into(), ..wire.clone() },
        crate::v1::AuditEntry { outcome: 9, ..wire.clone() },
        crate::v1::AuditEntry { time: Some(finer), ..wire.clone() },
    ] {
        assert!(Entry::from_wire(bad).is_err());
    }
}
