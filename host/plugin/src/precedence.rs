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
pub(crate) const MAKES_WAY: Duration = Duration::from_millis(2);

/// Epochs after which every call that runs has seen one: a call's first slice ends with the second.
const EPOCHS: u32 = 2;

/// Who comes before whom.
pub(crate) struct Precedence {
    engine: Engine,
    /// Short calls that wait or run.
    short: AtomicUsize,
    /// Heavy calls in a slice that ends when a short one comes.
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

    /// A heavy call wants a slice: waits until there is no short one, or so long. One that has waited in vain has
    /// its whole slice, whoever comes.
    pub(crate) fn heavy_begins(&self, at_most: Duration) -> HeavySlice<'_> {
        let began = Instant::now();
        while began.elapsed() < at_most {
            // Counted first: a short call that comes now sees it, or is seen.
            self.heavy.fetch_add(1, Ordering::SeqCst);
            let slice = HeavySlice(Some(self));
            if self.short.load(Ordering::SeqCst) == 0 {
                return slice;
            }
            drop(slice);
            thread::sleep(LOOK_EVERY);
        }
        HeavySlice(None)
    }
}

/// A heavy call's slice. With its end other threads that have woken may run, whatever they do.
pub(crate) struct HeavySlice<'p>(Option<&'p Precedence>);

impl Drop for HeavySlice<'_> {
    fn drop(&mut self) {
        if let Some(precedence) = self.0 {
            precedence.heavy.fetch_sub(1, Ordering::SeqCst);
        }
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It does not end by itself.
    const LONG: Duration = Duration::from_secs(3_600);

    fn counts(precedence: &Precedence) -> [usize; 2] {
        [&precedence.short, &precedence.heavy].map(|count| count.load(Ordering::SeqCst))
    }

    #[test]
    fn a_heavy_call_waits_until_the_last_short_one_is_gone() {
        let precedence = Precedence::new(Engine::default());
        precedence.short_comes();
        thread::scope(|scope| {
            let heavy = scope.spawn(|| {
                let slice = precedence.heavy_begins(LONG);
                let seen = counts(&precedence);
                drop(slice);
                seen
            });
            precedence.short_goes();
            assert_eq!(heavy.join().unwrap(), [0, 1]);
        });
        assert_eq!(counts(&precedence), [0, 0]);
    }

    #[test]
    fn one_that_has_waited_in_vain_is_not_stopped_for_those_who_come() {
        let precedence = Precedence::new(Engine::default());
        precedence.short_comes();
        let slice = precedence.heavy_begins(MAKES_WAY);
        assert_eq!(counts(&precedence), [1, 0]);
        drop(slice);
        assert_eq!(counts(&precedence), [1, 0]);
    }
}
