//! How a node stops serving: first no new work, then, at the deadline, no work at all.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Another process accepts from the listening sockets. Whoever is connected is served here, and asked to connect anew.
    Passing,
    /// Listeners are closed; HTTP/1.1 says `Connection: close`, h2 says GOAWAY, what runs is finished.
    Draining,
    /// What still runs is cut.
    Cut,
}

/// What all are told.
#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    /// How often idle connections were called upon to end.
    calls: u32,
}

/// What a connection hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Phase(Phase),
    /// Who is idle is to end.
    MakeRoom,
}

/// The one who decides.
#[derive(Debug)]
pub struct Drain {
    phases: Arc<watch::Sender<State>>,
    /// Beside the phases: read with each answer.
    leaving: Arc<AtomicBool>,
}

/// Everyone who listens: each listener and each connection holds one.
#[derive(Debug, Clone)]
pub struct Draining {
    phases: watch::Receiver<State>,
    /// To call the others; whoever decides may be gone.
    others: Weak<watch::Sender<State>>,
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
        let phases = watch::Sender::new(State { phase: Phase::Serving, calls: 0 });
        Self { phases: Arc::new(phases), leaving: Arc::default() }
    }

    #[must_use]
    pub fn listen(&self) -> Draining {
        let others = Arc::downgrade(&self.phases);
        Draining { phases: self.phases.subscribe(), others, leaving: Arc::clone(&self.leaving) }
    }

    /// Everything is served, and each HTTP/1.1 answer asks its client to connect anew the next time: to another node, once
    /// the load balancer has looked. Returns at once.
    pub fn announce(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// No new connections: what the kernel has taken and this process has not waits for whoever accepts next. Returns at once.
    pub fn pass_on(&self) {
        self.announce();
        self.reach(Phase::Passing);
    }

    /// No new connections, no new requests on old ones. Returns at once.
    pub fn begin(&self) {
        self.announce();
        self.reach(Phase::Draining);
    }

    fn reach(&self, phase: Phase) {
        self.phases.send_if_modified(|state| (state.phase < phase).then(|| state.phase = phase).is_some());
    }

    /// Drains; cuts what is left after `within`. `true`: nothing had to be cut.
    pub async fn finish(&self, within: Duration) -> bool {
        self.begin();
        let whole = tokio::time::timeout(within, self.phases.closed()).await.is_ok();
        self.phases.send_modify(|state| state.phase = Phase::Cut);
        // A cut task ends when it is next polled; nothing holds it up.
        drop(tokio::time::timeout(Duration::from_secs(1), self.phases.closed()).await);
        whole
    }
}

impl Draining {
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phases.borrow().phase
    }

    /// Has the node said that it leaves?
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Waits for this phase or a later one. A dropped [`Drain`] counts as a cut.
    pub async fn until(&mut self, phase: Phase) {
        drop(self.phases.wait_for(|now| now.phase >= phase).await);
    }

    /// Connections that have been idle for a while end, to make room for others.
    pub(crate) fn make_room(&self) {
        if let Some(others) = self.others.upgrade() {
            others.send_modify(|state| state.calls = state.calls.wrapping_add(1));
        }
    }

    /// Phases from now on; one that has already begun is told first.
    pub(crate) fn changes(&self) -> Changes {
        let mut receiver = self.phases.clone();
        let now = receiver.borrow_and_update().phase;
        let first = (now != Phase::Serving).then_some(now);
        Changes { first, now, glance: receiver.clone(), next: Box::pin(next(receiver)) }
    }
}

type Next = (Phase, watch::Receiver<State>);

async fn next(mut receiver: watch::Receiver<State>) -> Next {
    match receiver.changed().await {
        Ok(()) => {
            let phase = receiver.borrow_and_update().phase;
            (phase, receiver)
        }
        Err(_) => (Phase::Cut, receiver),
    }
}

/// Phases as they come.
pub(crate) struct Changes {
    first: Option<Phase>,
    /// As heard last.
    now: Phase,
    /// To see cheaply that nothing has changed.
    glance: watch::Receiver<State>,
    next: Pin<Box<dyn Future<Output = Next> + Send>>,
}

impl Changes {
    /// Nothing came since the last look. Registers no waker.
    pub(crate) fn is_quiet(&self) -> bool {
        self.first.is_none() && self.glance.has_changed().is_ok_and(|changed| !changed)
    }

    pub(crate) fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Told> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Told::Phase(first));
        }
        let (phase, receiver) = std::task::ready!(self.next.as_mut().poll(cx));
        self.glance.mark_unchanged();
        self.next = Box::pin(next(receiver));
        let same = std::mem::replace(&mut self.now, phase) == phase;
        Poll::Ready(if same { Told::MakeRoom } else { Told::Phase(phase) })
    }
}
