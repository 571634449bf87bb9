//! Facts and framework state, made durable.
