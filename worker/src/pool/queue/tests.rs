//! Tables of who is served when, and properties that hold whatever happens. Callers are numbers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const HOLD: Duration = Duration::from_millis(5);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Go,
    Refused(Refusal),
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Go(_) => Self::Go,
            Verdict::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

/// A queue, its clock, and what callers have been told.
struct World {
    queue: Queue<u64>,
    now: Instant,
    lines: Vec<LineId>,
    told: Vec<(u64, LineId, Answer)>,
    next: u64,
}

impl World {
    /// Lines are (namespace, how many may run at once).
    fn new(slots: u32, longest: usize, lines: &[(&str, u32)]) -> Self {
        let mut queue = Queue::new(slots, longest, Arc::new(Backlog::new(u32::MAX, || {})));
        let lines = lines.iter().map(|(namespace, max)| queue.open(&namespace.parse().unwrap(), *max)).collect();
        Self { queue, now: Instant::now(), lines, told: Vec::new(), next: 0 }
    }

    /// Asks as `capacity.rs` does; says which caller it was.
    fn ask(&mut self, line: usize, patience: Duration) -> u64 {
        self.next += 1;
        let (caller, id) = (self.next, self.lines[line]);
        let mut told = Vec::new();
        if self.queue.enter(id, None).is_some() {
            self.told.push((caller, id, Answer::Go));
        } else if let Err(refusal) = self.queue.join(id, caller, (self.now + patience, None), self.now, &mut told) {
            told.push((caller, id, Verdict::Refused(refusal)));
        }
        self.hear(told);
        caller
    }

    fn release(&mut self, line: usize, held: Duration) {
        let mut told = Vec::new();
        self.queue.release(self.lines[line], held, self.now, &mut told);
        self.hear(told);
    }

    fn hear(&mut self, told: Told<u64>) {
        self.told.extend(told.into_iter().map(|(caller, line, verdict)| (caller, line, verdict.into())));
    }

    /// Who has been told something since the last look.
    fn told(&mut self, verdict: Answer) -> Vec<u64> {
        let (these, others) = std::mem::take(&mut self.told).into_iter().partition(|told| told.2 == verdict);
        self.told = others;
        let these: Vec<(u64, LineId, Answer)> = these;
        these.into_iter().map(|told| told.0).collect()
    }

    fn started(&mut self) -> Vec<u64> {
        self.told(Answer::Go)
    }

    fn refused(&mut self) -> Vec<u64> {
        self.told(Answer::Refused(Refusal::Full))
    }
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn in_good_times_the_first_to_come_is_the_first_served() {
    let mut world = World::new(1, 100, &[("a", 10)]);
    for _ in 0..4 {
        world.ask(0, LONG);
    }
    assert_eq!(world.started(), [1]);
    for next in 2..=4 {
        world.now += HOLD;
        world.release(0, HOLD);
        assert_eq!(world.started(), [next]);
    }
    world.release(0, HOLD);
    assert!(world.queue.enter(world.lines[0], None).is_some(), "the slot is free again");
}

/// Offers `times` as many invocations of one function as one slot can run, for so long; says how long each had waited that
/// came after the first second and was served, and how many were refused.
fn overload(world: &mut World, times: u32, lasts: Duration) -> (Vec<Duration>, usize) {
    let first = world.now + Duration::from_secs(1);
    let (end, gap) = (world.now + lasts, HOLD / times);
    let (mut asked, mut waits, mut refused) = (BTreeMap::new(), Vec::new(), 0);
    let (mut next_ask, mut next_end, mut running) = (world.now, world.now + HOLD, false);
    while world.now < end {
        if next_ask <= next_end {
            world.now = next_ask;
            next_ask += gap;
            let at = world.now;
            asked.insert(world.ask(0, LONG), at);
        } else {
            world.now = next_end;
            next_end += HOLD;
            if std::mem::take(&mut running) {
                world.release(0, HOLD);
            }
        }
        let started = world.started();
        if !started.is_empty() {
            running = true;
        }
        let counted = started.iter().filter_map(|caller| asked.get(caller)).filter(|at| **at >= first);
        waits.extend(counted.map(|at| world.now - *at));
        refused += world.refused().len();
    }
    (waits, refused)
}

#[tokio::test(start_paused = true)]
async fn f13_in_overload_the_newest_goes_first_and_the_oldest_are_sent_away() {
    // The last two have no room for more from the first moments on: in their line, and in the worker's queue.
    for (times, longest, max) in [(2, 1000, 100), (10, 1000, 100), (10, 1000, 4), (10, 40, 100)] {
        let mut world = World::new(1, longest, &[("a", max)]);
        let (mut waits, refused) = overload(&mut world, times, Duration::from_secs(20));
        assert!(waits.len() >= 3_790, "the slot is never idle: {} of 3800", waits.len());
        assert!(refused > 0);
        waits.sort();
        let p99 = waits[waits.len() * 99 / 100];
        assert!(p99 <= HOLD, "at {times} times the capacity p99 waits {p99:?} ({longest}, {max})");
        let (waiting, oldest) = world.queue.waiting(world.lines[0], world.now);
        assert!(oldest <= millis(20), "{waiting} wait, the first for {oldest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f13_when_the_load_falls_the_line_is_what_it_was() {
    let mut world = World::new(1, 1000, &[("a", 100)]);
    overload(&mut world, 10, Duration::from_secs(5));
    // Nobody comes any more: those who have not waited for too long are still served, the others told.
    let mut served = 0;
    while {
        world.now += HOLD;
        world.release(0, HOLD);
        !world.started().is_empty()
    } {
        served += 1;
    }
    assert!(served <= 25 && world.queue.waiting(world.lines[0], world.now).0 == 0, "{served} are served");
    world.refused();
    for _ in 0..2 {
        world.now += Duration::from_secs(1);
        (0..2).for_each(|_| _ = world.ask(0, LONG));
        (0..2).for_each(|_| world.release(0, HOLD));
        assert_eq!((world.started().len(), world.refused().len()), (2, 0));
    }
    let (last, busy) = (world.ask(0, LONG), world.ask(0, LONG));
    let newest = world.ask(0, LONG);
    world.started();
    world.release(0, HOLD);
    assert_eq!(world.started(), [busy], "first come, first served again, not {newest} after {last}");
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_is_worked_off_is_served_whole() {
    let mut world = World::new(1, 2000, &[("a", 100)]);
    for _ in 0..1000 {
        world.ask(0, LONG);
    }
    let mut served = world.started();
    for _ in 0..1000 {
        world.now += HOLD;
        world.release(0, HOLD);
        served.extend(world.started());
    }
    assert_eq!(served, (1..=1000).collect::<Vec<_>>());
    assert!(world.refused().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_comes_slower_than_at_once_is_served_whole_too() {
    let mut world = World::new(1, 2000, &[("a", 100)]);
    let (mut served, mut asked) = (0, 0);
    for step in 0..2_000_u32 {
        world.now += HOLD / 5;
        if asked < 200 {
            asked += 1;
            world.ask(0, LONG);
        }
        if step % 5 == 0 && step > 0 && served < 200 {
            world.release(0, HOLD);
        }
        served += world.started().len();
    }
    // They came within a fifth of a second, and could be served in one.
    assert_eq!((served, world.refused().len()), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn callers_who_wait_for_their_answers_are_no_overload() {
    let mut world = World::new(10, 1000, &[("a", 10)]);
    let mut asked = BTreeMap::new();
    let (mut running, mut longest, mut refused) = (0, Duration::ZERO, 0);
    for step in 0..20_000 {
        world.now += HOLD / 10;
        // Sixty callers come one after the other, and each asks again as soon as it has been answered.
        let comes = u32::from(step < 600 && step % 10 == 0);
        let answered = u32::from(running > 0);
        (0..answered).for_each(|_| world.release(0, HOLD));
        running -= answered;
        for _ in 0..comes + answered {
            let at = world.now;
            asked.insert(world.ask(0, LONG), at);
        }
        for caller in world.started() {
            running += 1;
            longest = if step > 2_000 { longest.max(world.now - asked[&caller]) } else { longest };
        }
        refused += if step > 2_000 { world.refused().len() } else { 0 };
        world.told.clear();
    }
    assert_eq!(refused, 0);
    assert!(longest > millis(5) && longest < millis(40), "they wait as long as there are callers: {longest:?}");
}

/// Eighty callers who ask again as soon as they are answered, between whom and the worker others of the machine have the
/// processors now and then: `pieces` say for how many milliseconds the way here, and the worker, get so much done in each.
fn callers_of_a_busy_machine(pieces: &[(u64, f64, f64)]) -> usize {
    let mut world = World::new(4, 1000, &[("a", 100)]);
    let (mut on_the_way, mut running, mut refused) = (80, 0, 0);
    let (mut can_come, mut can_end) = (0.0, 0.0);
    for (come, end) in pieces.iter().flat_map(|(lasts, come, end)| (0..*lasts).map(move |_| (come, end))) {
        world.now += millis(1);
        (can_come, can_end) = (can_come + come, can_end + end);
        while can_come >= 1.0 {
            can_come -= 1.0;
            if on_the_way > 0 {
                on_the_way -= 1;
                world.ask(0, LONG);
                running += world.started().len();
            }
        }
        while can_end >= 1.0 {
            can_end -= 1.0;
            if running > 0 {
                (running, on_the_way) = (running - 1, on_the_way + 1);
                world.release(0, HOLD / 2);
                running += world.started().len();
            }
        }
        let away = world.refused().len();
        (refused, on_the_way) = (refused + away, on_the_way + away);
    }
    refused
}

#[test]
fn callers_who_wait_for_their_answers_are_no_overload_where_the_machine_is_busy() {
    // The worker falls behind a little, and catches up a little: 80 wait here or on the way, and that is all there ever are.
    let pieces: Vec<_> = (0..200_u64).map(|n| (60 + n * 37 % 90, [2.2, 1.4, 2.0][n as usize % 3], 1.6)).collect();
    assert_eq!(callers_of_a_busy_machine(&pieces), 0);
}

#[tokio::test(start_paused = true)]
async fn f14_a_namespace_that_floods_takes_only_its_share() {
    let mut world = World::new(1, 1000, &[("noisy", 100), ("noisy", 100), ("quiet", 100)]);
    for line in [0, 1] {
        (0..400).for_each(|_| _ = world.ask(line, LONG));
    }
    let running = world.started();
    assert_eq!(running, [1]);
    let quiet: BTreeSet<_> = (0..10).map(|_| world.ask(2, LONG)).collect();
    let mut served = 0;
    for _ in 0..21 {
        world.now += millis(1);
        // All take as long, so that every other turn is the quiet one's.
        world.release(0, HOLD);
        served += world.started().iter().filter(|caller| quiet.contains(caller)).count();
    }
    assert_eq!(served, 10);
}

#[tokio::test(start_paused = true)]
async fn f14_shares_are_of_time_not_of_calls() {
    let mut world = World::new(1, 4000, &[("slow", 100), ("fast", 100)]);
    for line in [0, 1] {
        world.queue.lines.get_mut(&world.lines[line]).unwrap().1.end([millis(50), millis(5)][line]);
        (0..900).for_each(|_| _ = world.ask(line, LONG * 100));
    }
    let (mut time, mut line) = ([Duration::ZERO; 2], 0);
    for _ in 0..900 {
        let held = [millis(50), millis(5)][line];
        time[line] += held;
        world.now += millis(1);
        world.release(line, held);
        let told = world.told.iter().find(|told| told.2 == Answer::Go).map(|told| told.1);
        line = usize::from(told == Some(world.lines[1]));
        world.told.clear();
    }
    let ratio = time[0].as_secs_f64() / time[1].as_secs_f64();
    assert!((0.8..1.25).contains(&ratio), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn f14_a_full_queue_takes_the_place_from_whoever_has_the_most() {
    let mut world = World::new(1, 20, &[("noisy", 100), ("quiet", 100)]);
    for _ in 0..21 {
        world.ask(0, LONG);
    }
    world.started();
    let one_more = world.ask(0, LONG);
    assert_eq!(world.refused(), [one_more], "its own newcomer is refused");
    let quiet = world.ask(1, LONG);
    assert_eq!(world.refused(), [21], "the last of the longest line makes room");
    world.release(0, HOLD);
    world.release(0, HOLD);
    assert!(world.started().contains(&quiet));
}

#[tokio::test(start_paused = true)]
async fn whose_time_would_be_up_before_its_turn_is_refused_at_once() {
    let mut world = World::new(1, 100, &[("a", 10)]);
    world.ask(0, LONG);
    world.now += millis(100);
    world.release(0, millis(100));
    for _ in 0..4 {
        world.ask(0, LONG);
    }
    world.started();
    // Three wait, each for 100 ms of a sandbox.
    let (late, in_time) = (world.ask(0, millis(299)), world.ask(0, millis(301)));
    assert_eq!(world.told(Answer::Refused(Refusal::Late)), [late]);
    world.now += millis(302);
    (0..4).for_each(|_| world.release(0, millis(1)));
    assert_eq!(world.told(Answer::Refused(Refusal::Late)), [in_time], "its time is up now");
}

#[tokio::test(start_paused = true)]
async fn a_version_at_its_limit_keeps_no_other_waiting() {
    let mut world = World::new(10, 100, &[("a", 1), ("a", 5), ("b", 5)]);
    (0..5).for_each(|_| _ = world.ask(0, LONG));
    assert_eq!(world.started(), [1]);
    assert!(world.queue.is_at_limit(world.lines[0]) && !world.queue.is_at_limit(world.lines[1]));
    let others = [world.ask(1, LONG), world.ask(2, LONG)];
    assert_eq!(world.started(), others);
    assert_eq!(world.queue.waiting(world.lines[0], world.now).0, 4);
    (0..6).for_each(|_| _ = world.ask(0, LONG));
    assert!(world.refused().is_empty());
    let beyond = world.ask(0, LONG);
    assert_eq!(world.refused(), [beyond], "ten wait for the one that runs");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_closed_leaves_nothing() {
    let mut world = World::new(1, 100, &[("a", 10), ("a", 10), ("b", 10)]);
    (0..3).for_each(|line| _ = world.ask(line, LONG));
    for line in world.lines.clone() {
        world.queue.close(line);
    }
    assert!(world.queue.lines.is_empty() && world.queue.tenants.is_empty() && world.queue.waiting == 0);
    assert_eq!(world.queue.turns.lines().count(), 0);
}

/// What can happen to a queue.
#[derive(Debug, Clone)]
enum Event {
    Ask { line: usize, patience: u64 },
    Leave(usize),
    Release(usize),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..4_usize, 0..400_u64).prop_map(|(line, patience)| Event::Ask { line, patience }),
        1 => any::<usize>().prop_map(Event::Leave),
        3 => any::<usize>().prop_map(Event::Release),
        2 => (0..80_u64).prop_map(Event::Wait),
    ]
}

/// What a queue must look like from outside.
#[derive(Default)]
struct Model {
    /// Callers that wait: line, ticket, deadline.
    waiting: BTreeMap<u64, (usize, u64, Instant)>,
    /// Lines and beginnings of those that run.
    running: Vec<(usize, Instant)>,
}

const MAX: [u32; 4] = [1, 2, 3, 100];
const SLOTS: u32 = 3;
const LONGEST: usize = 25;

impl Model {
    fn apply(&mut self, world: &mut World, event: &Event) {
        match *event {
            Event::Ask { line, patience } => {
                let (deadline, caller) = (world.now + millis(patience), world.ask(line, millis(patience)));
                // The ticket is the last number that the queue gave out.
                if world.told.iter().all(|told| told.0 != caller) {
                    self.waiting.insert(caller, (line, world.queue.next, deadline));
                }
            }
            Event::Leave(which) if !self.waiting.is_empty() => {
                let caller = *self.waiting.keys().nth(which % self.waiting.len()).unwrap();
                let (line, ticket, _) = self.waiting.remove(&caller).unwrap();
                world.queue.leave(world.lines[line], ticket, world.now);
            }
            Event::Release(which) if !self.running.is_empty() => {
                let (line, began) = self.running.swap_remove(which % self.running.len());
                world.release(line, world.now - began);
            }
            Event::Wait(time) => world.now += millis(time),
            Event::Leave(_) | Event::Release(_) => {}
        }
        self.hear(world);
    }

    /// Takes in what callers were told: only those who wait are told anything, once, and nobody starts late.
    fn hear(&mut self, world: &mut World) {
        let known = world.next;
        for (caller, id, verdict) in std::mem::take(&mut world.told) {
            let line = world.lines.iter().position(|line| *line == id).unwrap();
            let waited = self.waiting.remove(&caller);
            assert!(waited.is_some() || caller == known, "{caller} is told {verdict:?} but does not wait");
            if verdict == Answer::Go {
                assert!(waited.is_none_or(|(_, _, deadline)| deadline > world.now), "{caller} starts late");
                self.running.push((line, world.now));
            }
        }
    }

    fn check(&self, world: &World) {
        let runs = |line| self.running.iter().filter(|(other, _)| *other == line).count();
        let waits = |line| self.waiting.values().filter(|(other, ..)| *other == line).count();
        assert!(self.running.len() <= SLOTS as usize && self.waiting.len() <= LONGEST);
        for (line, max) in MAX.iter().enumerate() {
            assert!(runs(line) <= *max as usize && waits(line) <= *max as usize * 10);
            assert_eq!(world.queue.waiting(world.lines[line], world.now).0, waits(line));
            let idle = self.running.len() < SLOTS as usize && runs(line) < *max as usize;
            assert!(!idle || waits(line) == 0, "a slot is free and somebody waits for it");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f13_no_more_compute_at_once_than_the_processors_get_done_soon() {
    let backlog = Arc::new(Backlog::new(1, || {}));
    let mut queue = Queue::new(1000, 1000, backlog);
    let (line, now) = (queue.open(&"a".parse().unwrap(), 1000), Instant::now());
    let begin = |queue: &mut Queue<u64>, cpu| std::iter::from_fn(|| queue.enter(line, cpu)).collect::<Vec<_>>();
    let first = begin(&mut queue, None);
    assert_eq!(first.len(), 6, "a millisecond each, as long as nothing is known");
    let mut told = Vec::new();
    queue.join(line, 1, (now + LONG, Some(millis(5))), now, &mut told).unwrap();
    assert!(told.is_empty());
    drop(first);
    for _ in 0..6 {
        queue.release(line, HOLD, now, &mut told);
    }
    assert!(matches!(told[..], [(1, _, Verdict::Go(_))]), "{told:?}");
    assert_eq!(begin(&mut queue, Some(millis(5))).len(), 1, "two of 5 ms each");
}

proptest! {
    #[test]
    fn whatever_happens_slots_are_used_bounds_hold_and_nobody_starts_late(events in prop::collection::vec(event(), 1..400)) {
        let lines = [("a", MAX[0]), ("a", MAX[1]), ("b", MAX[2]), ("c", MAX[3])];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let mut world = World::new(SLOTS, LONGEST, &lines);
        let mut model = Model::default();
        for event in &events {
            model.apply(&mut world, event);
            model.check(&world);
        }
    }

    #[test]
    fn f14_nobody_starves(floods in prop::collection::vec((1..400_u32, 1..200_u64), 1..6), hold in 1..200_u64) {
        let names: Vec<String> = (0..floods.len()).map(|n| format!("noisy{n}")).collect();
        let mut lines: Vec<_> = names.iter().map(|name| (name.as_str(), 1000)).collect();
        lines.push(("quiet", 1000));
        let mut world = World::new(1, 100_000, &lines);
        let holds: Vec<_> = floods.iter().map(|flood| millis(flood.1)).chain([millis(hold)]).collect();
        for (line, hold) in holds.iter().enumerate() {
            world.queue.lines.get_mut(&world.lines[line]).unwrap().1.end(*hold);
        }
        for (line, (calls, _)) in floods.iter().enumerate() {
            (0..*calls).for_each(|_| _ = world.ask(line, LONG * 1000));
        }
        world.started();
        let quiet = world.ask(floods.len(), LONG * 1000);
        // By its turn each of the others has had its quantum and at most one invocation more, for every quantum that it needs.
        let (mut running, mut spent) = (0, Duration::ZERO);
        let rounds = u32::try_from(holds[floods.len()].as_millis() / 5 + 2).unwrap();
        let most = (millis(105) * rounds + millis(200)) * u32::try_from(floods.len()).unwrap();
        while running != floods.len() {
            spent += holds[running];
            world.release(running, holds[running]);
            let told = std::mem::take(&mut world.told);
            let Some((caller, id, _)) = told.into_iter().find(|told| told.2 == Answer::Go) else { break };
            running = world.lines.iter().position(|line| *line == id).unwrap();
            prop_assert!(running != floods.len() || caller == quiet);
            prop_assert!(spent <= most, "the quiet one waits for {spent:?}");
        }
    }
}
