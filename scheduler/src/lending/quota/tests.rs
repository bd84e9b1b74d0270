//! How loans become smaller, what counts as left, and that what goes back is never used as well.

use proptest::prelude::*;

use super::*;

fn owner() -> LimitId {
    "key/abcdefghijkl".parse().unwrap()
}

fn process(name: &str, boot: u64) -> Process {
    (name.parse().unwrap(), boot)
}

fn left(loan: u64, left: u64, floor: u64) -> Left {
    Left { loan, period_start: 100, left, floor }
}

/// What of the only quota goes back with the only process.
fn back(buried: &[Buried]) -> u64 {
    buried.iter().flat_map(|buried| &buried.unused).map(|unused| unused.admissions).sum()
}

#[test]
fn loans_become_smaller_and_end_with_the_quota() {
    for (allowed, gone, wanted, gateways, expected) in [
        (10_000, 0, 100, 2, 100),
        (10_000, 0, 5_000, 2, 1_250),
        (10_000, 0, 5_000, 0, 2_500),
        (10_000, 9_600, 100, 2, 50),
        (50, 0, 100, 2, 6),
        (10, 9, 100, 2, 1),
        (10, 10, 100, 2, 0),
        (10, 12, 100, 2, 0),
        (10, 0, 0, 2, 0),
    ] {
        assert_eq!(loan(allowed, gone, wanted, gateways), expected, "{allowed} {gone} {wanted} {gateways}");
    }
}

#[test]
fn what_gateways_have_left_is_of_one_period_and_of_those_that_are_heard() {
    let (mut lefts, key) = (Lefts::default(), owner());
    let [a, b] = ["a", "b"].map(|name| process(name, 0));
    lefts.note(&a, key.clone(), left(0, 7, 7));
    lefts.note(&b, key.clone(), left(0, 5, 0));
    assert_eq!((lefts.of(&key, 100), lefts.of(&key, 200), lefts.elsewhere(&key, 100, &a)), (12, 0, 5));
    lefts.note(&a, key.clone(), Left { period_start: 200, ..left(0, 3, 0) });
    lefts.forget(&b);
    assert_eq!((lefts.of(&key, 100), lefts.of(&key, 200)), (0, 3));
    assert!(lefts.bury(&a.0).is_empty() && lefts.of(&key, 200) == 0, "who numbers nothing has promised nothing");
}

#[test]
fn a_process_that_is_gone_gives_back_what_it_promised_not_to_use_once() {
    let (mut lefts, key, a) = (Lefts::default(), owner(), process("a", 7));
    assert!(lefts.join(&a).is_empty());
    assert_eq!(lefts.ask(&a, &key, 1), Question { is_buried: false, is_late: false });
    assert_eq!(lefts.lend(&a, &key, left(1, 200, 0), 20), 180);
    assert_eq!((lefts.note(&a, key.clone(), left(1, 190, 170)), lefts.of(&key, 100)), (170, 190));
    let buried = lefts.bury(&a.0);
    let unused = vec![Unused { owner: key.clone(), period_start: 100, admissions: 170 }];
    assert_eq!(buried, [Buried { process: a.clone(), unused }]);
    // Others may wait for it until it is back.
    assert_eq!(lefts.of(&key, 100), 190);
    assert!(lefts.bury(&a.0).is_empty() && lefts.join(&process("a", 8)).is_empty());
    assert!(lefts.is_buried(&a) && !lefts.is_buried(&process("a", 8)));
    lefts.forget_gateway(&a.0);
    assert_eq!(lefts.of(&key, 100), 190, "it is on its way");
    lefts.forget(&a);
    assert_eq!(lefts.of(&key, 100), 0);
    // Whatever arrives of it later gives back and promises nothing.
    assert_eq!(lefts.ask(&a, &key, 2), Question { is_buried: true, is_late: false });
    assert_eq!((lefts.note(&a, key.clone(), left(1, 190, 170)), back(&lefts.bury(&a.0))), (0, 0));
}

#[test]
fn a_gateway_that_comes_back_is_another_process_or_the_same() {
    let (mut lefts, key, a) = (Lefts::default(), owner(), process("a", 7));
    lefts.join(&a);
    lefts.note(&a, key.clone(), left(3, 150, 120));
    assert!(lefts.join(&a).is_empty());
    assert_eq!(lefts.of(&key, 100), 120, "so much is certainly left");
    assert_eq!(back(&lefts.join(&process("a", 8))), 120);
    // An unheard one that may be alive keeps what it has, and it counts as used.
    let mut lefts = Lefts::default();
    lefts.join(&a);
    lefts.note(&a, key.clone(), left(3, 150, 120));
    lefts.forget_gateway(&a.0);
    assert_eq!((lefts.of(&key, 100), back(&lefts.bury(&a.0))), (0, 0));
}

#[test]
fn words_about_earlier_loans_say_nothing() {
    let (mut lefts, key, a) = (Lefts::default(), owner(), process("a", 7));
    lefts.join(&a);
    lefts.ask(&a, &key, 2);
    assert_eq!((lefts.note(&a, key.clone(), left(1, 150, 120)), back(&lefts.bury(&a.0))), (0, 0), "it is given back");
    let mut lefts = Lefts::default();
    lefts.join(&a);
    lefts.ask(&a, &key, 2);
    assert_eq!(lefts.lend(&a, &key, left(2, 200, 0), 20), 180);
    assert_eq!(lefts.ask(&a, &key, 1), Question { is_buried: false, is_late: true });
    assert_eq!(lefts.lend(&a, &key, left(1, 0, 0), 20), 0);
    assert_eq!(back(&lefts.bury(&a.0)), 180);
    for (boot, loan, window) in [(0, 1, 20), (7, 0, 20), (7, 1, 0), (7, 1, 200), (7, 1, 300)] {
        let (mut lefts, old) = (Lefts::default(), process("a", boot));
        lefts.join(&old);
        assert_eq!(lefts.lend(&old, &key, left(loan, 200, 0), window), 0, "{boot} {loan} {window}");
    }
}

/// A gateway's process, its quota's loan, and what is on its way from it.
#[derive(Debug, Default)]
struct Borrower {
    boot: u64,
    dead: bool,
    loan: u64,
    open: u64,
    floor: u64,
    /// What it has said and is not confirmed: the lowest floor.
    said: Option<u64>,
    /// What it has said, and whether the floor is lower than before.
    reports: VecDeque<(Left, bool)>,
    /// Loan, what it gives back, and window.
    questions: VecDeque<(u64, u64, u64)>,
    answers: VecDeque<(u64, u64, u64)>,
    confirmed: VecDeque<(u64, u64)>,
}

impl Borrower {
    fn left(&self) -> u64 {
        self.open + self.floor
    }

    fn say(&mut self, window: u64) {
        if self.said.is_none() && self.open > window {
            self.floor += self.open - window;
            self.open = window;
        }
        let lowest = self.said.unwrap_or(self.floor);
        let floor = lowest.min(self.left().saturating_sub(window));
        if floor < lowest {
            self.said = Some(floor);
        }
        self.reports.push_back((left(self.loan, self.left(), floor), floor < lowest));
    }

    fn ask(&mut self, window: u64) {
        self.loan += 1;
        self.questions.push_back((self.loan, self.left(), window));
        (self.open, self.floor, self.said) = (0, 0, None);
    }

    fn hear(&mut self) {
        if let Some((loan, granted, floor)) = self.answers.pop_front()
            && loan == self.loan
        {
            (self.floor, self.open) = (floor, granted - floor);
        }
        if let Some((loan, floor)) = self.confirmed.pop_front()
            && loan == self.loan
        {
            self.open += self.floor.saturating_sub(floor);
            self.floor = self.floor.min(floor);
            self.said = self.said.filter(|said| *said != floor);
        }
    }
}

const QUOTA: u64 = 1_000;

#[derive(Debug, Default)]
struct World {
    lefts: Lefts,
    gateways: [Borrower; 2],
    gone: u64,
    admitted: u64,
    /// Questions of processes that are gone.
    stray: Vec<(Process, (u64, u64, u64))>,
    written: VecDeque<Written>,
}

/// A question that is not answered yet.
#[derive(Debug)]
struct Written {
    number: usize,
    name: Process,
    loan: u64,
    granted: u64,
    window: u64,
    lost: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        (0..2).for_each(|number| world.start(number));
        world
    }

    fn name(&self, number: usize) -> Process {
        process(["a", "b"][number], self.gateways[number].boot)
    }

    fn start(&mut self, number: usize) {
        let (old, boot) = (self.name(number), self.gateways[number].boot + 1);
        let before = std::mem::replace(&mut self.gateways[number], Borrower { boot, ..Borrower::default() });
        self.stray.extend(before.questions.into_iter().map(|question| (old.clone(), question)));
        let name = self.name(number);
        let buried = self.lefts.join(&name);
        self.take_back(&buried);
    }

    fn take_back(&mut self, buried: &[Buried]) {
        self.gone -= back(buried);
        buried.iter().for_each(|buried| self.lefts.forget(&buried.process));
    }

    fn admit(&mut self, number: usize, calls: u64) {
        let it = &mut self.gateways[number];
        let calls = if it.dead { 0 } else { calls.min(it.open) };
        it.open -= calls;
        self.admitted += calls;
    }

    /// The scheduler takes in a report, where its stream is there still.
    fn take_in(&mut self, number: usize) {
        let (name, it) = (self.name(number), &mut self.gateways[number]);
        let Some((report, lowers)) = it.reports.pop_front() else { return };
        self.lefts.note(&name, owner(), report);
        if lowers && !self.lefts.is_buried(&name) {
            it.confirmed.push_back((report.loan, report.floor));
        }
    }

    /// The last question arrives or the first, and what comes of it is written. Its answer may be lost.
    fn write(&mut self, number: usize, last: bool, lost: bool) {
        let (name, it) = (self.name(number), &mut self.gateways[number]);
        let question = if last { it.questions.pop_back() } else { it.questions.pop_front() };
        if let Some(question) = question {
            self.write_of(number, name, question, lost);
        }
    }

    fn write_of(&mut self, number: usize, name: Process, (loan, back, window): (u64, u64, u64), lost: bool) {
        let question = self.lefts.ask(&name, &owner(), loan);
        self.gone -= if question.is_buried { 0 } else { back };
        let granted = if question.is_late { 0 } else { super::loan(QUOTA, self.gone, 200, 2) };
        self.gone += granted;
        self.written.push_back(Written { number, name, loan, granted, window, lost });
    }

    /// The next question of those that have been written is answered.
    fn answer(&mut self) {
        let Some(Written { number, name, loan, granted, window, lost }) = self.written.pop_front() else { return };
        let floor = self.lefts.lend(&name, &owner(), left(loan, granted, 0), window);
        if !lost && self.name(number) == name {
            self.gateways[number].answers.push_back((loan, granted, floor));
        }
    }

    fn step(&mut self, number: usize, what: u8, calls: u64) {
        let alive = !self.gateways[number].dead;
        match what {
            0..=5 => self.admit(number, calls),
            6..=8 if alive => self.gateways[number].say(8 + calls),
            9 if alive => self.gateways[number].ask(8 + calls),
            10..=12 => self.take_in(number),
            13 => self.write(number, calls.is_multiple_of(4), calls.is_multiple_of(7)),
            14 => self.answer(),
            15..=17 if alive => self.gateways[number].hear(),
            18 if calls < 8 => self.gateways[number].dead = true,
            19 if calls < 8 => {
                // Its process is gone or believed to be, and its questions may arrive all the same.
                let name = self.name(number).0;
                let buried = self.lefts.bury(&name);
                self.take_back(&buried);
            }
            20 if calls < 8 => self.start(number),
            21 => {
                if let Some((name, question)) = self.stray.pop() {
                    self.write_of(number, name, question, true);
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is late, lost or killed, also where a process is taken for dead that lives.
    #[test]
    fn no_more_is_admitted_than_the_quota(steps in prop::collection::vec((0..2_usize, 0..22_u8, 0..40_u64), 1..600)) {
        let mut world = World::new();
        for (number, what, calls) in steps {
            world.step(number, what, calls);
            let may_be = world.admitted + world.gateways.iter().filter(|it| !it.dead).map(|it| it.open).sum::<u64>();
            prop_assert!(may_be <= world.gone && world.gone <= QUOTA, "{world:?}");
        }
    }

    #[test]
    fn at_most_one_question_in_a_hundred_admissions(allowed in 10_000..1_000_000_u64, gateways in 1..3_u64) {
        let (mut gone, mut questions) = (0, 0);
        while gone < allowed {
            // The least that gateways ask for.
            gone += loan(allowed, gone, 200, gateways);
            questions += 1;
        }
        prop_assert!(gone == allowed && questions <= allowed / 100, "{questions} for {allowed}");
    }
}
