//! A quota group of one, behind a wire that takes a millisecond and can be cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_clock as clock;
use tidegate_limiter::{Leases, Limiter, Unreachable};
use tidegate_model::{Nanos, NodeId, Revision};
use tidegate_policy::Limit;
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Batch, Command, Entry, Key, Reply, log_time};
use tokio::sync::mpsc;

/// A ledger that answers at once, as a quota group of one would.
pub(crate) struct Leader {
    pub(crate) ledger: Mutex<(Ledger, Nanos)>,
    pub(crate) cut: AtomicBool,
    recalls: Mutex<Vec<(NodeId, mpsc::UnboundedSender<Key>)>>,
}

impl Leader {
    pub(crate) fn new(limits: &[&Limit]) -> Arc<Self> {
        let mut ledger = Ledger::default();
        let policies = limits.iter().map(|limit| limit.policy()).collect();
        ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } });
        let ledger = Mutex::new((ledger, clock::raw()));
        Arc::new(Self { ledger, cut: AtomicBool::new(false), recalls: Mutex::default() })
    }

    /// What this node asks for is answered from here on.
    pub(crate) fn serve(self: &Arc<Self>, node: NodeId, limiter: &Arc<Limiter>) {
        let (to, from) = mpsc::unbounded_channel();
        self.recalls.lock().expect("no panic").push((node, to));
        let wire = Arc::new(Wire { leader: Arc::clone(self), recalled: tokio::sync::Mutex::new(from) });
        tokio::spawn(Arc::clone(limiter).run(wire));
    }

    pub(crate) fn apply(&self, batch: Batch) -> Reply {
        let mut guard = self.ledger.lock().expect("no panic");
        let now = clock::raw();
        let dt = log_time(now.saturating_sub(guard.1));
        guard.1 = now;
        let outcome = guard.0.apply(&Entry { dt, command: Command::Batches(vec![batch]) });
        drop(guard);
        for recall in outcome.recalls {
            for (node, to) in self.recalls.lock().expect("no panic").iter() {
                if *node == recall.node {
                    to.send(recall.key).expect("the node listens");
                }
            }
        }
        outcome.replies.into_iter().next().expect("one batch, one reply")
    }
}

struct Wire {
    leader: Arc<Leader>,
    recalled: tokio::sync::Mutex<mpsc::UnboundedReceiver<Key>>,
}

impl Leases for Wire {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if self.leader.cut.load(Ordering::Relaxed) {
                return Err(Unreachable("cut".into()));
            }
            Ok(self.leader.apply(batch))
        })
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(async move { self.recalled.lock().await.recv().await.expect("the leader lives as long") })
    }
}
