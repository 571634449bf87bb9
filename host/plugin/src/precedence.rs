//! Short calls go first: heavy ones stop where they are until no short one waits or runs.
//!
//! A low priority alone does not do it. The scheduler lets whoever runs finish a slice of milliseconds before
//! it looks at who has woken, and with heavy calls on every processor a short one would wait for that, at its
//! beginning and again at its end. So the epoch is moved for a short call that comes: heavy guests see it
//! within microseconds, and their threads sleep.
//!
//! Nothing here is locked: whoever has a low priority would be stopped with the lock in its hands.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wasmtime::Engine;

/// Between two looks of a heavy call whether there are short ones: as long as most of them take, so that whoever
/// waits for one's answer has a processor too.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// A heavy call waits for short ones so long at most before each of its slices: beside short ones that never
/// end it goes on, at a third of its pace or what its thread's priority gives it.
const MAKES_WAY: Duration = Duration::from_millis(2);

/// Epochs after which every call that runs has seen one: a call's first slice ends with the second.
const EPOCHS: u32 = 2;

/// Who comes before whom.
pub(crate) struct Precedence {
    engine: Engine,
    /// Short calls that wait or run.
    short: AtomicUsize,
    /// Heavy calls in a slice.
    heavy: AtomicUsize,
}

impl Precedence {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            short: AtomicUsize::new(0),
            heavy: AtomicUsize::new(0),
        }
    }

    /// A short call has come: whoever is heavy makes way.
    pub(crate) fn short_comes(&self) {
        self.short.fetch_add(1, Ordering::SeqCst);
        if self.heavy.load(Ordering::SeqCst) > 0 {
            for _ in 0..EPOCHS {
                self.engine.increment_epoch();
            }
        }
    }

    /// It is done, or short no longer.
    pub(crate) fn short_goes(&self) {
        self.short.fetch_sub(1, Ordering::SeqCst);
    }

    /// A heavy call wants a slice: waits until there is no short one, but not for ever.
    pub(crate) fn heavy_begins(&self) {
        let began = Instant::now();
        loop {
            // Counted first: a short call that comes now sees it, or is seen.
            self.heavy.fetch_add(1, Ordering::SeqCst);
            if self.short.load(Ordering::SeqCst) == 0 || began.elapsed() >= MAKES_WAY {
                return;
            }
            self.heavy.fetch_sub(1, Ordering::SeqCst);
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Its slice is over: other threads that have woken may run, whatever they do.
    pub(crate) fn heavy_ends(&self) {
        self.heavy.fetch_sub(1, Ordering::SeqCst);
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heavy_call_waits_for_short_ones_and_not_for_ever() {
        let precedence = Precedence::new(Engine::default());
        precedence.short_comes();
        let began = Instant::now();
        precedence.heavy_begins();
        assert!(began.elapsed() >= MAKES_WAY);
        precedence.heavy_ends();
        thread::scope(|scope| {
            let heavy = scope.spawn(|| precedence.heavy_begins());
            precedence.short_goes();
            heavy.join().unwrap();
        });
        let counts = [&precedence.short, &precedence.heavy].map(|n| n.load(Ordering::SeqCst));
        assert_eq!(counts, [0, 1]);
    }
}
