//! Limits that are removed and set again, in virtual time: gateways notice late, or never, and what they had is lent to nobody else
//! meanwhile. How calls are held against a part is not looked at here but in what may be admitted by it.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(5);
/// What all gateways together may admit: a second, and at once.
const WHOLE: (f64, f64) = (100.0, 50.0);

/// What a gateway says of limits.
type Report = Vec<(LimitId, Option<Want>)>;

/// What the stream brings to a gateway, in this order.
#[derive(Debug)]
enum Message {
    /// Whether there is the limit.
    Configuration(bool),
    Loan(Loan),
}

#[derive(Debug, Default)]
struct Own {
    number: u64,
    share: Share,
    saved: f64,
    granted: f64,
    sequence: u64,
    confirms: bool,
    /// Calls since they were counted last, and what they came to a second.
    calls: f64,
    pace: f64,
}

impl Own {
    fn keep_to(&mut self, loan: Loan) {
        if loan.part != self.number {
            self.confirms = true;
            return;
        }
        if loan.sequence <= self.sequence {
            return;
        }
        self.saved = (self.saved + (loan.granted - self.granted).max(0.0)).min(loan.share.burst);
        (self.share, self.granted, self.sequence, self.confirms) = (loan.share, loan.granted, loan.sequence, true);
    }
}

#[derive(Debug)]
struct Borrower {
    name: GatewayId,
    session: Option<Session>,
    /// Its part, where its configuration has the limit.
    part: Option<Own>,
    /// What the stream has said of the limit.
    said: bool,
    /// Loans came of a limit that it does not know.
    unknown: bool,
    inbox: VecDeque<(Instant, Message)>,
    outbox: VecDeque<(Instant, Report)>,
    /// Until then its process does nothing, and its stream takes nothing.
    frozen: Instant,
}

#[derive(Debug)]
struct World {
    lending: Lending,
    cluster: Cluster,
    limit: LimitId,
    catalogs: [Catalog; 2],
    limited: bool,
    gateways: Vec<Borrower>,
    now: Instant,
    delay: Duration,
    ticks: u32,
    parts: u64,
    /// What a bucket would have left that all admissions go through.
    left: f64,
}

/// A catalog with the limit, as a rate or of calls at once, and which one that is.
fn limited(is_rate: bool) -> (Catalog, LimitId) {
    let mut catalog = catalog("100/s");
    if is_rate {
        return (catalog, limit());
    }
    let namespace: Namespace = "shop".parse().unwrap();
    Arc::make_mut(&mut catalog.core).limits.insert(namespace.clone(), 50);
    (catalog, LimitId::Shared(namespace))
}

impl World {
    fn new(is_rate: bool, delay: Duration) -> Self {
        let (now, mut cluster, (catalog, limit)) = (Instant::now(), Cluster::default(), limited(is_rate));
        let lending = Lending::new(BTreeSet::new(), &Catalog::default(), now, PATIENCE);
        let borrower = |name: &str| Borrower {
            name: gateway(name),
            session: Some(session(&mut cluster, name)),
            part: None,
            said: false,
            unknown: false,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            frozen: now,
        };
        let gateways: Vec<_> = ["a", "b", "c"].map(borrower).into();
        for it in &gateways {
            lending.join(&it.name, it.session.unwrap(), &[], &catalog, now);
        }
        let catalogs = [Catalog::default(), catalog];
        Self {
            lending,
            cluster,
            limit,
            catalogs,
            limited: true,
            gateways,
            now,
            delay,
            ticks: 0,
            parts: 0,
            left: WHOLE.1,
        }
    }

    fn set(&mut self, limited: bool) {
        if limited && !self.limited {
            self.left = WHOLE.1;
        }
        self.limited = limited;
    }

    /// What the scheduler has to say to each gateway.
    fn stream(&mut self) {
        let (arrives, limited, now) = (self.now + self.delay, self.limited, self.now);
        for it in self.gateways.iter_mut().filter(|it| it.frozen <= now) {
            let Some(session) = it.session else { continue };
            if std::mem::replace(&mut it.said, limited) != limited {
                it.inbox.push_back((arrives, Message::Configuration(limited)));
            }
            let loans = self.lending.loans(&it.name, session).into_iter();
            it.inbox.extend(loans.map(|(_, loan)| (arrives, Message::Loan(loan))));
        }
    }

    fn serve(&mut self, number: usize, calls: f64) {
        let Some(part) = &mut self.gateways[number].part else { return };
        let seconds = STEP.as_secs_f64();
        part.saved = (part.saved + part.share.per_second * seconds).min(part.share.burst);
        part.calls += calls * seconds;
        let admitted = part.saved.min(calls * seconds);
        part.saved -= admitted;
        self.left -= admitted;
    }

    fn take_in(&mut self, number: usize) {
        let (it, now) = (&mut self.gateways[number], self.now);
        while it.inbox.front().is_some_and(|(arrives, _)| *arrives <= now) {
            match (it.inbox.pop_front().unwrap().1, &mut it.part) {
                (Message::Configuration(false), part) => *part = None,
                (Message::Configuration(true), part @ None) => {
                    self.parts += 1;
                    *part = Some(Own { number: self.parts, ..Own::default() });
                }
                (Message::Configuration(true), Some(_)) => {}
                (Message::Loan(loan), Some(part)) => part.keep_to(loan),
                (Message::Loan(_), None) => it.unknown = true,
            }
        }
    }

    fn say(&mut self, number: usize, measured: bool) {
        let (it, arrives) = (&mut self.gateways[number], self.now + self.delay);
        let unknown = std::mem::take(&mut it.unknown).then(|| (self.limit.clone(), None));
        let part = it.part.as_mut().filter(|part| measured || part.confirms);
        let want = part.map(|part| {
            part.confirms = false;
            if measured {
                part.pace = std::mem::take(&mut part.calls) * 4.0;
            }
            let want = Want { calls: part.pace, sequence: part.sequence, uses: 0.0, part: part.number };
            (self.limit.clone(), Some(want))
        });
        let wants: Vec<_> = unknown.into_iter().chain(want).collect();
        if it.session.is_some() && !wants.is_empty() {
            it.outbox.push_back((arrives, wants));
        }
    }

    fn step(&mut self, calls: &[f64]) {
        self.now += STEP;
        self.ticks += 1;
        self.left = (self.left + WHOLE.0 * STEP.as_secs_f64()).min(WHOLE.1);
        self.stream();
        for (number, calls) in calls.iter().enumerate() {
            self.hear(number);
            if self.gateways[number].frozen > self.now {
                continue;
            }
            // Callers may be first after a pause.
            self.serve(number, *calls);
            self.take_in(number);
            self.say(number, self.ticks.is_multiple_of(50));
        }
        if self.ticks.is_multiple_of(200) {
            self.lending.tidy(&self.catalogs[usize::from(self.limited)], self.now);
        }
    }

    fn hear(&mut self, number: usize) {
        let (it, now) = (&mut self.gateways[number], self.now);
        while it.outbox.front().is_some_and(|(arrives, _)| *arrives <= now) {
            let (_, wants) = it.outbox.pop_front().unwrap();
            let catalog = &self.catalogs[usize::from(self.limited)];
            self.lending.report(&it.name, it.session.unwrap(), wants, catalog, now);
        }
    }

    fn run(&mut self, time: Duration, calls: &[f64]) -> Share {
        let mut most = Share::default();
        for _ in 0..time.as_millis() / STEP.as_millis() {
            self.step(calls);
            let parts = self.gateways.iter().filter_map(|it| it.part.as_ref());
            most = most.larger(parts.map(|part| part.share).fold(Share::default(), Share::plus));
        }
        most
    }

    fn cut(&mut self, number: usize) {
        let it = &mut self.gateways[number];
        let Some(session) = it.session.take() else { return };
        // What was on its way may arrive still.
        it.outbox.clear();
        self.lending.leave(&it.name, session, self.now);
    }

    fn reconnect(&mut self, number: usize) {
        let it = &mut self.gateways[number];
        if it.session.is_some() {
            return;
        }
        let session = session(&mut self.cluster, it.name.as_str());
        it.session = Some(session);
        it.inbox.clear();
        (it.said, it.unknown) = (it.part.is_some(), false);
        let part = it.part.as_mut().map(|part| {
            (part.sequence, part.granted, part.confirms) = (0, 0.0, false);
            (self.limit.clone(), Part { number: part.number, share: part.share })
        });
        let held: Vec<_> = part.into_iter().filter(|(_, held)| held.share != Share::default()).collect();
        self.lending.join(&it.name, session, &held, &self.catalogs[usize::from(self.limited)], self.now);
    }

    /// What a gateway may admit.
    fn burst(&self, number: usize) -> f64 {
        self.gateways[number].part.as_ref().map_or(0.0, |part| part.share.burst)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_a_gateway_has_that_never_saw_its_limit_gone_is_lent_to_nobody_else() {
    for is_rate in [true, false] {
        let mut world = World::new(is_rate, STEP);
        world.run(2 * SECOND, &[400.0, 0.0, 0.0]);
        assert!(world.burst(0) > 35.0, "{}", world.burst(0));
        // It is gone for so long that the scheduler notices, and for a gateway whose stream is stuck it is not.
        world.gateways[0].frozen = world.now + 3 * SECOND;
        world.set(false);
        world.run(2 * SECOND, &[0.0, 0.0, 0.0]);
        world.set(true);
        let most = world.run(SECOND * 9 / 10, &[0.0, 400.0, 0.0]);
        assert!(most.burst <= WHOLE.1 + 1e-6 && world.burst(0) > 35.0, "{most:?}");
        world.run(3 * SECOND, &[0.0, 400.0, 0.0]);
        assert!(world.burst(1) > 35.0 && world.left > -1e-6, "{} {}", world.burst(1), world.left);
    }
}

#[test]
fn what_is_gone_everywhere_is_forgotten_and_whole_when_it_is_set_again() {
    for is_rate in [true, false] {
        let mut world = World::new(is_rate, STEP);
        world.run(2 * SECOND, &[400.0, 100.0, 0.0]);
        world.set(false);
        world.run(3 * SECOND, &[400.0, 100.0, 0.0]);
        assert_eq!(world.lending.census().0, 0);
        world.set(true);
        world.run(2 * SECOND, &[0.0, 0.0, 400.0]);
        assert!(world.burst(2) > 35.0 && world.left > -1e-6, "{:?}", world.gateways);
    }
}

#[derive(Debug, Clone)]
enum Event {
    Shift(Vec<u32>),
    Set(bool),
    Freeze(usize, u64),
    Cut(usize),
    Reconnect(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => prop::collection::vec(0..800_u32, 3).prop_map(Event::Shift),
        5 => any::<bool>().prop_map(Event::Set),
        2 => (0..3_usize, 1..3_000_u64).prop_map(|(number, millis)| Event::Freeze(number, millis)),
        1 => (0..3_usize).prop_map(Event::Cut),
        2 => (0..3_usize).prop_map(Event::Reconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_more_is_lent_than_there_is_however_often_a_limit_comes_and_goes(
        events in prop::collection::vec((event(), 1..1_500_u64), 1..20),
        is_rate in any::<bool>(),
        delay in 0..150_u64,
    ) {
        let mut world = World::new(is_rate, Duration::from_millis(delay));
        let mut calls = vec![200.0; 3];
        for (event, millis) in events {
            match event {
                Event::Shift(to) => calls = to.into_iter().map(f64::from).collect(),
                Event::Set(limited) => world.set(limited),
                Event::Freeze(number, millis) => world.gateways[number].frozen = world.now + Duration::from_millis(millis),
                Event::Cut(number) => world.cut(number),
                Event::Reconnect(number) => world.reconnect(number),
            }
            let most = world.run(Duration::from_millis(millis), &calls);
            let rate = if is_rate { WHOLE.0 } else { 0.0 };
            prop_assert!(most.burst <= WHOLE.1 + 1e-6 && most.per_second <= rate + 1e-6, "{most:?}");
            prop_assert!(!is_rate || world.left > -1e-6, "{} beyond", world.left);
        }
    }
}
