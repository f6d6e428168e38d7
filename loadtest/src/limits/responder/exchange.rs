//! Counters that nodes exchange at intervals: each knows what it admitted itself, exactly, and what the others had admitted
//! when they last said so. It admits while both together are below the limit.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tidegate_clock as clock;
use tidegate_model::{Nanos, Subject};
use tokio::net::UdpSocket;

use super::super::plan::Rule;

/// Of a datagram: limit, subject, admitted within the window.
const ENTRY: usize = 8 + 16 + 8;
/// So that a datagram fits every path.
const MOST_ENTRIES: usize = 1_200 / ENTRY;

type Counted = (u64, Subject);

pub(super) struct Exchange {
    windows: HashMap<u64, Nanos>,
    state: Mutex<State>,
    /// What others said counts for so long.
    stale: Nanos,
    datagrams: AtomicU64,
}

#[derive(Default)]
struct State {
    own: HashMap<Counted, VecDeque<Nanos>>,
    /// By node: how much, and when it came.
    others: HashMap<Counted, HashMap<u16, (u64, Nanos)>>,
}

impl Exchange {
    pub(super) async fn start(node: u16, peers: &[SocketAddr], every: Duration, rules: &[Rule]) -> Result<Arc<Self>> {
        let ours = peers.get(usize::from(node) - 1).context("--peers does not name this node")?;
        let socket = Arc::new(UdpSocket::bind(ours).await.context("cannot bind the exchange's port")?);
        let exchange = Arc::new(Self::new(rules, every));
        let others: Vec<SocketAddr> = peers.iter().copied().filter(|peer| peer != ours).collect();
        tokio::spawn(tell(Arc::clone(&exchange), Arc::clone(&socket), node, others, every));
        tokio::spawn(hear(Arc::clone(&exchange), socket));
        Ok(exchange)
    }

    fn new(rules: &[Rule], every: Duration) -> Self {
        let nanos = |time: Duration| Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let windows = (1..).zip(rules).map(|(id, rule)| (id, nanos(rule.window))).collect();
        Self { windows, state: Mutex::default(), stale: nanos(every * 5 / 2), datagrams: AtomicU64::new(0) }
    }

    /// When it was admitted.
    pub(super) fn take(&self, id: u64, subject: Subject, max: u64) -> Option<Nanos> {
        let (now, window) = (clock::boot(), self.windows.get(&id).copied()?);
        let mut state = self.lock();
        let heard = state.others.get(&(id, subject));
        let fresh = |(_, at): &&(u64, Nanos)| now.saturating_sub(*at) < self.stale;
        let others: u64 = heard.map_or(0, |by_node| by_node.values().filter(fresh).map(|(count, _)| count).sum());
        let own = state.own.entry((id, subject)).or_default();
        leave(own, now, window);
        if own.len() as u64 + others >= max {
            return None;
        }
        own.push_back(now);
        Some(now)
    }

    pub(super) fn datagrams(&self) -> u64 {
        self.datagrams.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the others are to be told now; what left the window is forgotten.
    fn datagrams_of(&self, node: u16) -> Vec<Vec<u8>> {
        let now = clock::boot();
        let mut state = self.lock();
        state.own.retain(|(id, _), admitted| {
            leave(admitted, now, self.windows.get(id).copied().unwrap_or_default());
            !admitted.is_empty()
        });
        state.others.retain(|_, by_node| {
            by_node.retain(|_, (_, at)| now.saturating_sub(*at) < self.stale);
            !by_node.is_empty()
        });
        let entries: Vec<_> = state.own.iter().map(|(key, admitted)| (*key, admitted.len() as u64)).collect();
        let datagram = |entries: &[(Counted, u64)]| {
            let mut bytes = node.to_le_bytes().to_vec();
            for ((id, subject), count) in entries {
                bytes.extend(id.to_le_bytes());
                bytes.extend(subject.0.to_le_bytes());
                bytes.extend(count.to_le_bytes());
            }
            bytes
        };
        entries.chunks(MOST_ENTRIES).map(datagram).collect()
    }

    fn book(&self, datagram: &[u8]) {
        let Some((node, entries)) = datagram.split_first_chunk::<2>() else { return };
        let (node, now) = (u16::from_le_bytes(*node), clock::boot());
        let mut state = self.lock();
        for entry in entries.as_chunks::<ENTRY>().0 {
            let half = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("eight bytes"));
            let subject = Subject(u128::from_le_bytes(entry[8..24].try_into().expect("sixteen bytes")));
            state.others.entry((half(0), subject)).or_default().insert(node, (half(24), now));
        }
    }
}

/// What is no longer within the window.
fn leave(admitted: &mut VecDeque<Nanos>, now: Nanos, window: Nanos) {
    while admitted.front().is_some_and(|at| now.saturating_sub(*at) >= window) {
        admitted.pop_front();
    }
}

async fn tell(exchange: Arc<Exchange>, socket: Arc<UdpSocket>, node: u16, others: Vec<SocketAddr>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for datagram in exchange.datagrams_of(node) {
            for other in &others {
                if socket.send_to(&datagram, other).await.is_ok() {
                    exchange.datagrams.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

async fn hear(exchange: Arc<Exchange>, socket: Arc<UdpSocket>) {
    let mut buffer = [0; 2_048];
    loop {
        // An error here is another node's port that is not open yet.
        if let Ok((length, _)) = socket.recv_from(&mut buffer).await {
            exchange.book(&buffer[..length]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_counts_against_the_limit() {
        let rules = [Rule { name: "a".into(), max: 3, window: Duration::from_secs(60), keyed: false }];
        let (one, two) =
            (Exchange::new(&rules, Duration::from_secs(60)), Exchange::new(&rules, Duration::from_secs(60)));
        let taken = |of: &Exchange| of.take(1, Subject(5), 3).is_some();
        assert!(taken(&one) && taken(&one));
        for datagram in one.datagrams_of(1) {
            two.book(&datagram);
            two.book(&datagram); // repeated: it says how much there is, not how much came
        }
        assert!(taken(&two) && !taken(&two));
        assert!(taken(&one), "it has not heard of the other's");
        two.book(&[1]); // cut off
    }
}
