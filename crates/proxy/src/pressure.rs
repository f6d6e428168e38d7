//! What the node is short of: memory, as `tidegate` measures it, and file descriptors, as each new socket's number tells. While
//! it is short of nothing, a request reads one atomic.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tidegate_policy::Class;

use crate::refusal::Refusal;

/// Fewer requests than this are served whatever memory is used: to refuse them would free nothing.
const FEW: usize = 8;
/// Milliseconds between two calls for room.
const CALL_AGAIN: u64 = 250;

/// Shared by all listeners of a node. The default one is short of nothing, ever.
#[derive(Debug, Default)]
pub struct Pressure {
    /// So many classes, from the lowest up, are refused; above all of them nothing is accepted.
    shed: AtomicU8,
    refused: [AtomicU64; Class::ALL.len()],
    /// 0: no bound.
    descriptors: AtomicUsize,
    /// Milliseconds of the boot clock, when idle connections were last called upon to end.
    called: AtomicU64,
}

impl Pressure {
    /// What is measured now: refuse so many classes, from the lowest up. 4: all, and new connections.
    pub fn shed(&self, classes: u8) {
        self.shed.store(classes.min(4), Relaxed);
    }

    #[must_use]
    pub fn sheds(&self) -> u8 {
        self.shed.load(Relaxed)
    }

    /// Clients' connections may bring the node to so many open descriptors.
    pub fn bound_descriptors(&self, most: usize) {
        self.descriptors.store(most, Relaxed);
    }

    /// Requests refused for want of memory, by class.
    #[must_use]
    pub fn refused(&self) -> [(Class, u64); 4] {
        Class::ALL.map(|class| (class, self.refused[class as usize].load(Relaxed)))
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.shed.load(Relaxed) != 0
    }

    /// Only asked while it is on.
    #[cold]
    pub(crate) fn judge(&self, class: Class, running: usize) -> Result<(), Refusal> {
        let rank = Class::ALL.len() - class as usize; // low: 1
        if usize::from(self.sheds()) < rank || running < FEW {
            return Ok(());
        }
        self.refused[class as usize].fetch_add(1, Relaxed);
        Err(Refusal::Overloaded)
    }

    /// May nobody else connect, for want of memory?
    pub(crate) fn is_full(&self, running: usize) -> bool {
        self.is_on() && usize::from(self.sheds()) >= Class::ALL.len() && running >= FEW
    }

    /// Does this socket take more descriptors than clients may have? The kernel gives the lowest number that is free, so it tells
    /// how many are open at least.
    pub(crate) fn is_beyond(&self, socket: &impl AsRawFd) -> bool {
        let most = self.descriptors.load(Relaxed);
        most != 0 && usize::try_from(socket.as_raw_fd()).is_ok_and(|number| number >= most)
    }

    /// Is it time to call for room again? True for one who asks.
    pub(crate) fn may_call(&self) -> bool {
        let now = tidegate_clock::boot().0 / 1_000_000;
        let called = self.called.load(Relaxed);
        now.saturating_sub(called) >= CALL_AGAIN && self.called.compare_exchange(called, now, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_classes_go_first_and_few_requests_always_run() {
        let pressure = Pressure::default();
        assert!(!pressure.is_on());
        let served = |classes| {
            pressure.shed(classes);
            Class::ALL.map(|class| pressure.judge(class, 100).is_ok())
        };
        assert_eq!(served(1), [true, true, true, false]);
        assert_eq!(served(2), [true, true, false, false]);
        assert_eq!(served(4), [false, false, false, false]);
        assert!(pressure.judge(Class::Low, FEW - 1).is_ok() && !pressure.is_full(FEW - 1) && pressure.is_full(FEW));
        assert_eq!(pressure.refused().map(|(_, refused)| refused), [1, 1, 2, 3]);
    }
}
