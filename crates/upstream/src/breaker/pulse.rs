//! What requests touch of a breaker: counters of good calls, one word that says what may pass.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::circuit::Pass;
use crate::shard::Shard;

/// Threads of different runtimes count in different lines of the cache.
const LINES: usize = 8;

const ALL: u32 = 0;
const NOTHING: u32 = u32::MAX;
const ONE: u32 = u32::MAX - 1;

#[derive(Debug, Default)]
pub(crate) struct Pulse {
    lines: [Line; LINES],
    /// [`Pass`], as a number: 1 to 99 is a percentage.
    gate: AtomicU32,
    /// Requests that may await their answers at once, and one more: 0 is no limit.
    limit: AtomicU32,
    /// The last call failed: the next good one is told to the circuit.
    failing: AtomicBool,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line {
    ok: AtomicU64,
    slow: AtomicU64,
}

impl Pulse {
    pub(crate) fn ok(&self, shard: Shard, slow: bool) {
        let line = &self.lines[shard.place % LINES];
        line.ok.fetch_add(1, Relaxed);
        if slow {
            line.slow.fetch_add(1, Relaxed);
        }
    }

    /// Good calls, and the slow ones among them.
    pub(crate) fn counted(&self) -> (u64, u64) {
        self.lines.iter().fold((0, 0), |(ok, slow), line| (ok + line.ok.load(Relaxed), slow + line.slow.load(Relaxed)))
    }

    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Relaxed);
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    pub(crate) fn set(&self, pass: Pass) {
        let word = match pass {
            Pass::All => ALL,
            Pass::Share(percent) => percent.clamp(1, 99),
            Pass::One => ONE,
            Pass::Nothing => NOTHING,
        };
        self.gate.store(word, Relaxed);
    }

    pub(crate) fn pass(&self) -> Pass {
        match self.gate.load(Relaxed) {
            ALL => Pass::All,
            ONE => Pass::One,
            NOTHING => Pass::Nothing,
            percent => Pass::Share(percent),
        }
    }

    /// While it is suspect: how many requests may await their answers at once.
    pub(crate) fn limit(&self) -> Option<u32> {
        self.limit.load(Relaxed).checked_sub(1)
    }

    pub(crate) fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.map_or(0, |limit| limit.saturating_add(1)), Relaxed);
    }

    /// Nothing may pass: also not as a second choice.
    pub(crate) fn is_shut(&self) -> bool {
        self.gate.load(Relaxed) >= ONE
    }
}
