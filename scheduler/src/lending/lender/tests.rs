//! Gateways that borrow, in virtual time: with messages that take their time, callers who come to another gateway, and
//! gateways that die, are cut off and come back.

mod slots;

use std::collections::VecDeque;

use dunlin_proto::model::Rate;
use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(1);
/// So long a gateway that is not heard keeps its part.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that keeps to what it is told. That the real one does is tested where it is.
#[derive(Debug, Default)]
struct Borrower {
    share: Share,
    saved: f64,
    granted: f64,
    sequence: u64,
    /// Calls since the last measurement, what they came to a second, and fractions of the next call.
    calls: f64,
    pace: f64,
    due: f64,
    connected: bool,
    /// Whether it has said anything on this stream.
    new: bool,
    inbox: VecDeque<(Instant, Loan)>,
    outbox: VecDeque<(Instant, Want)>,
    confirms: bool,
}

impl Borrower {
    fn take_in(&mut self, now: Instant) {
        while self.inbox.front().is_some_and(|(arrives, _)| *arrives <= now) {
            let Some((_, loan)) = self.inbox.pop_front() else { return };
            self.share = loan.share;
            self.saved = (self.saved + loan.granted - self.granted).min(loan.share.burst);
            (self.granted, self.sequence, self.confirms) = (loan.granted, loan.sequence, true);
        }
    }

    fn serve(&mut self, calls_per_second: f64) -> u32 {
        self.saved = (self.saved + self.share.per_second * STEP.as_secs_f64()).min(self.share.burst);
        self.due += calls_per_second * STEP.as_secs_f64();
        let mut admitted = 0;
        while self.due >= 1.0 {
            self.due -= 1.0;
            self.calls += 1.0;
            if self.saved >= 1.0 {
                self.saved -= 1.0;
                admitted += 1;
            }
        }
        admitted
    }
}

/// Whether admissions keep to a limit: a bucket that they all go through is never empty.
#[derive(Debug)]
struct Judge {
    rate: Rate,
    left: f64,
    worst: f64,
}

impl Judge {
    fn see(&mut self, admitted: u32) {
        let whole = f64::from(self.rate.burst);
        self.left = (self.left + self.rate.per_second() * STEP.as_secs_f64()).min(whole) - f64::from(admitted);
        self.worst = self.worst.min(self.left);
    }
}

#[derive(Debug)]
struct World {
    lender: Lender,
    gateways: Vec<Borrower>,
    now: Instant,
    delay: Duration,
    judge: Judge,
    messages: u32,
    admitted: u32,
}

fn id(number: usize) -> GatewayId {
    format!("g{number}").parse().unwrap()
}

impl World {
    fn new(rate: Rate, gateways: usize, delay: Duration) -> Self {
        let now = Instant::now();
        let borrower = || Borrower { connected: true, new: true, ..Borrower::default() };
        Self {
            lender: Lender::new(Allowance::Rate(rate), f64::from(rate.burst), now),
            gateways: (0..gateways).map(|_| borrower()).collect(),
            now,
            delay,
            judge: Judge { rate, left: rate.burst.into(), worst: 0.0 },
            messages: 0,
            admitted: 0,
        }
    }

    fn connected(&self) -> usize {
        self.gateways.iter().filter(|gateway| gateway.connected).count()
    }

    fn settle(&mut self) {
        self.lender.expire(self.now, PATIENCE);
        let others = self.connected() > self.lender.holders();
        for gateway in self.lender.settle(self.now, others, true) {
            self.tell(&gateway);
        }
    }

    fn tell(&mut self, gateway: &GatewayId) {
        let (arrives, loan) = (self.now + self.delay, self.lender.loan(gateway));
        let number: usize = gateway.as_str()[1..].parse().unwrap();
        if let Some(loan) = loan.filter(|_| self.gateways[number].connected) {
            self.gateways[number].inbox.push_back((arrives, loan));
        }
    }

    /// One millisecond.
    fn step(&mut self, tick: u64, demand: &[f64]) {
        self.now += STEP;
        let mut admitted = 0;
        for (number, calls) in demand.iter().enumerate() {
            let (now, delay) = (self.now, self.delay);
            let gateway = &mut self.gateways[number];
            gateway.take_in(now);
            admitted += gateway.serve(*calls);
            let measured = tick.is_multiple_of(250);
            if measured {
                gateway.pace = (gateway.pace + gateway.calls * 4.0) / 2.0;
                gateway.calls = 0.0;
            }
            if gateway.connected && (measured || gateway.confirms || gateway.new) {
                let want = Want { calls: gateway.pace, sequence: gateway.sequence, uses: 0.0, part: 0 };
                gateway.outbox.push_back((now + delay, want));
                (gateway.confirms, gateway.new) = (false, false);
                self.messages += 1;
            }
            while self.gateways[number].outbox.front().is_some_and(|(arrives, _)| *arrives <= now) {
                let (_, want) = self.gateways[number].outbox.pop_front().unwrap();
                self.lender.report(&id(number), want, now);
                self.settle();
            }
        }
        if tick.is_multiple_of(1000) {
            self.settle();
        }
        self.admitted += admitted;
        self.judge.see(admitted);
    }

    /// So long with this demand; how many were admitted.
    fn run(&mut self, time: Duration, demand: &[f64]) -> u32 {
        let before = self.admitted;
        for tick in 0..u64::try_from(time.as_millis()).unwrap() {
            self.step(tick, demand);
        }
        self.admitted - before
    }

    fn cut(&mut self, number: usize) {
        let now = self.now;
        let gateway = &mut self.gateways[number];
        gateway.connected = false;
        gateway.inbox.clear();
        gateway.outbox.clear();
        self.lender.leave(&id(number), now);
    }

    fn reconnect(&mut self, number: usize) {
        let now = self.now;
        let gateway = &mut self.gateways[number];
        (gateway.connected, gateway.new, gateway.sequence, gateway.granted) = (true, true, 0, 0.0);
        let held = Part { number: 0, share: gateway.share };
        self.lender.join(&id(number), held, now);
        self.settle();
    }

    fn die(&mut self, number: usize) {
        self.cut(number);
        self.gateways[number] = Borrower::default();
    }
}

fn rate(text: &str, burst: u32) -> Rate {
    Rate { burst, ..text.parse().unwrap() }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nearly_all_of_a_rate_is_used_two_seconds_after_demand_has_shifted() {
    for delay in [0, 5, 50].map(Duration::from_millis) {
        let mut world = World::new(rate("100/s", 50), 2, delay);
        for demand in [[60.0, 60.0], [114.0, 6.0], [0.0, 120.0], [120.0, 0.0], [6.0, 114.0], [60.0, 60.0], [300.0, 9.0]]
        {
            world.run(2 * SECOND, &demand);
            let admitted = world.run(10 * SECOND, &demand);
            assert!(admitted >= 980, "{admitted} of 1000 with {demand:?} and {delay:?}");
            assert!(world.judge.worst > -1e-6, "{} beyond the limit with {demand:?}", world.judge.worst);
        }
    }
}

#[test]
fn one_gateway_alone_has_the_whole_burst_at_once() {
    let mut world = World::new(rate("100/s", 50), 1, Duration::ZERO);
    world.run(10 * STEP, &[0.0]);
    assert!(world.gateways[0].share.burst > 49.99 && world.gateways[0].saved > 49.9, "{:?}", world.gateways[0]);
}

#[test]
fn a_part_that_is_lost_is_lent_again_after_a_minute() {
    let mut world = World::new(rate("100/s", 50), 2, STEP);
    let demand = [100.0, 100.0];
    world.run(5 * SECOND, &demand);
    world.die(1);
    let alone = [200.0, 0.0];
    assert!(world.run(50 * SECOND, &alone) <= 2_700);
    world.run(15 * SECOND, &alone);
    assert!(world.run(10 * SECOND, &alone) >= 980);
    assert!(world.judge.worst > -1e-6);
}

#[test]
fn a_gateway_that_is_cut_off_keeps_its_part_and_says_so_when_it_is_back() {
    let mut world = World::new(rate("100/s", 50), 2, STEP);
    let demand = [100.0, 100.0];
    world.run(5 * SECOND, &demand);
    world.cut(1);
    let admitted = world.run(30 * SECOND, &demand);
    assert!(admitted >= 2_900, "both go on: {admitted}");
    world.reconnect(1);
    assert!(world.run(10 * SECOND, &[10.0, 190.0]) >= 950);
    assert!(world.judge.worst > -1e-6);
}

#[test]
fn what_is_granted_one_by_one_is_granted_in_time() {
    let now = Instant::now();
    let mut lender = Lender::new(Allowance::Rate(rate("1/m", 1)), 1.0, now);
    assert_eq!(lender.admit(now), Ok(()));
    let wait = lender.admit(now + SECOND).unwrap_err();
    assert!(wait > 58 * SECOND && wait <= 60 * SECOND, "{wait:?}");
    assert!(lender.admit(now + 59 * SECOND).is_err());
    assert_eq!(lender.admit(now + 60 * SECOND), Ok(()));
    assert!(lender.admit(now + 61 * SECOND).is_err());
}

#[test]
fn while_gateways_give_back_what_they_took_without_us_they_ask_again_soon() {
    let (now, gateway): (_, GatewayId) = (Instant::now(), "gateway".parse().unwrap());
    let mut lender = Lender::new(Allowance::Rate(rate("20/s", 10)), 0.0, now);
    let taken = Share { per_second: 20.0, burst: 10.0 };
    lender.join(&gateway, Part { number: 7, share: taken }, now);
    assert_eq!(lender.admit(now), Err(SOON), "it has all of it");
    assert_eq!(lender.settle(now, false, true), std::slice::from_ref(&gateway));
    let Loan { part, sequence, share, .. } = lender.loan(&gateway).unwrap();
    assert_eq!(share, Share::default(), "it is asked for it");
    lender.report(&gateway, Want { calls: 2.0, sequence, uses: 0.0, part }, now);
    assert_eq!(lender.admit(now), Err(Duration::from_millis(50)));
    assert_eq!(lender.admit(now + Duration::from_millis(51)), Ok(()));
    let mut never = Lender::new(Allowance::Nothing, 0.0, now);
    assert_eq!(never.admit(now), Err(LONG));
}

#[test]
fn a_changed_limit_holds_for_what_is_lent() {
    let mut world = World::new(rate("1000/s", 500), 2, STEP);
    world.run(5 * SECOND, &[700.0, 700.0]);
    world.lender.change(Allowance::Rate(rate("100/s", 50)), world.now);
    world.settle();
    world.run(SECOND, &[700.0, 700.0]);
    assert!(world.run(10 * SECOND, &[700.0, 700.0]) <= 1_050);
    let sum = world.lender.sum_of_lent();
    assert!(sum.per_second <= 100.001 && sum.burst <= 50.001, "{sum:?}");
    // One that is too small is lent no more.
    world.lender.change(Allowance::Rate(rate("5/s", 5)), world.now);
    world.settle();
    world.run(SECOND, &[0.0, 0.0]);
    assert_eq!(world.lender.sum_of_lent(), Share::default());
}

#[derive(Debug, Clone)]
enum Event {
    Shift(Vec<u32>),
    Cut(usize),
    Reconnect(usize),
    Die(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => prop::collection::vec(0..400_u32, 3).prop_map(Event::Shift),
        1 => (0..3_usize).prop_map(Event::Cut),
        2 => (0..3_usize).prop_map(Event::Reconnect),
        1 => (0..3_usize).prop_map(Event::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Within a minute of silence nobody's part is lent twice, so that the sum holds whatever happens.
    #[test]
    fn all_gateways_together_never_admit_more_than_the_limit(
        events in prop::collection::vec((event(), 1..3_000_u64), 1..12),
        burst in 16..200_u32,
        requests in 10..300_u32,
        delay in 0..200_u64,
    ) {
        let limit = Rate { requests, period: dunlin_proto::model::Period::Second, burst };
        let mut world = World::new(limit, 3, Duration::from_millis(delay));
        let mut demand = vec![50.0; 3];
        for (event, time) in events {
            match event {
                Event::Shift(to) => demand = to.into_iter().map(f64::from).collect(),
                Event::Cut(number) => world.cut(number),
                Event::Reconnect(number) => if !world.gateways[number].connected { world.reconnect(number) },
                Event::Die(number) => world.die(number),
            }
            world.run(Duration::from_millis(time), &demand);
            prop_assert!(world.judge.worst > -1e-6, "{} beyond", world.judge.worst);
            let sum = world.lender.sum_of_lent();
            prop_assert!(sum.per_second <= limit.per_second() + 1e-6 && sum.burst <= f64::from(burst) + 1e-6);
        }
    }
}
