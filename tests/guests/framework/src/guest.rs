//! What each word does in `start` and around a step.

use std::cell::{Cell, RefCell};

use crate::bindings::exports::proffer::framework::guest::Guest;
use crate::bindings::proffer::framework::model::{Answer, Batch, Context};
use crate::bindings::proffer::framework::state;
use crate::bindings::proffer::types::log;
use crate::orders;

pub(crate) struct Hostile;

thread_local! {
    static CONFIG: RefCell<String> = const { RefCell::new(String::new()) };
    /// Steps of this instance.
    static CALLS: Cell<u32> = const { Cell::new(0) };
    /// For whoever keeps what it should not.
    pub(crate) static KEPT: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Guest for Hostile {
    fn start(context: Context) -> Result<(), String> {
        match context.config.as_str() {
            "start-spin" => spin(),
            "start-trap" => panic!("as ordered"),
            "start-refuse" => return Err("I do not like this configuration".to_owned()),
            "start-write" => {
                let refused = state::set("key", b"value");
                log::write(log::Level::Info, &format!("{refused:?}"));
            }
            _ => {}
        }
        CONFIG.set(context.config);
        Ok(())
    }

    fn step(batch: Batch) -> Result<Answer, String> {
        let config = CONFIG.with_borrow(String::clone);
        CALLS.set(CALLS.get() + 1);
        let (word, number) = config.split_once(' ').unwrap_or((&config, ""));
        match word {
            "spin" => spin(),
            "memory" => eat(),
            "stack" => {
                std::hint::black_box(dig(std::hint::black_box(1)));
            }
            "trap" if Some(CALLS.get()) == number.parse().ok() => panic!("as ordered"),
            "error" => return Err("I would rather not".to_owned()),
            "write-and-trap" => {
                write("lost", "x");
                panic!("as ordered");
            }
            "flood" => {
                for n in 0..100_000 {
                    log::write(log::Level::Error, &format!("line {n}"));
                }
            }
            _ => {}
        }
        Ok(orders::answer(word, batch))
    }
}

/// Writes to the state; whether it is refused is for the host's tests to see.
pub(crate) fn write(key: &str, value: &str) {
    if let Err(error) = state::set(key, value.as_bytes()) {
        log::write(log::Level::Warn, &format!("{error:?}"));
    }
}

fn spin() {
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

fn eat() {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&kept);
    }
}

/// Neither a loop in disguise nor anything on the stack in linear memory.
#[inline(never)]
fn dig(depth: u64) -> u64 {
    if depth == u64::MAX {
        return 0;
    }
    dig(depth + 1).wrapping_mul(3).rotate_left(7) ^ depth
}
