//! One fetch per key in the cluster, without Redis: each key has an owner among the live nodes (rendezvous hash), and
//! a node that misses asks him. He gives what he holds, or the turn to fetch, or says that somebody does: the answer
//! then comes by him. Who owns nothing of this waits no longer than he would for Redis: an owner that does not answer is
//! passed over, and at the end of his patience everybody fetches for himself.
//!
//! ```text
//! asker                 owner                 another
//!   |-- ask ------------>|                        |
//!   |<----------- yours -|                        |
//!   |  (origin)          |<---------------- ask --|
//!   |-- still ---------->|-- theirs ------------->|
//!   |-- done, response ->|-- response ----------->|
//! ```
//! Knows no network: [`Peers`] carries messages. `desk` is the owner's side, `seat` the one who fetches.

pub(crate) mod desk;
pub(crate) mod seat;
mod voids;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use serde::{Deserialize, Serialize};
use tidegate_model::Millis;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::cache::Cache;
use crate::counters::bump;
use crate::purge::Epoch;
use crate::rules::key::{Key, KeyDigest, UrlDigest};
use desk::Desk;
use seat::Seat;
use voids::Voids;

/// Bytes of a body that nodes hand each other; a larger one each fetches for itself.
pub const LARGEST: usize = 256 << 10;
/// An owner who does not answer in this time is passed over …
const QUICK: Duration = Duration::from_millis(300);
/// … for so long.
const AWAY: Duration = Duration::from_secs(1);
/// The owner is asked again this often whether it is done: who died is found out so.
const SLICE: Duration = Duration::from_millis(400);
/// Questions of this node under way; more fetch for themselves.
const ASKING: usize = 256;

/// The other nodes of the cluster.
pub trait Peers: fmt::Debug + Send + Sync {
    fn me(&self) -> u64;

    /// The nodes that hold their lease, as last heard.
    fn live(&self) -> Arc<Box<[u64]>>;

    /// `None`: no answer in time, or none that makes sense.
    fn ask(&self, to: u64, message: Message, patience: Duration)
    -> Pin<Box<dyn Future<Output = Option<Reply>> + Send>>;
}

/// What is fetched: a key, and which of its variants. Zero: none is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fill {
    pub url: [u8; 16],
    pub key: [u8; 32],
    pub variant: u64,
}

/// What nodes say to each other. Positional on the wire: append only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Message {
    Ask(Ask),
    /// Whose turn it is still fetches.
    Still {
        fill: Fill,
        token: u128,
    },
    /// Whose turn it was is done.
    Done {
        fill: Fill,
        token: u128,
        outcome: Outcome,
    },
    /// Unsafe requests made these void, at this time.
    Void(Vec<([u8; 16], u64)>),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ask {
    pub fill: Fill,
    /// The asker's last purge: what was begun before is of no use to him.
    pub epoch: u64,
    /// What was asked for up to this time he has, or holds for void.
    pub after: u64,
    /// Proves the turn, should he get it.
    pub token: u128,
    /// Milliseconds he waits for who fetches.
    pub patience: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Outcome {
    /// As in Redis.
    Stored {
        response: Bytes,
        /// Variants that the route keeps per key.
        variants: u32,
    },
    /// Each for himself. `all`: nor do those on one node wait for each other, for a while.
    Alone { all: bool },
    /// The next may try.
    Failed,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Fetch.
    Yours,
    /// Somebody fetches.
    Theirs,
    Stored(Bytes),
    /// There are responses, which vary by these fields of the request.
    Varies(Vec<String>),
    Alone {
        all: bool,
    },
    Heard,
    /// This node takes no part: it is cut off, or knows nothing of it.
    Away,
}

/// What asking came to.
pub(crate) enum Turn {
    Ours(Seat),
    /// `waited`: somebody fetched it meanwhile.
    Stored {
        response: Bytes,
        waited: bool,
    },
    Varies(Vec<HeaderName>),
    Alone {
        all: bool,
    },
    /// There is nobody to ask.
    Nobodys,
    /// No more patience.
    Late,
}

/// What a lookup wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) fill: Fill,
    pub(crate) epoch: Epoch,
    pub(crate) after: Millis,
}

/// One node's part in it, on both sides.
#[derive(Debug)]
pub(crate) struct Fills {
    peers: Arc<dyn Peers>,
    pub(crate) desk: Desk,
    /// Owners that did not answer, and until when they are passed over. No more than there are nodes.
    away: Mutex<HashMap<u64, Instant>>,
    asking: Semaphore,
    /// Responses on their way to owners.
    telling: Arc<Semaphore>,
    voids: Voids,
}

impl Fill {
    pub(crate) fn of(key: &Key, variant: u64) -> Self {
        Self { url: key.url.0, key: key.key.0, variant }
    }

    pub(crate) fn key(&self) -> Key {
        Key { url: UrlDigest(self.url), key: KeyDigest(self.key) }
    }
}

impl Fills {
    pub(crate) fn new(peers: Arc<dyn Peers>) -> Arc<Self> {
        let voids = Voids::start(&peers);
        Arc::new(Self {
            peers,
            desk: Desk::default(),
            away: Mutex::default(),
            asking: Semaphore::new(ASKING),
            telling: Arc::new(Semaphore::new(ASKING)),
            voids,
        })
    }

    /// Whoever of the live nodes draws the highest number for this key. `None`: there is nobody to share with.
    fn owner(&self, key: &[u8; 32]) -> Option<u64> {
        let (live, now) = (self.peers.live(), Instant::now());
        if live.len() < 2 || !live.contains(&self.peers.me()) {
            return None;
        }
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = |node: &u64| away.get(node).is_none_or(|until| *until <= now);
        live.iter().copied().filter(answers).max_by_key(|node| draw(key, *node))
    }

    fn pass_over(&self, owner: u64) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        away.retain(|_, until| now < *until);
        away.insert(owner, now + AWAY);
    }

    /// May this node fetch, or does somebody for all? Never longer than `until`.
    pub(crate) async fn turn(self: &Arc<Self>, cache: &Arc<Cache>, wanted: Wanted, until: Instant) -> Turn {
        let Wanted { fill, epoch, after } = wanted;
        let Some(owner) = self.owner(&fill.key) else { return Turn::Nobodys };
        let Ok(_room) = self.asking.try_acquire() else { return Turn::Nobodys };
        let token = cache.token().0;
        let mut waited = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Turn::Late;
            }
            // First only what there is: a dead owner is found out at once.
            let patience = if waited { SLICE.min(left) } else { Duration::ZERO };
            let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
            let ask = Ask { fill, epoch: epoch.0, after: after.0, token, patience: millis };
            let reply = if owner == self.peers.me() {
                Some(cache.asked(owner, ask).await)
            } else {
                let asked = self.peers.ask(owner, Message::Ask(ask), patience + QUICK);
                match timeout_at(until, asked).await {
                    Ok(reply) => reply,
                    Err(_) => return Turn::Late,
                }
            };
            match reply {
                Some(Reply::Yours) => return Turn::Ours(Seat::take(cache, self, owner, fill, token)),
                Some(Reply::Theirs) => waited = true,
                Some(Reply::Stored(response)) => return Turn::Stored { response, waited },
                Some(Reply::Varies(names)) => {
                    let names = names.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
                    return Turn::Varies(names.collect());
                }
                Some(Reply::Alone { all }) => return Turn::Alone { all },
                Some(Reply::Heard | Reply::Away) | None => {
                    self.pass_over(owner);
                    bump(&cache.counters.owners_away);
                    return Turn::Nobodys;
                }
            }
        }
    }

    /// Others hear of it, sooner or later.
    pub(crate) fn void(&self, url: UrlDigest, now: Millis) {
        self.voids.tell(url, now);
    }
}

/// Digests are uniform: one multiplication mixes the node in, splitmix's end spreads it.
fn draw(key: &[u8; 32], node: u64) -> (u64, u64) {
    let mut first = [0; 8];
    first.copy_from_slice(&key[..8]);
    let mut mixed = u64::from_le_bytes(first) ^ node.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31), node)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the nodes owns the key whose digest begins with this.
    fn owner(nodes: &[u64], n: u64) -> u64 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.wrapping_mul(0xd134_2543_de82_ef95).to_le_bytes());
        nodes.iter().copied().max_by_key(|node| draw(&key, *node)).expect("there are nodes")
    }

    #[test]
    fn owners_share_the_keys_and_a_node_that_goes_moves_only_its_own() {
        let all = [1, 2, 3, 7];
        let mut shares = HashMap::new();
        for n in 0..4_000 {
            let before = owner(&all, n);
            *shares.entry(before).or_insert(0) += 1;
            let after = owner(&[1, 2, 3], n);
            assert!(before == 7 || before == after, "key {n} moved from {before} to {after}");
        }
        assert!(shares.len() == 4 && shares.values().all(|share| (850..1_150).contains(share)), "{shares:?}");
    }
}
