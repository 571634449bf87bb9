//! How much linear memory and how many tables a store may have.

use std::fmt;

use wasmtime::ResourceLimiter;

/// Bounds a store's linear memories *together* (wasmtime's own limiter bounds each by itself), and
/// remembers the most that was held.
#[derive(Clone, Debug)]
pub(crate) struct MemoryLimiter {
    bytes_max: usize,
    table_elements_max: usize,
    /// Of all memories together. Memories never shrink.
    bytes: usize,
}

/// Instances that one store may have: a Python component uses 38.
const INSTANCES_MAX: usize = 64;
/// Memories that one store may have.
const MEMORIES_MAX: usize = 8;
/// Tables that one store may have.
const TABLES_MAX: usize = 32;
/// Elements of one table: the largest seen is 7,700.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 60_000;

/// A guest wanted more memory than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryExceeded {
    pub(crate) bytes_max: u64,
}

impl fmt::Display for MemoryExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it wanted more than its {} MiB of memory",
            self.bytes_max / (1024 * 1024)
        )
    }
}

impl std::error::Error for MemoryExceeded {}

impl MemoryLimiter {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            table_elements_max: TABLE_ELEMENTS_MAX,
            bytes: 0,
        }
    }

    /// The most bytes of linear memory that the store has held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.bytes.saturating_add(desired.saturating_sub(current));
        if total > self.bytes_max {
            // A trap, not a failed growth: what the guest's allocator would make of that is an
            // `unreachable` somewhere, and nobody would learn why.
            return Err(MemoryExceeded {
                bytes_max: self.bytes_max as u64,
            }
            .into());
        }
        self.bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_elements_max)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
