//! Active checks: which endpoints this node asks, when, and what the answers come to.
//!
//! Each endpoint is checked by [`CHECKERS`] of the live nodes, chosen by rendezvous hashing: every node works out the same
//! choice for itself, and a node that comes or goes moves only its own share. What a checker finds holds for itself at
//! once; the others hear it from the cluster.

mod ask;

use std::hash::Hasher;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tidegate_policy::Health;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::endpoint::millis;
use crate::live::Live;
use crate::random;

/// Nodes that check one endpoint.
const CHECKERS: usize = 3;
/// Checks of one upstream under way at once.
const AT_ONCE: usize = 64;
/// Assignments are looked at again at least this often.
const LOOK: Duration = Duration::from_millis(500);

/// Is this endpoint this node's to check?
pub(crate) fn is_ours(upstream: &str, endpoint: &str, me: u64, nodes: &[u64]) -> bool {
    if me == 0 || !nodes.contains(&me) {
        return true; // Alone.
    }
    let rank = |node: u64| (hash(upstream, endpoint, node), node);
    let mine = rank(me);
    nodes.iter().filter(|node| rank(**node) > mine).count() < CHECKERS
}

/// The same on every node and in every release: FNV-1a, mixed.
fn hash(upstream: &str, endpoint: &str, node: u64) -> u64 {
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
            mixed ^ (mixed >> 32)
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    fnv.write(upstream.as_bytes());
    fnv.write(&[0]);
    fnv.write(endpoint.as_bytes());
    fnv.write(&[0]);
    fnv.write(&node.to_le_bytes());
    fnv.finish()
}

/// What checks in a row come to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opinion {
    healthy: Option<bool>,
    /// Results in a row that say the other thing.
    against: u32,
}

impl Opinion {
    /// One more result; the opinion after it. The first good one is believed at once.
    pub(crate) fn hear(&mut self, good: bool, rules: &Health) -> Option<bool> {
        if self.healthy == Some(good) {
            self.against = 0;
            return self.healthy;
        }
        self.against = self.against.saturating_add(1);
        let enough = match (self.healthy, good) {
            (None, true) => 1,
            (_, true) => rules.healthy,
            (_, false) => rules.unhealthy,
        };
        if self.against >= enough {
            *self = Self { healthy: Some(good), against: 0 };
        }
        self.healthy
    }
}

/// Checks what is this node's to check, until nobody knows the upstream any more.
pub(crate) async fn check(live: Weak<Live>) {
    let mut due: std::collections::HashMap<Arc<str>, Instant> = std::collections::HashMap::new();
    let mut under_way: JoinSet<Arc<str>> = JoinSet::new();
    loop {
        let Some(strong) = live.upgrade() else { return };
        let view = strong.view();
        let Some(rules) = view.upstream.health.clone() else { return };
        let (upstream, now) = (Arc::clone(&view.upstream), Instant::now());
        let post = Arc::clone(strong.ward.post());
        let nodes = post.nodes.load();
        let mut next = now + LOOK;
        due.retain(|name, _| view.members.all.iter().any(|m| m.endpoint.name() == name));
        for member in &view.members.all {
            let name = member.endpoint.name();
            if !is_ours(&upstream.id, name, post.me(), &nodes) {
                due.remove(name);
                strong.ward.not_ours(name, millis(now));
                continue;
            }
            // Not all at once: the first checks are spread over an interval, at most a second.
            let first = || now + jitter(rules.interval.min(Duration::from_secs(1)), 1.0);
            let at = *due.entry(Arc::clone(name)).or_insert_with(first);
            if at <= now && under_way.len() < AT_ONCE {
                due.insert(Arc::clone(name), now + rules.interval.mul_f64(0.95) + jitter(rules.interval, 0.1));
                strong.ward.counts_check(name);
                let (live, connector) = (live.clone(), Arc::clone(&view.connector));
                let (endpoint, rules) = (Arc::clone(&member.endpoint), rules.clone());
                under_way.spawn(async move {
                    let asked = ask::ask(&connector, &endpoint.address, &rules.check);
                    let answer = tokio::time::timeout(rules.timeout, asked).await;
                    let good = matches!(answer, Ok(Ok(())));
                    if let (Ok(Err(why)), Some(_)) = (&answer, live.upgrade()) {
                        tracing::debug!(endpoint = %endpoint.name(), %why, "a check failed");
                    }
                    if let Some(live) = live.upgrade() {
                        live.ward.heard_check(endpoint.name(), good, &rules, millis(Instant::now()));
                    }
                    Arc::clone(endpoint.name())
                });
            }
            next = next.min(due.get(name).copied().unwrap_or(next));
        }
        drop(view);
        drop(strong);
        while under_way.try_join_next().is_some() {}
        tokio::time::sleep_until(next.max(now + Duration::from_millis(10))).await;
    }
}

fn jitter(span: Duration, share: f64) -> Duration {
    let most = u64::try_from(span.mul_f64(share).as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random::below(most))
}

#[cfg(test)]
mod tests {
    use tidegate_policy::Check;

    use super::*;

    #[test]
    fn three_nodes_check_an_endpoint_however_many_there_are() {
        for nodes in [1_u64, 2, 3, 5, 10, 50] {
            let nodes: Vec<u64> = (1..=nodes).collect();
            let mut checks = vec![0; nodes.len()];
            for endpoint in 0..200 {
                let name = format!("10.0.0.{endpoint}:80");
                let ours: Vec<usize> =
                    (0..nodes.len()).filter(|i| is_ours("users", &name, nodes[*i], &nodes)).collect();
                assert_eq!(ours.len(), nodes.len().min(3));
                ours.iter().for_each(|i| checks[*i] += 1);
            }
            let fair = 200 * nodes.len().min(3) / nodes.len();
            assert!(checks.iter().all(|n| n * 4 >= fair && *n <= fair * 2 + 10), "{checks:?}");
        }
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_share() {
        let (all, fewer): (Vec<u64>, Vec<u64>) = ((1..=5).collect(), (1..=4).collect());
        for endpoint in 0..100 {
            let name = format!("10.0.0.{endpoint}:80");
            for node in 1..=4 {
                if is_ours("users", &name, node, &all) {
                    assert!(is_ours("users", &name, node, &fewer), "{name} {node}");
                }
            }
        }
    }

    #[test]
    fn it_takes_some_in_a_row_to_change_an_opinion() {
        let rules = Health {
            check: Check::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
            slow_start: Duration::ZERO,
            panic_below: 0,
        };
        let mut opinion = Opinion::default();
        let mut hear = |good| opinion.hear(good, &rules);
        assert_eq!([hear(false), hear(false), hear(true)], [None, None, Some(true)]);
        assert_eq!([hear(false), hear(false), hear(true), hear(false)], [Some(true); 4]);
        assert_eq!([hear(false), hear(false)], [Some(true), Some(false)]);
        assert_eq!(
            [hear(true), hear(false), hear(true), hear(true)],
            [Some(false), Some(false), Some(false), Some(true)]
        );
    }
}
