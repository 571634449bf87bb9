//! A bug planted on purpose, to see that the simulator finds it. Not in any release: only tests enable the
//! feature.

use std::cell::Cell;

thread_local! {
    static IGNORED: Cell<bool> = const { Cell::new(false) };
}

/// From here on every host of this thread leads on when its lease may be over, until it is told.
pub fn ignore_lease(ignored: bool) {
    IGNORED.set(ignored);
}

pub(super) fn is_lease_ignored() -> bool {
    IGNORED.get()
}
