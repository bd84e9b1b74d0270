//! A day in virtual time: curves of load, workers that take a while to be ready, and what is wanted meanwhile.

use super::*;

/// How often the scheduler decides, and how long a worker takes to have a version ready.
const TICK: Duration = Duration::from_millis(250);
const LOADING: Duration = Duration::from_millis(500);

/// What happened.
struct Course {
    /// What was wanted at each tick.
    desired: Vec<u32>,
    /// For how long anybody waited.
    waiting: Duration,
}

impl Course {
    fn at(&self, second: f64) -> u32 {
        self.desired[(second / TICK.as_secs_f64()) as usize]
    }

    /// How often it went up after it had gone down, or down after up.
    fn turns(&self) -> usize {
        let steps: Vec<_> =
            self.desired.windows(2).map(|pair| pair[1].cmp(&pair[0])).filter(|step| step.is_ne()).collect();
        steps.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    fn most(&self) -> u32 {
        self.desired.iter().copied().max().unwrap_or_default()
    }
}

/// Follows a curve of invocations that want to run at once. `noise` shakes what is seen of it at each tick, as it is for
/// invocations that are much shorter than a tick.
fn follow_curve(policy: &Policy, seconds: u64, noise: f64, load: impl Fn(f64) -> f64) -> Course {
    let mut course = Course { desired: Vec::new(), waiting: Duration::ZERO };
    let (mut state, mut orders): (Option<State>, Vec<(Duration, u32)>) = (None, Vec::new());
    for tick in 0..seconds * 4 {
        let now = TICK * u32::try_from(tick).unwrap();
        // What was wanted for long enough is ready; what is no longer wanted is gone at once.
        let wanted = state.as_ref().map_or(0, |state| state.desired);
        let loaded = orders.iter().rev().find(|(at, _)| *at + LOADING <= now).map_or(0, |order| order.1);
        let ready = wanted.min(loaded);
        // Any spread will do, as long as it is the same every time.
        let random = f64::from((u32::try_from(tick).unwrap().wrapping_mul(2_654_435_761) >> 16) & 0xff) / 255.0 - 0.5;
        let asked = (load(now.as_secs_f64()) * (1.0 + 2.0 * noise * random)).round() as u32;
        let in_flight = asked.min(ready * policy.per_worker);
        let stats = Stats { in_flight, queued: asked - in_flight, ready, ..Stats::default() };
        let next = decide(policy, &stats, state.as_ref(), now);
        if stats.queued > 0 {
            course.waiting += TICK;
        }
        orders.push((now, next.desired));
        course.desired.push(next.desired);
        state = Some(next);
    }
    course
}

#[test]
fn a_sine_is_followed_up_and_down_once_a_period() {
    let sine = |period: f64| move |now: f64| 100.0 - 90.0 * (now * std::f64::consts::TAU / period).cos();
    let slow = follow_curve(&POLICY, 3600, 0.0, sine(1200.0));
    assert!(slow.turns() <= 6, "{} turns in three periods", slow.turns());
    assert!((24..=27).contains(&slow.most()) && slow.at(2395.0) <= 6, "{} {}", slow.most(), slow.at(2395.0));
    assert!(slow.waiting < seconds(5), "{:?}", slow.waiting);
    // A fast one is over before the minute is: what its crest needs stays.
    let fast = follow_curve(&POLICY, 600, 0.0, sine(40.0));
    assert!(fast.turns() == 0 && fast.most() <= 27, "{} turns, {}", fast.turns(), fast.most());
}

#[test]
fn a_step_is_there_within_a_second_and_not_overshot() {
    let course = follow_curve(&POLICY, 300, 0.0, |now| if now < 10.0 { 8.0 } else { 200.0 });
    assert_eq!((course.at(9.0), course.at(10.0)), (2, 25));
    assert!(course.most() <= 26 && course.turns() <= 2, "{} at the most, {} turns", course.most(), course.turns());
    assert!(course.waiting <= seconds(2), "{:?}", course.waiting);
    let down = follow_curve(&POLICY, 300, 0.0, |now| if now < 10.0 { 200.0 } else { 8.0 });
    assert!(down.at(60.0) >= 25 && down.at(80.0) == 2, "{} {}", down.at(60.0), down.at(80.0));
}

#[test]
fn a_spike_brings_workers_for_a_minute_and_then_nothing_is_left() {
    let course = follow_curve(&POLICY, 300, 0.0, |now| if (10.0..11.0).contains(&now) { 80.0 } else { 0.0 });
    assert_eq!((course.at(9.0), course.at(10.0)), (0, 10));
    assert!(course.at(60.0) >= 10 && course.at(75.0) == 0, "{} {}", course.at(60.0), course.at(75.0));
    assert_eq!(course.turns(), 1);
}

#[test]
fn noise_moves_nothing() {
    for load in [30.0, 77.0, 160.0] {
        let course = follow_curve(&POLICY, 900, 0.25, |_| load);
        let settled = &course.desired[400..];
        let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
        let enough = (load / 8.0).ceil() as u32;
        assert!(most - least <= 1, "{least} to {most} for {load}");
        assert!(*most <= enough + 2, "{most} where {enough} are enough");
    }
}

#[test]
fn the_first_call_after_an_idle_hour_is_answered_by_workers_at_once() {
    let course = follow_curve(&POLICY, 4000, 0.0, |now| if (1.0..3600.0).contains(&now) { 0.0 } else { 1.0 });
    assert_eq!((course.at(0.0), course.at(3599.0), course.at(3600.0)), (2, 0, 2));
    let many = follow_curve(&POLICY, 10, 0.0, |_| 1000.0);
    assert_eq!(many.at(0.0), 125, "a thousand first calls are asked for at once");
}
