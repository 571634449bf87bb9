//! The core under a scripted shell: behaviours, recovery, random runs.

mod behaviours;
mod canaries;
mod clocks;
mod cluster;
mod explaining;
mod fed_tasks;
mod hosts;
mod leases;
mod limits;
mod moves;
mod offers;
mod operators;
mod outputs;
mod partitions;
mod play;
mod policies;
mod random;
mod removals;
mod restart;
mod swaps;
mod tasks;
mod tenants;
mod upgrades;
mod waiting;
mod words;
