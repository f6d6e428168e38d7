//! There is no room for a call's key: a moment's wait until another key has left (`tick/room.rs`).

use std::sync::atomic::Ordering;

use tidegate_clock as clock;
use tidegate_model::Nanos;
use tidegate_policy::Limit;

use super::slow::{A_MOMENT, Next, Place, is_in_need, unavailable};
use super::{Ask, Limiter, Why};

/// Whoever finds no room for his key waits for it no longer than this.
const ROOM_TAKES: Nanos = Nanos::from_millis(500);

impl Limiter {
    /// As many keys as this node may hold are in use: waits until one of them has left. No subject is ever given another one's
    /// key, for then it would have two of them, here and where it has its own.
    #[cold]
    pub(super) async fn wait_for_room(&self, asks: &[Ask<'_>], limit: &Limit, started: Nanos) -> Result<Next, Why> {
        let now = clock::boot();
        let waited_too_long = now >= started.saturating_add(ROOM_TAKES);
        let given_up = self.silence.is_given_up(now, self.silence.patience_of(is_in_need(limit)));
        let Some(_place) = Place::take(self).filter(|_| !waited_too_long && !given_up) else {
            return unavailable(limit);
        };
        self.counters.overflows.fetch_add(1, Ordering::Relaxed);
        let freed = self.room.freed.notified();
        tokio::pin!(freed);
        freed.as_mut().enable(); // Before anybody hears of it: no slot that comes free for it can be missed.
        // For all of a call at once: each would take as long.
        let missing = asks.iter().filter(|ask| self.table.peek(ask.key()).is_none()).count();
        let _wish = self.room.wish(missing.max(1));
        if self.table.is_full() {
            let _anyhow = tokio::time::timeout(A_MOMENT.into(), freed).await;
        } else {
            tokio::task::yield_now().await;
        }
        Ok(Next::TryAgain)
    }
}
