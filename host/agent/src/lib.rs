//! The agent: registration, checkpoints, runners, sandboxes and the data plane.
