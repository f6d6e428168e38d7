//! Where a rate limit is decided.
//!
//! [`Limiter::admit`] takes from all limits of a call or from none. The quick way is one take from each cell. Only when a
//! cell is short does it look further (`admit/slow.rs`): the leader's last verdict, and at most one wait for news.

mod entered;
mod promised;
mod room;
mod slow;
mod standing;
mod taking;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tidegate_clock as clock;
use tidegate_model::{Incarnation, NodeId, Permits, Subject};
use tidegate_policy::Limit;
use tidegate_quota::evidence::{Record, short_name};
use tidegate_quota::protocol::Key;
use tidegate_quota::{Hashing, SubjectHasher};

pub(crate) use self::promised::Waiter;
pub(crate) use self::slow::Next;
pub use self::standing::{Standing, Standings};
use self::taking::How;
use crate::bell::Bell;
use crate::decisions::DecisionLog;
use crate::journal::Journal;
use crate::owner::Owners;
use crate::permit::Permit;
use crate::room::Room;
use crate::silence::Silence;
use crate::slot::{Found, Pinned};
use crate::table::Table;

/// One limit a call must pass.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub limit: &'a Limit,
    pub subject: Subject,
    pub cost: Permits,
}

impl Ask<'_> {
    #[inline]
    #[must_use]
    pub fn key(&self) -> Key {
        Key { limit: self.limit.id, subject: self.subject }
    }
}

/// What a limiter needs to know of its node.
#[derive(Debug)]
pub struct Settings {
    pub node: NodeId,
    /// Drawn anew at each start of the process.
    pub incarnation: Incarnation,
    /// The cluster's secret: subjects are hashed with it, alike on every node.
    pub secret: [u8; 16],
    /// Keys held at once; who comes beyond them has one that nobody uses handed back first.
    pub most_keys: usize,
    pub decisions: Option<DecisionLog>,
}

/// The leases of this node.
#[derive(Debug)]
pub struct Limiter {
    /// Itself, for what outlives a borrow.
    me: Weak<Self>,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    hasher: SubjectHasher,
    pub(crate) table: Table,
    pub(crate) bell: Bell,
    pub(crate) silence: Silence,
    waiting: AtomicUsize,
    /// Live nodes, this one included.
    sharers: AtomicU64,
    decisions: Option<DecisionLog>,
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) owners: Owners,
    pub(crate) room: Room,
    /// Of subjects that may have more than their limit says.
    pub(crate) ceilings: arc_swap::ArcSwap<crate::orders::Ceilings>,
    pub(crate) any_ceilings: AtomicBool,
    pub(crate) counters: Counters,
    /// When a cost that was capped was last told of (boot clock); 0: never.
    pub(crate) capped_told: AtomicU64,
}

/// What happened so far, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    pub batches: AtomicU64,
    pub exchange_failures: AtomicU64,
    /// Requests that waited for the leader.
    pub waited: AtomicU64,
    /// Permits that were taken too late, or while a report was cut.
    pub burnt: AtomicU64,
    /// Requests admitted without a permit by `on_unavailable: allow`: not exact.
    pub allowed_unsafely: AtomicU64,
    pub reserve_used: AtomicU64,
    /// Permits that another node took for this one, as the owner of their keys.
    pub fetched: AtomicU64,
    /// Waits for room for one more key.
    pub overflows: AtomicU64,
    /// Keys handed back to make room for others.
    pub evicted: AtomicU64,
    /// Permits used beyond what was reserved, and not there: owed to the next grants.
    pub owed: AtomicU64,
    /// Permits reserved and not used.
    pub refunded: AtomicU64,
    /// Calls that were said to cost more than one may come to.
    pub capped: AtomicU64,
}

/// All or none: nothing was taken.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Position of the ask that refused.
    pub ask: usize,
    pub why: Why,
    /// Boxed, to keep the usual answer small.
    pub standings: Box<Standings>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// 429.
    Exhausted { retry_after: Duration },
    /// The cost is above the limit's maximum: waiting will not help, so no hint.
    TooCostly,
    /// 503: no leader answers, and the limit does not allow to go on without.
    Unavailable { retry_after: Duration },
}

/// A cell was short, and this is what is known about it. `None`: there is no room for its key.
struct Miss<'l> {
    ask: usize,
    slot: Option<Pinned<'l>>,
}

impl Limiter {
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Self::with_journal(settings, None)
    }

    /// With a journal the death of this process costs budgets nothing.
    #[must_use]
    pub fn with_journal(settings: Settings, journal: Option<Arc<Journal>>) -> Arc<Self> {
        let Settings { node, incarnation, secret, most_keys, decisions } = settings;
        let table = Table::new(most_keys).with_journal(journal.is_some());
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            node,
            incarnation,
            hasher: SubjectHasher::new(&secret),
            bell: Bell::new(table.room()),
            table,
            silence: Silence::none(),
            waiting: AtomicUsize::new(0),
            sharers: AtomicU64::new(1),
            decisions,
            journal,
            owners: Owners::default(),
            room: Room::default(),
            ceilings: arc_swap::ArcSwap::default(),
            any_ceilings: AtomicBool::new(false),
            counters: Counters::default(),
            capped_told: AtomicU64::new(0),
        })
    }

    /// Hashes what a limit counts. `values` are the scope's values in the order of `limit.per`; a part may be empty.
    #[inline]
    #[must_use]
    pub fn subject(&self, limit: &Limit, values: &[&[u8]]) -> Subject {
        self.hasher.subject(limit.id, values.iter().copied())
    }

    /// As [`Limiter::subject`], value by value.
    #[inline]
    #[must_use]
    pub fn hashing(&self, limit: &Limit) -> Hashing {
        self.hasher.begin(limit.id)
    }

    /// The slot of a key. A new one is listed, so that the tick knows of it: it may never be used. `None`: there is no room.
    #[inline]
    pub(crate) fn find(&self, limit: &Limit, subject: Subject) -> Option<Found<'_>> {
        self.table.find(limit, subject, |found| {
            self.bell.list(found.slot, found.number);
            if self.table.is_nearly_full() {
                self.room.ring();
            }
        })
    }

    /// What this node holds of the key is less than the cost: a refusal or a wait is likely.
    #[must_use]
    pub fn is_short(&self, ask: &Ask<'_>) -> bool {
        self.table.peek(ask.key()).is_none_or(|found| found.slot.cell.left() < ask.cost)
    }

    /// Takes from all limits or from none. At most one round trip to the leader, and only if a lease cannot answer.
    ///
    /// # Errors
    /// [`Refused`] names the first limit that said no.
    #[inline]
    pub async fn admit(&self, asks: &[Ask<'_>]) -> Result<Permit<'_>, Refused> {
        match self.try_take(asks, 0, How::Quickly) {
            Ok(taken) => Ok(Permit::new(self, taken)),
            // Boxed: a rare case must not make every request's future larger.
            Err(miss) => Box::pin(self.admit_slowly(asks, miss)).await,
        }
    }

    pub(crate) fn shared(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// So many nodes take from the same limits.
    pub fn share_with(&self, nodes: usize) {
        self.sharers.store(nodes as u64, Ordering::Relaxed);
    }

    /// The decision log, if it is kept.
    #[inline]
    pub(crate) fn decisions(&self) -> Option<&DecisionLog> {
        self.decisions.as_ref()
    }

    /// These nodes are alive, this one among them, and take from the same limits.
    pub fn know_nodes(&self, nodes: Vec<NodeId>) {
        self.share_with(nodes.len());
        self.owners.know_nodes(nodes);
    }

    /// These limits are in force from now on: what this node takes for others, and what the decision log is told.
    pub fn note_limits<'a>(&self, limits: impl IntoIterator<Item = &'a Limit> + Clone) {
        let known = limits.clone().into_iter().map(|limit| (limit.id, Arc::new(limit.clone())));
        self.owners.know_limits(known.collect());
        let Some(log) = &self.decisions else { return };
        for limit in limits {
            let (at, id) = (clock::boot(), limit.id);
            log.write(Record::Name { at, limit: id, name: short_name(&limit.name) });
            log.write(Record::policy(at, id, limit.max, &limit.kind));
        }
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Keys this node holds now.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.table.len()
    }

    /// Keys it may hold.
    #[must_use]
    pub fn most_keys(&self) -> usize {
        self.table.most()
    }

    /// The way to the leader is being moved to another process (`true`): nobody gives up before there is one again (`false`).
    pub fn leader_moves(&self, moving: bool) {
        self.silence.moves(moving);
    }

    /// How long no leader has answered; `None`: the last exchange went well.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.silence.lasts()
    }
}
