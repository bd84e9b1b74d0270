//! The clock that interrupts guests: a thread of its own, so that no amount of guest code can starve it. It sleeps while no
//! guest is running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// Time between two interrupts: how long a guest may keep a thread before somebody else has a turn.
pub(crate) const TICK: Duration = Duration::from_millis(2);
/// Ticks without a guest after which the thread goes to sleep. Steady traffic never lets it, so that calls pay no wake-up.
const IDLE_TICKS: u32 = 500;

/// The thread and the count of guests that are running.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    /// Starts the clock of these engines.
    pub(super) fn start<'a>(engines: impl IntoIterator<Item = &'a Engine>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let engines: Vec<_> = engines.into_iter().map(Engine::weak).collect();
        let thread = thread::Builder::new().name("dunlin-ticker".to_owned()).spawn(move || {
            let mut idle = 0;
            while !seen.stop.load(Ordering::Acquire) {
                thread::sleep(TICK);
                engines.iter().filter_map(EngineWeak::upgrade).for_each(|engine| engine.increment_epoch());
                idle = if seen.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
                if idle > IDLE_TICKS {
                    seen.sleep();
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps the clock going for as long as the guard lives.
    pub(super) fn running(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
        Running(self.shared.clone())
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    /// Parks the ticker's thread until there is a guest. A guest that starts meanwhile sees `asleep` or is seen here.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.asleep.load(Ordering::SeqCst) && !self.stop.load(Ordering::Acquire) {
            if self.running.load(Ordering::SeqCst) > 0 {
                self.asleep.store(false, Ordering::SeqCst);
                return;
            }
            thread::park();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A guest is running.
#[derive(Debug)]
pub(super) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
