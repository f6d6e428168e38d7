//! A node's partition reserve of one key: `size` permits in any window, already counted in the limit, so that a node that
//! was cut off may serve them without asking anybody. Exact, like everything here.

use tidegate_model::{Nanos, Permits};

use crate::guard;
use crate::protocol::{RESERVE_TTL, holder_time};
use crate::window::Window;

#[derive(Debug, Clone, Default)]
pub struct Reserve {
    size: Permits,
    spent: Window,
    expiry: Nanos,
}

impl Reserve {
    /// The ledger's word about this node's reserve, asked for at `sent`.
    pub fn renew(&mut self, size: Permits, window: Nanos, sent: Nanos, now: Nanos) {
        if size == Permits::ZERO {
            self.size = Permits::ZERO;
            return;
        }
        if self.size == Permits::ZERO {
            // An earlier life of this node may have spent it a moment ago.
            self.spent = Window::default();
            if guard!("reserve-spent-at-the-start") {
                self.spent.charge(size, now, window);
            }
        }
        self.size = size;
        self.expiry = sent.saturating_add(holder_time(RESERVE_TTL));
    }

    /// Stops using it. Only after this may the ledger be told.
    pub fn end(&mut self) {
        self.size = Permits::ZERO;
    }

    /// Nothing can be taken until the ledger says again that it is there.
    pub(crate) fn lapse(&mut self) {
        self.expiry = Nanos::ZERO;
    }

    #[must_use]
    pub fn size(&self) -> Permits {
        self.size
    }

    /// Takes `cost`, if the reserve has it at `now`.
    pub fn take(&mut self, cost: Permits, window: Nanos, now: Nanos) -> bool {
        if now >= self.expiry && guard!("reserve-lapses") || self.size == Permits::ZERO {
            return false;
        }
        // The holder's clock may run slow: its window is the longer one, for the same reason its lease is the shorter.
        let margin = if guard!("reserve-window-margin") { window.0 / 10 } else { 0 };
        let window = Nanos(window.0.saturating_add(margin));
        self.spent.forget(now, window);
        if self.spent.total().saturating_add(cost) > self.size {
            return false;
        }
        self.spent.charge(cost, now, window);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: Nanos = Nanos::from_secs(1);

    #[test]
    fn a_new_process_starts_with_its_reserve_spent() {
        let mut reserve = Reserve::default();
        reserve.renew(Permits(2), W, Nanos::ZERO, Nanos::ZERO);
        assert!(!reserve.take(Permits(1), W, Nanos::from_millis(500)));
        assert!(reserve.take(Permits(2), W, Nanos::from_millis(1_101)));
        assert!(!reserve.take(Permits(1), W, Nanos::from_millis(1_200)));
    }

    #[test]
    fn it_lapses_when_nobody_renews_it() {
        let mut reserve = Reserve::default();
        reserve.renew(Permits(2), W, Nanos::ZERO, Nanos::ZERO);
        assert!(!reserve.take(Permits(1), W, RESERVE_TTL));
    }

    #[test]
    fn its_window_is_long_enough_for_a_slow_clock() {
        let mut reserve = Reserve::default();
        reserve.renew(Permits(2), W, Nanos::ZERO, Nanos::ZERO);
        assert!(reserve.take(Permits(2), W, Nanos::from_secs(2)));
        // A clock 8 % fast says that a second went by after 926 ms.
        assert!(!reserve.take(Permits(1), W, Nanos::from_millis(3_080)));
        assert!(reserve.take(Permits(1), W, Nanos::from_millis(3_100)));
    }
}
