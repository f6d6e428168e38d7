//! Orders of operators about limits, from the control log to where they bind: blocks and maxima on this node, the rest in
//! the quota log, for which the quota leader cares. And how counters stand, for people who ask.
//!
//! What loosens a limit is written down for the judge before the quota log can know of it, what tightens one after: so the
//! decision logs never say less than was allowed.

mod asked;
mod noted;
mod notes;
mod owned;
mod words;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_cluster::{Cluster, Topic, codec};
use tidegate_limiter::{Ceiling, Ceilings, Key};
use tidegate_model::{LimitId, Millis, Permits};
use tidegate_policy::{Kind, Limit, Rate, Snapshot};
use tidegate_proxy::{Blocked, Gate};
use tidegate_quota::protocol;
use tidegate_state::Command;
use tidegate_state::orders::{Order, Orders, What, Whom};

pub(super) use self::asked::QuotasOf;
use self::noted::Noted;
use self::words::{Message, Reply};

/// Orders end this late at most, beside the entry that it takes.
const LOOK: Duration = Duration::from_millis(250);
/// One leader is asked for so long: it may have died a moment ago.
const ATTEMPT: Duration = Duration::from_secs(2);
/// What the quota leader refused before an entry, nodes repeat for a tenth of a second at most (`docs/quota.md`, refusals), from
/// when they heard of it.
const REPEATED: Duration = Duration::from_millis(130);
/// For an entry in the quota log.
const SETTLING: Duration = Duration::from_secs(3);

pub(super) struct Quotas {
    cluster: Cluster,
    gate: Arc<Gate>,
    noted: Mutex<Noted>,
    /// Limits as the served document has them.
    document: Mutex<BTreeMap<LimitId, Plain>>,
    settling: tokio::sync::Mutex<()>,
    /// The epoch of the orders in effect here.
    followed: AtomicU64,
}

/// What of a limit can be ordered otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plain {
    max: Permits,
    rate: Option<Rate>,
}

impl Plain {
    fn of(limit: &Limit) -> Self {
        Self { max: limit.max, rate: limit.kind.rate() }
    }

    /// With what is ordered about the whole limit.
    fn with(self, what: Option<What>) -> Self {
        let max = what.and_then(What::maximum).map_or(self.max, Permits);
        let rate = what.and_then(rate_of).filter(|_| self.rate.is_some());
        Self { max, rate: rate.or(self.rate) }
    }

    fn kind(self, kind: &Kind) -> Kind {
        self.rate.map_or_else(|| kind.clone(), |rate| kind.at_rate(rate))
    }
}

fn rate_of(what: What) -> Option<Rate> {
    what.rate().map(|(permits, per)| Rate { permits, per })
}

impl Quotas {
    pub(super) fn start(cluster: &Cluster, gate: &Arc<Gate>) -> Arc<Self> {
        let it = Arc::new(Self {
            cluster: cluster.clone(),
            gate: Arc::clone(gate),
            noted: Mutex::new(Noted::new(cluster.read_ledger(tidegate_quota::Ledger::orders_epoch))),
            document: Mutex::default(),
            settling: tokio::sync::Mutex::default(),
            followed: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&it);
        cluster.listen(Topic::Quota, move |from, body| {
            let it = weak.upgrade();
            async move {
                let reply = match it {
                    Some(it) => it.answer(from, &body).await,
                    None => Reply::Nothing,
                };
                codec::encode(&reply)
            }
        });
        cluster.spawn(Arc::clone(&it).watch());
        it
    }

    /// Puts into effect here what is ordered now. `true`: the served document's limits have other maxima than they should.
    pub(super) fn follow(&self) -> bool {
        let of = |state: &tidegate_state::State| (state.orders.epoch(), blocks(&state.orders), ceilings(&state.orders));
        let (epoch, blocks, ceilings) = self.cluster.read(of);
        self.gate.blocks.replace(blocks);
        self.gate.limiter.set_ceilings(ceilings);
        let before = self.followed.swap(epoch, Ordering::Relaxed);
        if before != epoch {
            self.gate.limiter.ask_anew();
            let resets: Vec<_> = self.cluster.read(|state| state.orders.resets().copied().collect());
            let newer = resets.into_iter().filter(|reset| before < reset.id);
            newer.for_each(|reset| self.gate.limiter.forgive(reset.limit, reset.subject));
        }
        self.note();
        let wanted = self.of_limits();
        let snapshot = self.gate.snapshot.load();
        let document = self.document();
        snapshot.limits.iter().any(|limit| {
            let is = Plain::of(limit);
            let of_document = document.get(&limit.id).copied().unwrap_or(is);
            of_document.with(wanted.get(&limit.id).copied()) != is
        })
    }

    /// Gives a document's limits the maxima and rates that are ordered. What the document said is remembered.
    pub(super) fn dress(&self, snapshot: &mut Snapshot) {
        *self.document() = snapshot.limits.iter().map(|limit| (limit.id, Plain::of(limit))).collect();
        let wanted = self.of_limits();
        for limit in &mut snapshot.limits {
            let (is, ordered) = (Plain::of(limit), Plain::of(limit).with(wanted.get(&limit.id).copied()));
            if ordered != is {
                let kind = ordered.kind(&limit.kind);
                *limit = Arc::new(Limit { max: ordered.max, kind, ..(**limit).clone() });
            }
        }
    }

    /// Maxima and rates of whole limits.
    fn of_limits(&self) -> BTreeMap<LimitId, What> {
        self.cluster.read(|state| {
            let of_limit = |order: &Order| match (&order.draft.whom, order.draft.what) {
                (Whom::Limit { limit, subject: None, .. }, what @ (What::Max(_) | What::Rate { .. })) => {
                    Some((*limit, what))
                }
                _ => None,
            };
            state.orders.in_force().filter_map(of_limit).collect()
        })
    }

    fn document(&self) -> std::sync::MutexGuard<'_, BTreeMap<LimitId, Plain>> {
        self.document.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is ordered, for the judge of decision logs.
    fn note(&self) {
        let in_ledger = self.cluster.read_ledger(tidegate_quota::Ledger::orders_epoch);
        let (epoch, orders) = self.cluster.read(|state| (state.orders.epoch(), protocol_of(&state.orders)));
        let spans = self.gate.snapshot.load();
        let document = self.document().clone();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for record in noted.news(epoch, in_ledger, (&orders.0, &orders.1), &spans.limits, &document) {
            self.gate.limiter.note(record);
        }
    }

    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.cluster.leads_control() && self.cluster.read(|state| state.orders.is_due(now())) {
                let lapsed = self.cluster.propose(Command::LapseOrders).await;
                if let Err(why) = lapsed {
                    tracing::warn!(%why, "orders about limits that have ended are still in force");
                }
            }
            if self.cluster.leads_quota()
                && let Err(why) = self.settle_here().await
            {
                tracing::warn!(%why, "the quota log does not hold all orders about limits yet");
            }
            self.note();
        }
    }

    /// Returns when the quota log holds what this node knows of orders, and no node says what was true before it.
    pub(super) async fn settle(&self) -> Result<(), String> {
        let epoch = self.cluster.read(|state| state.orders.epoch());
        let ends = tokio::time::Instant::now() + SETTLING;
        loop {
            let left = ends.saturating_duration_since(tokio::time::Instant::now());
            let why = match self.cluster.quota_leader().await {
                None => "no leader of the quota group is known".to_owned(),
                Some(leader) => {
                    let ask = codec::encode(&Message::Settle { epoch });
                    match self.cluster.tell(leader, Topic::Quota, ask, left.clamp(LOOK, ATTEMPT)).await {
                        Ok(reply) => match codec::decode::<Reply>(&reply) {
                            Ok(Reply::Settled(Ok(()))) => {
                                self.note();
                                tokio::time::sleep(REPEATED).await;
                                return Ok(());
                            }
                            Ok(Reply::Settled(Err(why))) => why,
                            _ => format!("node {leader} does not know of orders"),
                        },
                        Err(why) => why,
                    }
                }
            };
            self.cluster.doubt_quota_leader();
            if left.is_zero() {
                return Err(format!("the quota group's leader has not taken it yet: {why}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// On the quota leader. `epoch`: what it must know of the control log first.
    async fn settle_from(&self, epoch: u64) -> Result<(), String> {
        let mut applied = self.cluster.applied();
        let known = async {
            while self.cluster.read(|state| state.orders.epoch()) < epoch {
                if applied.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(SETTLING, known).await.map_err(|_| "the quota leader is behind".to_owned())?;
        self.settle_here().await
    }

    async fn settle_here(&self) -> Result<(), String> {
        let _turn = self.settling.lock().await;
        let (orders, rates) = self.cluster.read(|state| protocol_of(&state.orders));
        if orders.epoch <= self.cluster.read_ledger(tidegate_quota::Ledger::orders_epoch) {
            return Ok(());
        }
        self.note();
        self.cluster.set_orders(orders, rates, SETTLING).await?;
        self.note();
        Ok(())
    }
}

fn now() -> Millis {
    Millis(tidegate_clock::wall().0 / 1_000_000)
}

fn blocks(orders: &Orders) -> Vec<(Blocked, Option<Millis>)> {
    let block = |order: &Order| {
        let whom = match &order.draft.whom {
            _ if order.draft.what != What::Block => return None,
            Whom::Key(key) => Blocked::Key(*key),
            Whom::Consumer { tenant, name } => Blocked::Consumer { tenant: tenant.clone(), name: name.clone() },
            Whom::Limit { limit, subject, .. } => Blocked::Counter(Key { limit: *limit, subject: (*subject)? }),
        };
        Some((whom, order.draft.until))
    };
    orders.in_force().filter_map(block).collect()
}

/// What single counters have of their own.
fn ceilings(orders: &Orders) -> Ceilings {
    let mut ceilings = Ceilings::new();
    for order in orders.in_force() {
        let Whom::Limit { limit, subject: Some(subject), .. } = &order.draft.whom else { continue };
        let key = Key { limit: *limit, subject: *subject };
        let what = order.draft.what;
        if matches!(what, What::Max(_) | What::Rate { .. } | What::Extra(_)) {
            let ceiling: &mut Ceiling = ceilings.entry(key).or_default();
            ceiling.max = what.maximum().map(Permits).or(ceiling.max);
            ceiling.rate = rate_of(what).or(ceiling.rate);
            ceiling.granted |= matches!(what, What::Extra(_));
        }
    }
    ceilings
}

/// As the quota log holds them, rates apart.
fn protocol_of(orders: &Orders) -> (protocol::Orders, Vec<protocol::Rated>) {
    let (mut maxima, mut extras, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for order in orders.in_force() {
        let Whom::Limit { limit, subject, .. } = &order.draft.whom else { continue };
        let (limit, subject, what) = (*limit, *subject, order.draft.what);
        maxima.extend(what.maximum().map(|max| protocol::Maximum { limit, subject, max: Permits(max) }));
        rates.extend(rate_of(what).map(|rate| protocol::Rated { limit, subject, rate }));
        if let (What::Extra(permits), Some(subject)) = (what, subject) {
            let key = Key { limit, subject };
            extras.push(protocol::Extra { id: order.id, key, permits: Permits(permits) });
        }
    }
    let resets =
        orders.resets().map(|reset| protocol::Reset { id: reset.id, limit: reset.limit, subject: reset.subject });
    (protocol::Orders { epoch: orders.epoch(), maxima, extras, resets: resets.collect() }, rates)
}
