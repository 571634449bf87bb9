//! A thread that moves an engine's epoch, and rests while no guest runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// Moves the epoch once per `interval` while a [`Ticking`] is held. Ends with its engine: within one
/// interval of the drop of the last [`Ticker`] clone.
#[derive(Clone, Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// How many calls want ticks.
    wanted: AtomicU64,
    thread: Thread,
}

/// Ticks come while this is held.
#[derive(Debug)]
pub(crate) struct Ticking {
    shared: Arc<Shared>,
}

/// How long the thread rests at most before it looks whether its ticker still exists.
const REST: Duration = Duration::from_millis(500);

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(engine: &Engine, interval: Duration) -> std::io::Result<Self> {
        let engine = engine.weak();
        let (send, receive) = std::sync::mpsc::sync_channel::<std::sync::Weak<Shared>>(1);
        let handle = thread::Builder::new()
            .name("proffer-ticker".to_owned())
            .spawn(move || {
                let Ok(shared) = receive.recv() else { return };
                loop {
                    let Some(now) = shared.upgrade() else { return };
                    if now.wanted.load(Ordering::Acquire) == 0 {
                        drop(now);
                        thread::park_timeout(REST);
                        continue;
                    }
                    drop(now);
                    thread::sleep(interval);
                    let Some(engine) = engine.upgrade() else {
                        return;
                    };
                    engine.increment_epoch();
                }
            })?;
        let shared = Arc::new(Shared {
            wanted: AtomicU64::new(0),
            thread: handle.thread().clone(),
        });
        // The thread waits for exactly this message; if it has died there are no ticks, and the
        // start has failed.
        send.send(Arc::downgrade(&shared))
            .map_err(|_| std::io::Error::other("the ticker thread ended at once"))?;
        Ok(Self { shared })
    }

    /// Asks for ticks until the result is dropped.
    pub(crate) fn ticking(&self) -> Ticking {
        if self.shared.wanted.fetch_add(1, Ordering::AcqRel) == 0 {
            self.shared.thread.unpark();
        }
        Ticking {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.shared.wanted.fetch_sub(1, Ordering::AcqRel);
    }
}
