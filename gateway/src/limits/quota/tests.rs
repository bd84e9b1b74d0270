//! Loans as calls see them, and what is promised of them.

use dunlin_proto::{internal::v1::BorrowQuotaResponse, model::to_wire_duration};
use proptest::prelude::*;

use super::{loan::News, *};

/// Longer than it takes until people are told again.
const TOLD: Duration = Duration::from_secs(3);

fn quota(text: &str) -> PeriodQuota {
    PeriodQuota {
        owner: "key/abcdefghijkl".parse().unwrap(),
        whose: "key abcdefghijkl".to_owned(),
        quota: text.parse().unwrap(),
        loan: std::sync::Arc::default(),
    }
}

/// A quota of which so many have been lent, one of them for whoever asked; below the floor, nothing may be used yet.
pub(crate) fn borrowed(granted: u64, floor: u64, now: Instant) -> PeriodQuota {
    let of_key = quota("1000/day");
    keep(of_key.loan.get(), &BorrowQuotaResponse { floor, ..lent(granted, 86_400, 3_600) }, now);
    of_key
}

/// How many calls it admits without asking, at the most so many.
pub(crate) fn admits(quota: &PeriodQuota, most: usize, now: Instant) -> usize {
    take(quota.loan.get(), most, now)
}

fn lent(granted: u64, period_start: i64, seconds: u64) -> BorrowQuotaResponse {
    let valid_for = Some(to_wire_duration(Duration::from_secs(seconds)));
    BorrowQuotaResponse { granted, period_start, valid_for, ..BorrowQuotaResponse::default() }
}

/// Asks for a loan, and keeps this one.
fn keep(loan: &QuotaLoan, answer: &BorrowQuotaResponse, now: Instant) -> Surrendered {
    let rest = loan.surrender(now);
    loan.keep(rest.loan, answer, now);
    rest
}

fn report(sequence: u64, millis: u64) -> Report {
    Report { sequence, since: Duration::from_millis(millis), confirms: true }
}

/// What a report says is left.
fn told(loan: &QuotaLoan, now: Instant) -> Option<(i64, u64)> {
    loan.news(report(1, 500), now).map(|news| (news.period_start, news.left))
}

fn take(loan: &QuotaLoan, most: usize, now: Instant) -> usize {
    (0..most).filter(|_| loan.take(loan.moment(now))).count()
}

#[test]
fn a_loan_is_used_once_and_within_its_period() {
    let of_key = quota("100/day");
    let loan = of_key.loan.get();
    let now = Instant::now();
    assert!(!loan.take(loan.moment(now)) && of_key.rest().is_none());
    keep(loan, &lent(4, 86_400, 60), now);
    assert_eq!(told(loan, now), Some((86_400, 3)));
    assert_eq!(told(loan, now + TOLD), None, "it is said once");
    assert!(loan.take(loan.moment(now)) && !loan.take(loan.moment(now + Duration::from_secs(61))));
    assert_eq!(told(loan, now), None, "it is not said all the time");
    assert_eq!(told(loan, now + TOLD), Some((86_400, 2)));
    let back = of_key.rest().unwrap();
    assert_eq!((back.period_start, back.left, back.owed, back.wanted), (86_400, 2, 0, 0));
    assert!(!loan.take(loan.moment(now)), "what is given back is gone");
    keep(loan, &lent(2, 86_400, 60), now);
    let taken = (0..5).filter(|_| loan.take(loan.moment(now))).count();
    assert_eq!((taken, loan.surrender(now).left), (1, 0));
    keep(loan, &lent(9, 86_400, 60), now);
    loan.reset();
    assert!(!loan.take(loan.moment(now)) && loan.surrender(now).left == 8, "a changed quota is asked for anew");
}

#[test]
fn threads_take_no_more_than_there_is() {
    let of_key = quota("1000/day");
    let (loan, now) = (of_key.loan.get(), Instant::now());
    keep(loan, &lent(1_001, 0, 60), now);
    let taken: usize = std::thread::scope(|scope| {
        let take = || (0..500).filter(|_| loan.take(loan.moment(now))).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 1_000);
}

#[test]
fn without_the_scheduler_the_plan_decides() {
    let of_key = quota("100/day");
    assert!(of_key.alone().is_ok() && of_key.alone().is_ok());
    assert_eq!(of_key.rest().unwrap().owed, 2);
    let strict = PeriodQuota { quota: Quota { refuse_unknown: true, ..of_key.quota }, ..quota("1/day") };
    assert_eq!(strict.alone().unwrap_err().code, ErrorCode::Unavailable);
    assert!(strict.rest().is_none());
}

#[test]
fn what_a_refused_call_took_goes_back_to_its_own_period_alone() {
    let of_key = quota("100/day");
    let (loan, now) = (of_key.loan.get(), Instant::now());
    keep(loan, &lent(3, 86_400, 60), now);
    assert!(loan.take(loan.moment(now)));
    of_key.give_back(86_400);
    assert_eq!(loan.surrender(now).left, 2, "it is back");
    keep(loan, &lent(3, 172_800, 60), now);
    of_key.give_back(86_400);
    assert_eq!(loan.surrender(now).left, 2, "the next period has no more than it was lent");
    keep(loan, &lent(3, 172_800, 60), now);
    let _asks = loan.account.try_lock().unwrap();
    of_key.give_back(172_800);
    assert_eq!(loan.surrender(now).left, 2, "while a question is open, nobody knows of which loan it is");
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_used_up_refuses_before_anything_is_taken() {
    let of_key = quota("100/day");
    let now = Instant::now();
    assert!(of_key.check(now).is_ok(), "nobody knows yet");
    of_key.pause(Duration::from_secs(9), false);
    let error = of_key.check(now).unwrap_err();
    assert_eq!((error.code, error.retry_after), (ErrorCode::TooManyRequests, Some(Duration::from_secs(9))));
    keep(of_key.loan.get(), &lent(3, 86_400, 60), now);
    assert!(of_key.check(now).is_ok());
    let strict = PeriodQuota { quota: Quota { refuse_unknown: true, ..of_key.quota }, ..quota("1/day") };
    for (quota, refused) in [(&quota("1/day"), false), (&strict, true)] {
        quota.pause(PAUSE, true);
        assert_eq!(quota.check(now).is_err(), refused);
    }
}

#[test]
fn the_size_of_loans_follows_how_long_they_last() {
    let mut account = Account { wanted: 200, borrowed: None };
    let mut now = Instant::now();
    for (lasted, wanted) in [(0, 200), (100, 400), (100, 800), (700, 800), (1_500, 400), (20_000, 200), (20_000, 200)] {
        now += Duration::from_millis(lasted);
        account.adapt(now);
        account.borrowed = Some(now);
        assert_eq!(account.wanted, wanted);
    }
}

#[test]
fn what_is_promised_is_used_once_the_scheduler_knows() {
    let of_key = quota("1000/day");
    let (loan, now) = (of_key.loan.get(), Instant::now());
    assert_eq!(keep(loan, &BorrowQuotaResponse { floor: 192, ..lent(200, 86_400, 60) }, now).window, 8);
    assert_eq!(take(loan, 3, now), 3);
    let news = loan.news(report(1, 500), now).unwrap();
    // Four in half a second: the window is 12 now.
    assert_eq!(news, News { loan: 1, period_start: 86_400, left: 196, floor: 184, lowers: true });
    assert_eq!(loan.news(report(2, 500), now), None, "it is on its way");
    assert_eq!((take(loan, 100, now), loan.has_some(loan.moment(now))), (4, false));
    let next = loan.news(report(2, 500), now).unwrap();
    assert!(next.floor < news.floor && next.lowers, "{next:?}");
    loan.lower(2, 0, 1);
    assert_eq!(take(loan, 100, now), 0, "that was another loan's");
    loan.lower(1, news.floor, 1);
    assert_eq!(take(loan, 100, now), 8);
    loan.lower(1, next.floor, 2);
    assert_eq!(take(loan, 100, now), usize::try_from(news.floor - next.floor).unwrap());
    let rest = loan.surrender(now);
    assert!(rest.exceeded && rest.left == next.floor && rest.loan == 2 && rest.window >= 24, "{rest:?}");
    loan.lower(1, 0, 3);
    assert_eq!((loan.surrender(now).left, take(loan, 100, now)), (0, 0), "it is given back");
}

#[test]
fn what_is_not_used_any_more_is_promised_again() {
    let of_key = quota("1000000/day");
    let (loan, mut now) = (of_key.loan.get(), Instant::now());
    keep(loan, &lent(5_000, 86_400, 600), now);
    assert_eq!((take(loan, 2_000, now), loan.news(report(1, 500), now).map(|news| news.floor)), (2_000, Some(990)));
    let silent = Report { confirms: false, ..report(2, 500) };
    let mut floors = Vec::new();
    for sequence in 2..14 {
        now += Duration::from_millis(500);
        assert!(loan.news(silent, now).is_none_or(|news| !news.lowers));
        floors.extend(loan.news(report(sequence, 500), now).map(|news| (news.left, news.floor, news.lowers)));
    }
    let (left, floor, _) = *floors.last().unwrap();
    assert!(left == 2_999 && floor > 2_950 && floors.iter().all(|(.., lowers)| !lowers), "{floors:?}");
    assert_eq!(take(loan, 5_000, now), usize::try_from(left - floor).unwrap());
    assert!(loan.surrender(now).exceeded, "and there is more");
}

#[test]
fn a_new_stream_is_told_what_there_is() {
    let of_key = quota("1000/day");
    let (loan, now) = (of_key.loan.get(), Instant::now());
    keep(loan, &BorrowQuotaResponse { floor: 180, ..lent(200, 86_400, 60) }, now);
    take(loan, 15, now);
    let news = loan.news(report(5, 500), now).unwrap();
    assert!(news.lowers);
    loan.begin();
    // It is not confirmed any more, and said again.
    let again = loan.news(report(1, 500), now).unwrap();
    assert!(again.lowers && again.left == 184 && again.floor <= 180, "{again:?}");
    keep(loan, &lent(1, 86_400, 60), now);
    loan.begin();
    assert_eq!(loan.news(report(1, 500), now), None, "nothing is left, as the scheduler takes it to be");
    loan.surrender(now);
    keep(loan, &lent(0, 86_400, 60), now);
    assert_eq!(loan.surrender(now).left, 0);
}

#[test]
fn an_answer_that_nobody_waits_for_is_not_kept() {
    let of_key = quota("1000/day");
    let (loan, now) = (of_key.loan.get(), Instant::now());
    let first = loan.surrender(now);
    let second = loan.surrender(now);
    loan.keep(first.loan, &lent(200, 86_400, 60), now);
    assert_eq!(take(loan, 9, now), 0);
    loan.keep(second.loan, &BorrowQuotaResponse { floor: 900, ..lent(200, 86_400, 60) }, now);
    assert_eq!((take(loan, 9, now), loan.surrender(now).left), (0, 199), "one was for who asked");
}

/// The scheduler, as far as one loan sees it: what is gone, and what it would give back if the process died.
#[derive(Debug, Default)]
struct Scheduler {
    most: u64,
    gone: u64,
    back: u64,
    loan: u64,
}

impl Scheduler {
    fn answer(&mut self, rest: Surrendered, wanted: u64) -> BorrowQuotaResponse {
        self.gone -= rest.left;
        let granted = wanted.min(self.most - self.gone);
        self.gone += granted;
        (self.loan, self.back) = (rest.loan, granted.saturating_sub(rest.window));
        BorrowQuotaResponse { floor: self.back, ..lent(granted, 86_400, 60) }
    }

    fn note(&mut self, news: News) {
        if news.loan == self.loan {
            self.back = news.floor;
        }
    }
}

/// Calls that come evenly; says how many were admitted, how many questions that took, and how much a kill would have lost at worst
/// once it was known how many come.
fn evenly(per_second: u64, most: u64) -> (u64, u64, u64) {
    let of_key = quota("1000000/day");
    let (loan, began, mut scheduler) = (of_key.loan.get(), Instant::now(), Scheduler { most, ..Scheduler::default() });
    let (mut admitted, mut questions, mut worst, mut lent, mut sequence) = (0, 0, 0, 0, 0);
    let (mut account, mut way) = (Account::default(), None);
    for millisecond in 1..60_000_u64 {
        let now = began + Duration::from_millis(millisecond);
        for _ in 0..millisecond * per_second / 1_000 - (millisecond - 1) * per_second / 1_000 {
            if !loan.take(loan.moment(now)) {
                let rest = loan.surrender(now);
                if !rest.exceeded {
                    account.adapt(now);
                }
                account.borrowed = Some(now);
                (questions, lent) = (questions + 1, lent - rest.left);
                let answer = scheduler.answer(rest, account.wanted);
                loan.keep(rest.loan, &answer, now);
                lent += answer.granted;
            }
            admitted += 1;
        }
        if millisecond % 700 == 0 {
            sequence += 1;
            way = loan.news(report(sequence, 700), now);
            way.into_iter().for_each(|news| scheduler.note(news));
        }
        if let Some(news) = way.filter(|news| millisecond % 700 == 30 && news.lowers) {
            loan.lower(news.loan, news.floor, sequence);
        }
        if millisecond > 3_000 {
            worst = worst.max(lent - admitted - scheduler.back);
        }
    }
    (admitted, questions, worst)
}

#[test]
fn a_kill_loses_a_second_and_a_question_is_one_in_a_hundred_admissions() {
    for per_second in [1, 5, 20, 60, 110, 150, 190, 250, 1_000, 3_000] {
        let (admitted, questions, lost) = evenly(per_second, 1_000_000);
        assert_eq!(admitted, 59_999 * per_second / 1_000);
        assert!(questions <= 6 + admitted / 100, "{questions} for {admitted}");
        assert!(lost <= per_second + 10, "{lost} of {per_second} a second");
    }
}

proptest! {
    /// Killed at any moment, the process has admitted no more than what is gone without what goes back.
    #[test]
    fn a_kill_gives_nothing_back_that_was_used(
        steps in prop::collection::vec((0..8_u8, 0..30_usize), 1..400),
    ) {
        let of_key = quota("2000/day");
        let (loan, mut now) = (of_key.loan.get(), Instant::now());
        let mut scheduler = Scheduler { most: 2_000, ..Scheduler::default() };
        let (mut admitted, mut sequence, mut reports, mut noted) = (0, 0, Vec::new(), Vec::new());
        for (what, calls) in steps {
            match what {
                0..=3 => {
                    for _ in 0..calls {
                        if loan.take(loan.moment(now)) {
                            admitted += 1;
                            continue;
                        }
                        let rest = loan.surrender(now);
                        let answer = scheduler.answer(rest, 200);
                        if calls % 5 == 4 {
                            // It is lost.
                            break;
                        }
                        if answer.granted > 0 {
                            loan.keep(rest.loan, &answer, now);
                            admitted += 1;
                        }
                    }
                }
                4 | 5 => {
                    now += Duration::from_millis(500);
                    sequence += 1;
                    reports.extend(loan.news(report(sequence, 500), now).map(|news| (sequence, news)));
                }
                6 if !reports.is_empty() => {
                    let (sequence, news) = reports.remove(0);
                    scheduler.note(news);
                    noted.push((sequence, news));
                }
                7 if !noted.is_empty() => {
                    let (sequence, news) = noted.remove(0);
                    if news.lowers {
                        loan.lower(news.loan, news.floor, sequence);
                    }
                }
                _ => {}
            }
            let open = u64::try_from(loan.left.load(Ordering::Acquire)).unwrap_or_default();
            prop_assert!(admitted + open + scheduler.back <= scheduler.gone && scheduler.gone <= 2_000);
        }
    }
}
