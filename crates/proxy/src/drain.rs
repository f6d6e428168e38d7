//! How a node stops serving: first no new work, then, at the deadline, no work at all.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Listeners are closed; HTTP/1.1 says `Connection: close`, h2 says GOAWAY, what runs is finished.
    Draining,
    /// What still runs is cut.
    Cut,
}

/// The one who decides.
#[derive(Debug)]
pub struct Drain {
    phases: watch::Sender<Phase>,
    /// Beside the phases: read with each answer.
    leaving: Arc<AtomicBool>,
}

/// Everyone who listens: each listener and each connection holds one.
#[derive(Debug, Clone)]
pub struct Draining {
    phases: watch::Receiver<Phase>,
    leaving: Arc<AtomicBool>,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    #[must_use]
    pub fn new() -> Self {
        Self { phases: watch::Sender::new(Phase::Serving), leaving: Arc::default() }
    }

    #[must_use]
    pub fn listen(&self) -> Draining {
        Draining { phases: self.phases.subscribe(), leaving: Arc::clone(&self.leaving) }
    }

    /// Everything is served, and each HTTP/1.1 answer asks its client to connect anew the next time: to another node, once
    /// the load balancer has looked. Returns at once.
    pub fn announce(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// No new connections, no new requests on old ones. Returns at once.
    pub fn begin(&self) {
        self.announce();
        self.phases.send_if_modified(|phase| (*phase == Phase::Serving).then(|| *phase = Phase::Draining).is_some());
    }

    /// Drains; cuts what is left after `within`. `true`: nothing had to be cut.
    pub async fn finish(&self, within: Duration) -> bool {
        self.begin();
        let whole = tokio::time::timeout(within, self.phases.closed()).await.is_ok();
        self.phases.send_replace(Phase::Cut);
        // A cut task ends when it is next polled; nothing holds it up.
        drop(tokio::time::timeout(Duration::from_secs(1), self.phases.closed()).await);
        whole
    }
}

impl Draining {
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phases.borrow()
    }

    /// Has the node said that it leaves?
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Waits for this phase or a later one. A dropped [`Drain`] counts as a cut.
    pub async fn until(&mut self, phase: Phase) {
        drop(self.phases.wait_for(|now| *now >= phase).await);
    }

    /// Phases from now on; one that has already begun is told first.
    pub(crate) fn changes(&self) -> Changes {
        let mut receiver = self.phases.clone();
        let now = *receiver.borrow_and_update();
        let first = (now != Phase::Serving).then_some(now);
        Changes { first, glance: receiver.clone(), next: Box::pin(next(receiver)) }
    }
}

type Next = (Phase, watch::Receiver<Phase>);

async fn next(mut receiver: watch::Receiver<Phase>) -> Next {
    match receiver.changed().await {
        Ok(()) => {
            let phase = *receiver.borrow_and_update();
            (phase, receiver)
        }
        Err(_) => (Phase::Cut, receiver),
    }
}

/// Phases as they come.
pub(crate) struct Changes {
    first: Option<Phase>,
    /// To see cheaply that nothing has changed.
    glance: watch::Receiver<Phase>,
    next: Pin<Box<dyn Future<Output = Next> + Send>>,
}

impl Changes {
    /// Nothing came since the last look. Registers no waker.
    pub(crate) fn is_quiet(&self) -> bool {
        self.first.is_none() && self.glance.has_changed().is_ok_and(|changed| !changed)
    }

    pub(crate) fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Phase> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        let (phase, receiver) = std::task::ready!(self.next.as_mut().poll(cx));
        self.glance.mark_unchanged();
        self.next = Box::pin(next(receiver));
        Poll::Ready(phase)
    }
}
