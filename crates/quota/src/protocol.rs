//! What nodes and the quota group's leader say to each other, and what the quota log holds.
//!
//! Requests are absolute and cumulative: losing, repeating or reordering them is harmless. Replies are not: a holder
//! uses a reply at most once, and only if it answers the newest batch that named the key.

use serde::{Deserialize, Serialize};
use tidegate_model::{Incarnation, LimitId, Millis, Nanos, NodeId, Permits, Revision, Subject};

pub use crate::calendar::{Period, Span};
use crate::guard;
pub use crate::kind::{Budget, Flow, Kind, Nature, Policy, Rate, Unit};

/// A counter: one limit, one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub limit: LimitId,
    pub subject: Subject,
}

/// Everything one node has to say in one tick, for all its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Grows with every batch of this incarnation.
    pub seq: u64,
    pub items: Vec<Item>,
}

impl Batch {
    /// Does somebody wait for its answer, or may somebody have to in a moment? A leader lets other batches wait a little, so
    /// that more of them fit into one entry.
    #[must_use]
    pub fn presses(&self) -> bool {
        self.items.iter().any(|item| item.waiting != Permits::ZERO || item.want > item.have)
    }
}

/// One key of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub key: Key,
    /// A key that was forgotten and comes back has a higher one.
    pub epoch: u64,
    /// All permits taken or burnt since the epoch began.
    pub spent: Permits,
    /// Permits still in the cell. `granted − spent − have` is thereby handed back.
    pub have: Permits,
    /// Permits the node would like to hold beyond `have`; of a smooth limit: so many a second, in all.
    pub want: Permits,
    /// The largest cost that waits for this key; 0: nobody waits.
    pub waiting: Permits,
    /// Should this node hold a partition reserve of the key? (Limits with `on_unavailable: share`.)
    pub reserve: bool,
    /// With permits in use: how many of `have` are idle. Of a smooth limit: the [`Flow`] that the node refills itself with
    /// now. Otherwise the reserve this node counts on now. What the ledger charges beyond it, and no longer offers, is thereby ended.
    pub reserved: Permits,
}

/// The outcome of one batch, as `apply` computed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub seq: u64,
    pub items: Vec<Answer>,
}

/// The outcome of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub key: Key,
    pub epoch: u64,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The lease is renewed; `granted` permits come on top of what the cell holds.
    Lease {
        granted: Permits,
        /// Free permits that were left after this grant: a lower bound of what remains elsewhere.
        free: Permits,
        /// D: how long the lease lives, counted from the moment the batch left. 0: it is not renewed.
        ttl: Nanos,
        /// When the next permit comes free, from now, if a waiting cost was not granted.
        retry: Nanos,
        /// This node's partition reserve: so many permits in any window, for [`RESERVE_TTL`] from the moment the
        /// batch left. A process that has just learnt of it counts it as fully spent for one window.
        reserve: Permits,
    },
    /// The ledger does not charge what this cell holds: zero it and begin a new epoch.
    Reset,
    /// No such limit in the log yet, or its policy was withdrawn, or its first calendar window is not open yet.
    Unknown,
    /// As [`Verdict::Lease`], of a limit with calendar windows: what is granted and held counts to this one.
    Dated { granted: Permits, free: Permits, ttl: Nanos, retry: Nanos, window: u64, ends: Millis },
    /// As [`Verdict::Lease`], of a smooth limit. The node holds room for `keep` permits from now on, of which `granted` come
    /// with this, and refills itself with `flow`. What it held or refilled itself with beyond that ends at once.
    Shared { granted: Permits, keep: Permits, flow: Flow, free: Permits, ttl: Nanos, retry: Nanos },
}

/// How long a partition reserve lives without renewal.
pub const RESERVE_TTL: Nanos = Nanos::from_secs(3_600);

/// D, the time a lease lives unless its policy says otherwise: at least twice a failover and a round trip.
pub const LEASE_TTL: Nanos = Nanos::from_secs(4);

/// A batch that came to the leader before this is not decided any more: its lease would be half gone when it is answered,
/// and its node has given it up, or is gone itself.
#[must_use]
pub fn oldest_decided(now: Nanos, ttl: Nanos) -> Nanos {
    if guard!("stale-batch-is-not-decided") { now.saturating_sub(Nanos(ttl.0 / 4)) } else { Nanos::ZERO }
}

/// The number of a process's next batch after `last`. A retry is a new batch as well: under the old number, the late answer
/// to the first one would be taken for its own, and a lease would last from the retry on.
#[must_use]
pub fn next_batch(last: u64, is_retry: bool) -> u64 {
    last + u64::from(!is_retry || guard!("retry-is-a-new-batch"))
}

/// A starving node is told to ask again after this long when permits were called back for it.
pub const RECALL_TAKES: Nanos = Nanos::from_millis(5);

/// The share by which a holder's clock (`CLOCK_BOOTTIME`, slewed by up to 8 %) may run slow: 1/10, counted twice.
/// A holder's lease ends `ttl / (1 + 2ρ)` after its batch left.
#[must_use]
pub fn holder_time(ttl: Nanos) -> Nanos {
    if !guard!("holder-margin") {
        return ttl;
    }
    if !guard!("holder-margin-of-slewed-clocks") {
        return Nanos(ttl.0 / 1002 * 1000);
    }
    Nanos(ttl.0 / 12 * 10)
}

/// The share by which a leader's clock (`CLOCK_MONOTONIC_RAW`) may run fast: 1/1000.
/// The log clock advances by `elapsed / (1 + ρ)`, so never faster than real time.
#[must_use]
pub fn log_time(elapsed: Nanos) -> Nanos {
    if !guard!("log-clock-margin") {
        return elapsed;
    }
    Nanos(u64::try_from(u128::from(elapsed.0) * 1000 / 1001).unwrap_or(u64::MAX))
}

/// One entry of the quota log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Time on the proposing leader's raw clock since its previous entry, divided by (1 + ρ); 0 when it cannot tell.
    pub dt: Nanos,
    pub command: Command,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Nothing but time.
    Tick,
    /// All nodes' batches of one commit round, in the order they came.
    Batches(Vec<Batch>),
    /// The limits of a published document. Ignored unless `revision` is at least the newest seen.
    SetPolicies { revision: Revision, policies: Vec<Policy> },
    /// A node left for good: nothing of it is accepted any more; what it holds stays charged until it lapses.
    RemoveNode { node: NodeId },
    /// The limits of a document that is about to be proposed and may never be published. What is in force stays as it
    /// is; limits that are not become known, so that the first node to serve the document finds them.
    PreparePolicies { policies: Vec<Policy> },
    /// The calendar goes on: a majority of the voters' wall clocks agree that these windows have begun.
    OpenWindows(Vec<Opening>),
    /// What operators ordered, all that is in force. Ignored unless it is newer than what is known.
    SetOrders(Orders),
    /// What became of processes and of alerts.
    Note(Note),
    /// As [`Command::SetOrders`], with rates among them.
    SetRatedOrders(Orders, Vec<Rated>),
}

/// Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// This process journals what it may have spent of budgets: what its leases held when they lapsed is remembered, until
    /// it says, or its journal does, how much of it was spent.
    Begin {
        node: NodeId,
        incarnation: Incarnation,
    },
    Close(Closing),
    /// Alerts that come from here on are kept until they were told.
    KeepAlerts,
    /// These alerts, by number, were told.
    Told(Vec<u64>),
}

/// A process is dead, by the word of the next one in its data folder, and this is what its journal says. Counts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub leases: Vec<Closed>,
    /// What becomes of leases that were not named, now or before. `None`: more are going to be.
    pub rest: Option<Rest>,
}

/// A lease of a dead process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub key: Key,
    pub epoch: u64,
    /// No more than this was spent since the epoch began. `None`: nobody can tell, so all that it held.
    pub spent: Option<Permits>,
}

/// Leases that a journal does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// It is whole, and would name them had anything been spent.
    Unspent,
    /// It is damaged.
    Spent,
}

/// An alert that nobody may have been told of yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// Different for each alert of this log.
    pub number: u64,
    pub alert: Alert,
    /// Λ.
    pub passed: Nanos,
}

/// A window of a limit's calendar. One that does not come after the limit's last one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    pub limit: LimitId,
    pub number: u64,
    pub span: Span,
}

/// A key's spend has passed a threshold of its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub key: Key,
    pub window: u64,
    pub percent: u8,
    pub spent: Permits,
    pub max: Permits,
}

/// What operators ordered about limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Grows with each change of any of them.
    pub epoch: u64,
    pub maxima: Vec<Maximum>,
    pub extras: Vec<Extra>,
    /// Counts that begin anew, each done once: those of former epochs are over.
    pub resets: Vec<Reset>,
}

impl Orders {
    /// The limits whose maximum they touch.
    pub(crate) fn limits(&self) -> impl Iterator<Item = LimitId> {
        self.maxima.iter().map(|maximum| maximum.limit).chain(self.extras.iter().map(|extra| extra.key.limit))
    }
}

/// Instead of the policy's maximum: for one subject, or for all that have none of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maximum {
    pub limit: LimitId,
    pub subject: Option<Subject>,
    pub max: Permits,
}

/// Instead of the rate of a bucket's policy: for one subject, or for all that have none of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rated {
    pub limit: LimitId,
    pub subject: Option<Subject>,
    pub rate: Rate,
}

/// So many permits beyond the maximum, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// The epoch it came with.
    pub id: u64,
    pub key: Key,
    pub permits: Permits,
}

/// Of one subject, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The epoch it came with.
    pub id: u64,
    pub limit: LimitId,
    pub subject: Option<Subject>,
}

/// What `apply` says to whoever proposed the entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// One per batch, in the order of [`Command::Batches`].
    pub replies: Vec<Reply>,
    /// Hints to nodes that hold idle permits another node starves for. Losing one costs time, never correctness.
    pub recalls: Vec<Recall>,
    /// Each once in a period of its key.
    pub alerts: Vec<Alert>,
    /// After [`Command::SetPolicies`]: the newest revision the ledger has.
    pub revision: Revision,
}

/// "Send a batch that names this key now": answered by an ordinary [`Item`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    pub node: NodeId,
    pub key: Key,
}
