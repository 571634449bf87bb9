//! The core under a scripted shell: behaviours, recovery, random runs.

mod behaviours;
mod cluster;
mod hosts;
mod offers;
mod random;
mod restart;
mod tasks;
mod words;
