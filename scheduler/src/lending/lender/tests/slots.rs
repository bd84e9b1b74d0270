//! Gateways that borrow calls at once, in virtual time: calls that take their time, messages that are late, gateways that die, are
//! cut off and come back. That a real gateway keeps to its part like this is tested where it is.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{super::*, PATIENCE, SECOND, STEP, id};

#[derive(Debug, Default)]
struct Borrower {
    share: u32,
    /// When each running call ends.
    running: Vec<Instant>,
    sequence: u64,
    wanted: u32,
    refused: u32,
    connected: bool,
    /// Something was lent that the scheduler waits to hear of.
    confirms: bool,
    said: u32,
    inbox: VecDeque<(Instant, Loan)>,
    outbox: VecDeque<(Instant, Want)>,
}

impl Borrower {
    fn uses(&self) -> u32 {
        let running = u32::try_from(self.running.len()).unwrap();
        if running > self.share { running } else { 0 }
    }

    fn take_in(&mut self, now: Instant) {
        self.running.retain(|ends| *ends > now);
        while self.inbox.front().is_some_and(|(arrives, _)| *arrives <= now) {
            let Some((_, loan)) = self.inbox.pop_front() else { return };
            (self.share, self.sequence, self.confirms) = (count(loan.share.burst), loan.sequence, true);
        }
    }

    /// Callers want so many calls at once, each of which takes so long.
    fn call(&mut self, now: Instant, wanted: u32, takes: Duration) {
        let running = u32::try_from(self.running.len()).unwrap();
        let room = self.share.saturating_sub(running);
        let more = wanted.saturating_sub(running);
        self.running.extend((0..more.min(room)).map(|_| now + takes));
        self.refused += more.saturating_sub(room);
    }

    fn report(&mut self, now: Instant, delay: Duration, measured: bool) {
        if measured {
            self.wanted = u32::try_from(self.running.len()).unwrap() + self.refused.min(20);
            self.refused = 0;
        }
        if !self.connected || !(measured || self.confirms || self.said != self.uses()) {
            return;
        }
        self.said = self.uses();
        self.confirms = false;
        let want = Want { calls: self.wanted.into(), sequence: self.sequence, uses: self.uses().into(), part: 0 };
        self.outbox.push_back((now + delay, want));
    }
}

#[derive(Debug)]
struct World {
    lender: Lender,
    gateways: Vec<Borrower>,
    now: Instant,
    delay: Duration,
    takes: Duration,
    most: u32,
    /// How often each gateway had something after it had nothing.
    turns: Vec<u32>,
}

impl World {
    fn new(limit: u32, gateways: usize, delay: Duration, takes: Duration) -> Self {
        let now = Instant::now();
        let borrower = || Borrower { connected: true, ..Borrower::default() };
        let gateways: Vec<_> = (0..gateways).map(|_| borrower()).collect();
        let (lender, turns) = (Lender::new(Allowance::AtOnce(limit), 0.0, now), vec![0; gateways.len()]);
        Self { lender, gateways, now, delay, takes, most: 0, turns }
    }

    fn running(&self) -> u32 {
        self.gateways.iter().map(|gateway| u32::try_from(gateway.running.len()).unwrap()).sum()
    }

    fn settle(&mut self) {
        self.lender.expire(self.now, PATIENCE);
        for gateway in self.lender.settle(self.now, false, true) {
            let number: usize = gateway.as_str()[1..].parse().unwrap();
            let loan = self.lender.loan(&gateway).filter(|_| self.gateways[number].connected);
            self.gateways[number].inbox.extend(loan.map(|loan| (self.now + self.delay, loan)));
        }
    }

    fn step(&mut self, tick: u64, demand: &[u32]) {
        self.now += STEP;
        for (number, wanted) in demand.iter().enumerate() {
            let (now, delay, takes) = (self.now, self.delay, self.takes);
            let gateway = &mut self.gateways[number];
            let before = gateway.share;
            gateway.take_in(now);
            self.turns[number] += u32::from(before == 0 && gateway.share > 0);
            gateway.call(now, *wanted, takes);
            gateway.report(now, delay, tick.is_multiple_of(250));
            while self.gateways[number].outbox.front().is_some_and(|(arrives, _)| *arrives <= now) {
                let (_, want) = self.gateways[number].outbox.pop_front().unwrap();
                self.lender.report(&id(number), want, now);
                self.settle();
            }
        }
        if tick.is_multiple_of(1000) {
            self.settle();
        }
        self.most = self.most.max(self.running());
    }

    fn run(&mut self, time: Duration, demand: &[u32]) {
        (0..u64::try_from(time.as_millis()).unwrap()).for_each(|tick| self.step(tick, demand));
    }

    fn cut(&mut self, number: usize) {
        let gateway = &mut self.gateways[number];
        gateway.connected = false;
        gateway.inbox.clear();
        gateway.outbox.clear();
        self.lender.leave(&id(number), self.now);
    }

    fn reconnect(&mut self, number: usize) {
        let gateway = &mut self.gateways[number];
        gateway.share = gateway.share.max(u32::try_from(gateway.running.len()).unwrap());
        (gateway.connected, gateway.sequence, gateway.said) = (true, 0, 0);
        let held = Part { number: 0, share: Share::of_slots(gateway.share) };
        self.lender.join(&id(number), held, self.now);
        self.settle();
    }

    /// Its process is gone, which is certain after a while; or another one of its name comes at once.
    fn die(&mut self, number: usize, comes_back: bool) {
        self.cut(number);
        self.gateways[number] = Borrower::default();
        if comes_back {
            self.reconnect(number);
        } else {
            self.lender.bury(&id(number), self.now);
            self.settle();
        }
    }
}

#[test]
fn all_of_a_limit_is_there_for_whoever_has_the_calls() {
    for delay in [0, 5, 50].map(Duration::from_millis) {
        let mut world = World::new(10, 2, delay, 100 * STEP);
        for demand in [[20, 0], [0, 20], [20, 20], [20, 1], [3, 20]] {
            world.run(2 * SECOND, &demand);
            let running: Vec<_> = world.gateways.iter().map(|gateway| gateway.running.len()).collect();
            assert!(world.running() >= 9, "{running:?} with {demand:?} and {delay:?}");
            assert!(running.iter().zip(demand).all(|(runs, wants)| *runs >= 1 || wants == 0), "{running:?} {demand:?}");
        }
        assert!(world.most <= 10);
    }
}

#[test]
fn one_call_at_once_goes_round() {
    let mut world = World::new(1, 3, 5 * STEP, 20 * STEP);
    world.run(30 * SECOND, &[1, 1, 1]);
    assert_eq!(world.most, 1);
    assert!(world.turns.iter().all(|turns| *turns >= 5), "{:?}", world.turns);
}

#[test]
fn nothing_is_said_while_nothing_changes() {
    let mut world = World::new(100, 2, STEP, 50 * STEP);
    world.run(5 * SECOND, &[40, 30]);
    let sequence = |world: &World| world.gateways.iter().map(|gateway| gateway.sequence).sum::<u64>();
    let before = sequence(&world);
    world.run(10 * SECOND, &[40, 30]);
    assert_eq!(sequence(&world), before);
}

#[test]
fn long_calls_give_their_place_back_one_by_one() {
    let mut world = World::new(4, 2, STEP, 10 * SECOND);
    world.run(SECOND, &[1, 0]);
    world.run(SECOND, &[4, 0]);
    world.run(9 * SECOND, &[4, 4]);
    assert!(world.gateways[1].running.len() == 1, "the first one's place: {:?}", world.gateways);
    world.run(2 * SECOND, &[4, 4]);
    assert!(world.gateways[1].running.len() == 2 && world.most == 4, "{:?}", world.gateways);
}

#[test]
fn a_dead_gateways_places_are_there_again() {
    let mut world = World::new(4, 2, STEP, 100 * STEP);
    world.run(2 * SECOND, &[4, 4]);
    world.die(0, false);
    world.run(SECOND, &[0, 4]);
    assert_eq!(world.gateways[1].running.len(), 4);
    world.run(SECOND, &[0, 4]);
    world.die(1, true);
    world.run(SECOND, &[0, 4]);
    assert_eq!((world.gateways[1].running.len(), world.most), (4, 4));
}

#[derive(Debug, Clone)]
enum Event {
    Shift(Vec<u32>),
    Cut(usize),
    Reconnect(usize),
    Die(usize, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => prop::collection::vec(0..12_u32, 3).prop_map(Event::Shift),
        1 => (0..3_usize).prop_map(Event::Cut),
        2 => (0..3_usize).prop_map(Event::Reconnect),
        1 => (0..3_usize, any::<bool>()).prop_map(|(number, comes_back)| Event::Die(number, comes_back)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Within a minute of silence nobody's places are lent twice, so that the sum holds whatever happens.
    #[test]
    fn never_more_run_at_once_than_may(
        events in prop::collection::vec((event(), 1..3_000_u64), 1..12),
        limit in 0..20_u32,
        delay in 0..200_u64,
        takes in 1..2_000_u64,
    ) {
        let mut world = World::new(limit, 3, Duration::from_millis(delay), Duration::from_millis(takes));
        let mut demand = vec![1; 3];
        for (event, time) in events {
            match event {
                Event::Shift(to) => demand = to,
                Event::Cut(number) => world.cut(number),
                Event::Reconnect(number) => if !world.gateways[number].connected { world.reconnect(number) },
                Event::Die(number, comes_back) => world.die(number, comes_back),
            }
            world.run(Duration::from_millis(time), &demand);
            prop_assert!(world.most <= limit, "{} of {limit}", world.most);
            prop_assert!(world.lender.sum_of_lent().burst <= f64::from(limit));
        }
    }
}
