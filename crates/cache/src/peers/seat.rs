//! Whose turn it is: while he fetches he says so, at the end how it went. Dropped without a word, it failed.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::desk::packed;
use super::{Fill, Fills, Message, Outcome, Peers, Reply};
use crate::cache::Cache;
use crate::stored::Stored;

/// How often he says that he is at it.
const PULSE: Duration = Duration::from_millis(250);
/// How long a word to the owner may take.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Seat {
    cache: Arc<Cache>,
    fills: Arc<Fills>,
    owner: u64,
    fill: Fill,
    token: u128,
    pulse: Option<AbortHandle>,
    told: bool,
}

impl Seat {
    pub(super) fn take(cache: &Arc<Cache>, fills: &Arc<Fills>, owner: u64, fill: Fill, token: u128) -> Self {
        let runtime = Handle::try_current().ok().filter(|_| !fills.is_me(owner));
        let pulse = runtime.map(|runtime| {
            let still = Message::Still { fill, token };
            runtime.spawn(beat(Arc::clone(&fills.peers), owner, still)).abort_handle()
        });
        Self { cache: Arc::clone(cache), fills: Arc::clone(fills), owner, fill, token, pulse, told: false }
    }

    /// It is stored here, and may be elsewhere.
    pub(crate) fn stored(mut self, stored: &Stored, variants: usize) {
        if self.fills.is_me(self.owner) {
            self.told = true;
            return self.cache.done_here(&self.fill, self.token, stored);
        }
        let variants = u32::try_from(variants).unwrap_or(u32::MAX);
        self.tell(match packed(stored) {
            Some(response) => Outcome::Stored { response, variants },
            None => Outcome::Alone { all: false },
        });
    }

    /// Each for himself. `all`: nor need those on one node wait for each other.
    pub(crate) fn alone(mut self, all: bool) {
        self.tell(Outcome::Alone { all });
    }

    fn tell(&mut self, outcome: Outcome) {
        self.told = true;
        let (fill, token) = (self.fill, self.token);
        if self.fills.is_me(self.owner) {
            return self.cache.done(&fill, token, outcome);
        }
        // Without room the turn lapses by itself.
        let Ok(room) = Arc::clone(&self.fills.telling).try_acquire_owned() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let done = self.fills.peers.ask(self.owner, Message::Done { fill, token, outcome }, PATIENCE);
        runtime.spawn(async move {
            done.await;
            drop(room);
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(pulse) = &self.pulse {
            pulse.abort();
        }
        if !self.told {
            self.tell(Outcome::Failed);
        }
    }
}

/// Until it is aborted, or the turn is another's.
async fn beat(peers: Arc<dyn Peers>, owner: u64, still: Message) {
    loop {
        tokio::time::sleep(PULSE).await;
        if matches!(peers.ask(owner, still.clone(), PATIENCE).await, Some(Reply::Away)) {
            return;
        }
    }
}

impl Fills {
    pub(crate) fn is_me(&self, node: u64) -> bool {
        self.peers.me() == node
    }
}
