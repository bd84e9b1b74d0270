//! What goes on on a connection, as far as its end depends on it: whether it is idle, whether its caller takes the answers that
//! it asked for, whether it takes back more than it asks for. How a connection ends is `edge.rs`'s.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::{sync::Notify, time::Instant};

/// Requests that a caller may take back within `TAKEN_BACK_WITHIN`, unless it lets as many be answered (rapid reset, T33).
const TAKEN_BACK: u32 = 100;
const TAKEN_BACK_WITHIN: Duration = Duration::from_secs(10);

/// What a connection does.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests that are being answered.
    running: AtomicUsize,
    /// Requests so far.
    begun: AtomicU32,
    /// Whether there has been a request.
    pub(super) served: Arc<AtomicBool>,
    opened: Instant,
    /// When the last answer ended, in milliseconds since the connection was opened.
    last: AtomicU64,
    /// Counts the periods of the caller's patience that have begun.
    period: AtomicUsize,
    /// Answers of which a piece waits for the caller, by the period in which it began to, modulo three.
    waiting: [AtomicUsize; 3],
    taken_back: Mutex<TakenBack>,
    flooded: Notify,
}

/// Requests that the caller did not let be answered, since a moment.
#[derive(Debug)]
struct TakenBack {
    since: Instant,
    /// How many requests there had been then.
    begun: u32,
    count: u32,
}

impl Activity {
    pub(super) fn new() -> Self {
        let opened = Instant::now();
        Self {
            running: AtomicUsize::new(0),
            begun: AtomicU32::new(0),
            served: Arc::default(),
            opened,
            last: AtomicU64::new(0),
            period: AtomicUsize::new(0),
            waiting: Default::default(),
            taken_back: Mutex::new(TakenBack { since: opened, begun: 0, count: 0 }),
            flooded: Notify::new(),
        }
    }

    /// A request begins, until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        Answering { activity: self.clone(), ended: false }
    }

    /// Waits until nothing has happened for so long.
    pub(super) async fn idle(&self, patience: Duration) {
        loop {
            let left = patience.saturating_sub(self.idle_for());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    fn idle_for(&self) -> Duration {
        if self.running.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.opened.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Waits until a piece of an answer has waited for the caller for so long, twice that at the most.
    pub(super) async fn unread(&self, patience: Duration) {
        loop {
            tokio::time::sleep(patience).await;
            let period = self.period.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            // What began to wait before the period that has just ended has waited through the whole of it.
            if self.waiting_since(period.wrapping_add(1)).load(Ordering::Relaxed) > 0 {
                return;
            }
        }
    }

    fn waiting_since(&self, period: usize) -> &AtomicUsize {
        let [zero, one, two] = &self.waiting;
        match period % 3 {
            0 => zero,
            1 => one,
            _ => two,
        }
    }

    /// Waits until the caller takes back what it asks for, over and over.
    pub(super) async fn flooded(&self) {
        self.flooded.notified().await;
    }

    /// A request is over: it was answered, or taken back.
    fn end(&self, answered: bool) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
        self.running.fetch_sub(1, Ordering::Relaxed);
        if answered {
            return;
        }
        let begun = self.begun.load(Ordering::Relaxed);
        if self.taken_back.lock().unwrap_or_else(PoisonError::into_inner).one_more(begun) {
            self.flooded.notify_one();
        }
    }
}

impl TakenBack {
    /// Counts one; says whether these are too many of the requests that there have been.
    fn one_more(&mut self, begun: u32) -> bool {
        if self.since.elapsed() > TAKEN_BACK_WITHIN {
            *self = Self { since: Instant::now(), begun, count: 0 };
        }
        self.count += 1;
        self.count > TAKEN_BACK && self.count > begun.saturating_sub(self.begun) / 2
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering {
    activity: Arc<Activity>,
    /// Whether the caller has let it be answered.
    ended: bool,
}

impl Answering {
    /// The answer's body, for as long as it takes. To a request for a head alone it is not sent.
    pub(super) fn with<B: Body>(mut self, body: B, head: bool) -> Counted<B> {
        self.ended = head || body.is_end_stream();
        Counted { body, answering: self, waiting: None }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.activity.end(self.ended);
    }
}

/// An answer's body that keeps its connection from being idle.
#[derive(Debug)]
pub(super) struct Counted<B> {
    body: B,
    answering: Answering,
    /// The period in which its last piece was given, while no other has been asked for.
    waiting: Option<usize>,
}

impl<B> Counted<B> {
    fn wait(&mut self) {
        let period = self.answering.activity.period.load(Ordering::Relaxed);
        self.answering.activity.waiting_since(period).fetch_add(1, Ordering::Relaxed);
        self.waiting = Some(period);
    }

    fn wait_no_more(&mut self) {
        if let Some(period) = self.waiting.take() {
            self.answering.activity.waiting_since(period).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<B> Drop for Counted<B> {
    fn drop(&mut self) {
        self.wait_no_more();
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.wait_no_more();
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {
                self.answering.ended = self.body.is_end_stream();
                self.wait();
            }
            Some(Err(_)) | None => self.answering.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::stream;
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn answer(activity: &Arc<Activity>) -> Counted<Full<Bytes>> {
        activity.begin().with(Full::from("answer"), false)
    }

    async fn within(seconds: u64, wait: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_secs(seconds), wait).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_once_its_answers_have_ended() {
        let activity = Arc::new(Activity::new());
        let running = answer(&activity);
        assert!(!within(1_000, activity.idle(PATIENCE)).await);
        drop(running);
        assert!(!within(59, activity.idle(PATIENCE)).await);
        assert!(within(2, activity.idle(PATIENCE)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn t33_an_answer_that_is_not_taken_is_noticed_though_others_are() {
        let activity = Arc::new(Activity::new());
        let mut stuck = answer(&activity);
        stuck.frame().await.unwrap().unwrap();
        let others = async {
            loop {
                answer(&activity).collect().await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            unread = within(59, activity.unread(PATIENCE)) => assert!(!unread),
            () = others => {}
        }
        assert!(within(121, activity.unread(PATIENCE)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_function_does_not_keep_it_waiting() {
        let activity = Arc::new(Activity::new());
        let mut slow =
            activity.begin().with(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>()), false);
        assert!(!within(1_000, async { drop(slow.frame().await) }).await);
        assert!(!within(1_000, activity.unread(PATIENCE)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn t33_who_takes_back_most_of_many_requests_is_noticed() {
        for (answered, noticed) in [(0, true), (50, true), (150, false)] {
            let activity = Arc::new(Activity::new());
            for _ in 0..answered {
                answer(&activity).collect().await.unwrap();
            }
            for _ in 0..=TAKEN_BACK {
                drop(activity.begin());
            }
            assert_eq!(within(1, activity.flooded()).await, noticed, "{answered}");
        }
        let activity = Arc::new(Activity::new());
        for _ in 0..3 * TAKEN_BACK {
            drop(activity.begin());
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        assert!(!within(1, activity.flooded()).await, "so few at a time are nobody's flood");
    }
}
