//! The deterministic state machine that owns the pool and the offer loop.
