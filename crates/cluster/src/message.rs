//! What nodes tell each other beside consensus: a topic and bytes, answered by whoever listens to the topic on that
//! node. Nothing of it is kept: what must last is proposed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::NodeId;

use crate::cluster::{Cluster, Inner};
use crate::propose;
use crate::wire::{Lane, LeaseView, LeasesReply, Request};

/// Longest message, either way.
const MAX_MESSAGE: usize = 1 << 20;

/// What a message is about. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Topic {
    /// Evidence about endpoints.
    Breakers = 1,
    /// What the response caches hold.
    Cache = 2,
    /// Who fetches what for all. These may wait for each other, on a lane of their own.
    Fills = 3,
    /// Permits, from the owner of their key.
    Permits = 4,
    /// Counters of limits, and orders about them.
    Quota = 5,
    /// Hashes of states, and what their comparison found.
    States = 6,
}

impl Topic {
    fn lane(self) -> Lane {
        match self {
            Self::Breakers | Self::Cache | Self::Permits | Self::Quota | Self::States => Lane::Calls,
            Self::Fills => Lane::Fills,
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;
type Listener = Arc<dyn Fn(NodeId, Bytes) -> Answer + Send + Sync>;

#[derive(Default)]
pub(crate) struct Listeners(RwLock<BTreeMap<u8, Listener>>);

impl Cluster {
    /// From now on messages of this topic are answered so.
    pub fn listen<F: Future<Output = Vec<u8>> + Send + 'static>(
        &self,
        topic: Topic,
        answer: impl Fn(NodeId, Bytes) -> F + Send + Sync + 'static,
    ) {
        let listener: Listener = Arc::new(move |from, body| Box::pin(answer(from, body)));
        self.inner.listeners.0.write().expect("no panic while locked").insert(topic as u8, listener);
    }

    /// Tells a node something; its answer.
    ///
    /// # Errors
    /// When there was none in time, in words for people.
    pub async fn tell(&self, to: NodeId, topic: Topic, body: Vec<u8>, patience: Duration) -> Result<Bytes, String> {
        let cluster = &*self.inner;
        if to == cluster.me() {
            return cluster.heard(to, topic as u8, body.into()).await;
        }
        if body.len() > MAX_MESSAGE {
            return Err("the message is too long".into());
        }
        let request = Request::Message { topic: topic as u8, body: body.into() };
        cluster.peers.call(to, topic.lane(), &request, patience).await.map_err(|error| error.to_string())?
    }

    /// Who leads the control group, as far as is known here.
    pub async fn control_leader(&self) -> Option<NodeId> {
        propose::find(&self.inner, None).await
    }

    /// Does this node lead the control group, as far as it knows?
    #[must_use]
    pub fn leads_control(&self) -> bool {
        self.inner.control.leadership().is_some()
    }

    /// The nodes that hold their lease, as the control leader judges. `None`: it cannot be asked.
    pub async fn live_nodes(&self, patience: Duration) -> Option<Vec<NodeId>> {
        let views = self.lease_views(patience).await?;
        Some(views.into_iter().filter(|(_, view)| view.live).map(|(node, _)| node).collect())
    }

    /// Those of them that can do something for others: not one that catches up yet, nor one that is about to leave.
    pub async fn helpful_nodes(&self, patience: Duration) -> Option<Vec<NodeId>> {
        let helps = |view: &LeaseView| {
            view.live && view.renewal.as_ref().is_none_or(|renewal| renewal.ready && !renewal.draining)
        };
        let views = self.lease_views(patience).await?;
        Some(views.into_iter().filter(|(_, view)| helps(view)).map(|(node, _)| node).collect())
    }

    async fn lease_views(&self, patience: Duration) -> Option<BTreeMap<NodeId, LeaseView>> {
        if !self.leads_control() {
            return propose::leases(&self.inner, patience).await;
        }
        match self.inner.lease_views().await {
            LeasesReply::Are(views) => Some(views),
            LeasesReply::NotLeader(_) => None,
        }
    }
}

impl Inner {
    pub(crate) async fn heard(&self, from: NodeId, topic: u8, body: Bytes) -> Result<Bytes, String> {
        let listener = self.listeners.0.read().expect("no panic while locked").get(&topic).cloned();
        let Some(listener) = listener else { return Err(format!("nobody listens to topic {topic} here")) };
        let answer = listener(from, body).await;
        if answer.len() > MAX_MESSAGE { Err("the answer is too long".into()) } else { Ok(answer.into()) }
    }
}
