//! What unsafe requests made void here goes to the other nodes: many in one message, within a bound, best effort. What
//! must be void is purged.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tidegate_model::Millis;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Message, Peers};
use crate::rules::key::UrlDigest;

const WAITING: usize = 4_096;
const AT_ONCE: usize = 512;
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Voids(mpsc::Sender<([u8; 16], u64)>);

impl Voids {
    /// The task ends with the tier.
    pub(super) fn start(peers: &Arc<dyn Peers>) -> Self {
        let (send, receive) = mpsc::channel(WAITING);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tell_all(Arc::downgrade(peers), receive));
        }
        Self(send)
    }

    pub(super) fn tell(&self, url: UrlDigest, now: Millis) {
        // Full: other nodes have it until it is stale, as they had before they heard of each other.
        let _best_effort = self.0.try_send((url.0, now.0));
    }
}

async fn tell_all(peers: Weak<dyn Peers>, mut receive: mpsc::Receiver<([u8; 16], u64)>) {
    let mut urls = Vec::new();
    while receive.recv_many(&mut urls, AT_ONCE).await > 0 {
        let Some(peers) = peers.upgrade() else { return };
        let message = Message::Void(std::mem::take(&mut urls));
        let me = peers.me();
        let others: Vec<u64> = peers.live().iter().copied().filter(|node| *node != me).collect();
        let mut told = JoinSet::new();
        for node in others {
            told.spawn(peers.ask(node, message.clone(), PATIENCE));
        }
        told.join_all().await;
    }
}
