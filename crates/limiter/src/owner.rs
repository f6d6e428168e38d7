//! Owner mode (`quota::owner`): which node a short request is sent to, the errands that wait to leave, and what this node
//! does for others. [`Tick`](crate::tick) carries them.
//!
//! Nothing that is exact rests on this: an owner takes from its own lease as for itself, and a permit counts from the instant
//! of its stamp. What comes back late, or to another process, is burnt.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tidegate_clock as clock;
use tidegate_model::{LimitId, Nanos, NodeId, Permits};
use tidegate_policy::{Limit, Mode};
use tidegate_quota::cell::Ticket;
use tidegate_quota::guard;
use tidegate_quota::owner::{Errand, Fetched, MOST_ERRANDS, Token, is_small, owner_of, suits};
use tidegate_quota::protocol::Key;
use tokio::sync::{Notify, oneshot};

use crate::Leases;
use crate::admit::{Ask, Limiter, Why};
use crate::slot::Slot;

/// An owner that has not answered by now is asked no more for a while. Longer than it may wait for the leader.
const PATIENCE: Duration = Duration::from_millis(400);
const SHUNNED: Nanos = Nanos::SECOND;
/// Errands that wait to leave for one node; more are not sent.
const MOST_WAITING: usize = 4 * MOST_ERRANDS;

/// Who else is there, and what is on its way to them.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Live nodes, this one included. Nodes that know it differently name different owners: two leases, nothing worse.
    nodes: ArcSwap<Vec<NodeId>>,
    /// Of the document in effect.
    limits: ArcSwap<HashMap<LimitId, Arc<Limit>>>,
    leaving: Mutex<BTreeMap<NodeId, Vec<Leaving>>>,
    /// Nodes that did not answer, until when (boot clock).
    shunned: Mutex<BTreeMap<NodeId, Nanos>>,
    /// Something is to leave.
    pub(crate) rung: Notify,
}

#[derive(Debug)]
struct Leaving {
    errand: Errand,
    answer: Option<oneshot::Sender<Fetched>>,
}

/// A permit that another node took for a request here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote {
    pub(crate) owner: NodeId,
    pub(crate) key: Key,
    pub(crate) cost: Permits,
    /// On the owner's clock.
    pub(crate) at: Nanos,
    pub(crate) token: Option<Token>,
}

impl Owners {
    pub(crate) fn know_nodes(&self, mut nodes: Vec<NodeId>) {
        nodes.sort_unstable();
        if **self.nodes.load() != nodes {
            self.nodes.store(Arc::new(nodes));
        }
    }

    pub(crate) fn know_limits(&self, limits: HashMap<LimitId, Arc<Limit>>) {
        self.limits.store(Arc::new(limits));
    }

    /// As the document in effect has it.
    pub(crate) fn limit(&self, id: LimitId) -> Option<Arc<Limit>> {
        self.limits.load().get(&id).cloned()
    }

    fn send(&self, to: NodeId, leaving: Leaving) {
        let mut all = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.entry(to).or_default();
        if waiting.len() < MOST_WAITING {
            waiting.push(leaving);
            drop(all);
            self.rung.notify_one();
        }
    }

    fn shuns(&self, node: NodeId, now: Nanos) -> bool {
        let shunned = self.shunned.lock().unwrap_or_else(PoisonError::into_inner);
        shunned.get(&node).is_some_and(|until| now < *until)
    }

    fn shun(&self, node: NodeId) {
        let (now, mut shunned) = (clock::boot(), self.shunned.lock().unwrap_or_else(PoisonError::into_inner));
        shunned.retain(|_, until| now < *until);
        shunned.insert(node, now.saturating_add(SHUNNED));
    }

    /// What is to leave, a message for each node at a time.
    fn take_leaving(&self) -> Vec<(NodeId, Vec<Leaving>)> {
        let mut all = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut messages = Vec::new();
        for (to, mut waiting) in std::mem::take(&mut *all) {
            while !waiting.is_empty() {
                let rest = waiting.split_off(waiting.len().min(MOST_ERRANDS));
                messages.push((to, std::mem::replace(&mut waiting, rest)));
            }
        }
        messages
    }
}

impl Limiter {
    /// The node to ask for permits of this key; `None`: this node asks for a lease of its own.
    pub(crate) fn owner(&self, ask: &Ask<'_>, slot: &Slot) -> Option<NodeId> {
        let suits = ask.limit.is_plain() && suits(&ask.limit.kind);
        if ask.limit.mode != Mode::Enforce || !suits || !guard!("small-keys-have-an-owner") {
            return None;
        }
        let (now, nodes) = (clock::boot(), self.owners.nodes.load());
        if nodes.len() < 2 || !slot.is_crowded(now) && !is_small(ask.limit.max, nodes.len()) {
            return None;
        }
        owner_of(ask.key(), &nodes).filter(|owner| *owner != self.node && !self.owners.shuns(*owner, now))
    }

    /// Asks the owner. `None`: it does not answer, or cannot say.
    pub(crate) async fn fetch(&self, owner: NodeId, key: Key, cost: Permits) -> Option<Result<Remote, Why>> {
        let (answer, fetched) = oneshot::channel();
        self.owners.send(owner, Leaving { errand: Errand::Take { key, cost }, answer: Some(answer) });
        match fetched.await {
            Ok(Fetched::Taken { at, token }) => Some(Ok(Remote { owner, key, cost, at, token })),
            Ok(Fetched::Refused { retry }) => Some(Err(Why::Exhausted { retry_after: retry.into() })),
            Ok(Fetched::Elsewhere) | Err(_) => {
                self.owners.shun(owner);
                None
            }
        }
    }

    /// Nobody was admitted with it after all.
    pub(crate) fn send_back(&self, remote: &Remote) {
        if let Some(token) = remote.token {
            self.owners.send(remote.owner, Leaving { errand: Errand::Back(token), answer: None });
        }
    }

    /// Carries what is to leave; each future ends when its message was answered.
    pub(crate) fn carry(&self, leases: &Arc<dyn Leases>) -> Vec<impl Future<Output = ()> + Send + use<>> {
        let messages = self.owners.take_leaving().into_iter();
        messages
            .map(|(to, leaving)| {
                let leases = Arc::clone(leases);
                async move {
                    let errands = leaving.iter().map(|leaving| leaving.errand).collect();
                    let answered = tokio::time::timeout(PATIENCE, leases.send_errands(to, errands)).await;
                    let Ok(Ok(answers)) = answered else { return };
                    let asked = leaving.into_iter().filter_map(|leaving| leaving.answer);
                    for (answer, fetched) in asked.zip(answers) {
                        let _given_up = answer.send(fetched);
                    }
                }
            })
            .collect()
    }

    /// Does what another node asks of this one as the owner: an answer for each take, in their order.
    pub async fn serve_errands(&self, errands: &[Errand]) -> Vec<Fetched> {
        let errands = &errands[..errands.len().min(MOST_ERRANDS)];
        for errand in errands {
            if let Errand::Back(token) = errand {
                self.take_back(token);
            }
        }
        let takes = errands.iter().filter_map(|errand| match errand {
            Errand::Take { key, cost } => Some(self.take_for_another(*key, *cost)),
            Errand::Back(_) => None,
        });
        join_all(takes).await
    }

    async fn take_for_another(&self, key: Key, cost: Permits) -> Fetched {
        let limit = self.owners.limits.load().get(&key.limit).map(Arc::clone);
        let Some(limit) = limit.filter(|limit| limit.is_plain() && suits(&limit.kind)) else {
            return Fetched::Elsewhere;
        };
        let ask = Ask { limit: &limit, subject: key.subject, cost };
        match self.take_here(&ask).await {
            Ok(taken) => {
                let at = taken.at();
                let found = self.find(&limit, key.subject);
                let token = found.and_then(|found| taken.into_token(self.incarnation, found));
                Fetched::Taken { at, token }
            }
            Err(Why::Exhausted { retry_after }) => {
                Fetched::Refused { retry: Nanos(u64::try_from(retry_after.as_nanos()).unwrap_or(u64::MAX)) }
            }
            Err(Why::TooCostly | Why::Unavailable { .. }) => Fetched::Elsewhere,
        }
    }

    fn take_back(&self, token: &Token) {
        if token.incarnation != self.incarnation {
            return;
        }
        let Some(slot) = self.table.handle(token.slot) else { return };
        // Should the slot pass to another key in between: its generations go on, and this one has passed.
        if slot.is_in_life(token.life) {
            slot.cell.put_back(Ticket::unpacked(token.packed, token.at));
            self.bell.list(&slot, token.slot);
        }
    }
}
