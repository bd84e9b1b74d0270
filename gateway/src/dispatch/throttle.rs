//! What a gateway does when workers say that they are busy with a version: it lets through about twice what they took lately,
//! answers the rest itself, and asks a second worker for few of those that the first refused. Time and chance are arguments.
//!
//! Both follow from what happened in the last second, so that all is as before soon after the load has fallen
//! ("Handling Overload" in Beyer et al., Site Reliability Engineering, 2016).

use std::time::Duration;

use dunlin_proto::ApiError;
use tokio::time::Instant;

/// How long it takes until what happened counts for half.
const HALF_LIFE: Duration = Duration::from_millis(250);
/// Invocations that are let through for each that workers took.
const PER_TAKEN: f32 = 2.0;
/// Refusals that lead to nothing.
const FREE: f32 = 20.0;
/// Second tries: for each invocation that was taken, in a second, and the most at once.
const TRIES_PER_TAKEN: f32 = 0.1;
const TRIES_PER_SECOND: f32 = 10.0;
const MOST_TRIES: f32 = 100.0;

/// What became of a version's invocations lately.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    asked: f32,
    taken: f32,
    /// Second tries that were made and not made up for yet.
    tried: f32,
    looked: Option<Instant>,
    /// What a worker said last when it had no room.
    words: Option<ApiError>,
}

impl Throttle {
    fn age(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.looked.replace(now).unwrap_or(now)).as_secs_f32();
        let left = (-since / HALF_LIFE.as_secs_f32()).exp2();
        self.asked *= left;
        self.taken *= left;
        self.tried = (self.tried - since * TRIES_PER_SECOND).max(0.0);
    }

    /// A worker took one.
    pub(crate) fn taken(&mut self, now: Instant) {
        self.age(now);
        self.asked += 1.0;
        self.taken += 1.0;
        self.tried = (self.tried - TRIES_PER_TAKEN).max(0.0);
    }

    /// A worker had no room for one, in these words.
    pub(crate) fn refused(&mut self, words: &ApiError, now: Instant) {
        self.age(now);
        self.asked += 1.0;
        if self.words.as_ref() != Some(words) {
            self.words = Some(words.clone());
        }
    }

    /// Why one is refused without asking a worker, if it is; `random` is from 0 to 1.
    pub(crate) fn refuses(&mut self, random: f32, now: Instant) -> Option<ApiError> {
        self.words.as_ref()?;
        self.age(now);
        let excess = self.asked - PER_TAKEN * self.taken - FREE;
        if random * (self.asked + 1.0) >= excess {
            return None;
        }
        self.asked += 1.0;
        self.words.clone()
    }

    /// Whether another worker may be asked for one that the first had no room for.
    pub(crate) fn may_try_again(&mut self, now: Instant) -> bool {
        self.age(now);
        let may = self.tried + 1.0 <= MOST_TRIES;
        self.tried += if may { 1.0 } else { 0.0 };
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> ApiError {
        ApiError::new(dunlin_proto::ErrorCode::TooManyRequests, "10 wait")
    }

    /// Offers so many calls a second for so long to workers that take `capacity` a second; says what workers took, what they
    /// refused, and what never reached them.
    fn run(throttle: &mut Throttle, now: &mut Instant, offered: u32, capacity: u32, seconds: u32) -> (u32, u32, u32) {
        let (mut taken, mut refused, mut kept) = (0, 0, 0);
        let mut room = 0.0_f32;
        for call in 0..offered * seconds {
            *now += Duration::from_secs(1) / offered;
            room = (room + capacity as f32 / offered as f32).min(2.0);
            // Any spread will do.
            let random = (call.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32;
            if throttle.refuses(random, *now).is_some() {
                kept += 1;
            } else if room >= 1.0 {
                room -= 1.0;
                throttle.taken(*now);
                taken += 1;
            } else {
                throttle.refused(&words(), *now);
                refused += 1;
            }
        }
        (taken, refused, kept)
    }

    #[tokio::test(start_paused = true)]
    async fn f13_workers_see_twice_what_they_take_and_no_more() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        run(&mut throttle, &mut now, 4000, 400, 5);
        let (taken, refused, kept) = run(&mut throttle, &mut now, 4000, 400, 10);
        assert!(taken >= 3_900, "workers are never idle: {taken} of 4000");
        assert!(refused <= 6_000 && kept >= 30_000, "{refused} reach workers in vain, {kept} do not");
    }

    #[tokio::test(start_paused = true)]
    async fn f13_when_the_load_falls_nothing_is_refused_soon() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        run(&mut throttle, &mut now, 40_000, 400, 5);
        run(&mut throttle, &mut now, 200, 400, 5);
        assert_eq!(run(&mut throttle, &mut now, 200, 400, 10), (2000, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_refusals_lead_to_nothing() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        (0..20).for_each(|_| throttle.refused(&words(), now));
        assert_eq!(throttle.refuses(0.0, now), None);
        (0..10).for_each(|_| throttle.refused(&words(), now));
        assert_eq!(throttle.refuses(0.0, now), Some(words()), "in the worker's own words");
    }

    #[tokio::test(start_paused = true)]
    async fn second_tries_are_a_tenth_of_what_is_taken_and_a_few_a_second() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        let tries = |throttle: &mut Throttle, now| (0..1000).filter(|_| throttle.may_try_again(now)).count();
        assert_eq!(tries(&mut throttle, now), 100);
        now += Duration::from_secs(2);
        assert_eq!(tries(&mut throttle, now), 20);
        (0..100).for_each(|_| throttle.taken(now));
        assert!((9..=10).contains(&tries(&mut throttle, now)));
    }
}
