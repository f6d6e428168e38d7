//! Journals of budgets, and the log: it is told that this process journals, and what those of dead ones say. Each until the
//! log has it, and no sooner than every live node understands it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_cluster::Cluster;
use tidegate_limiter::Journal;
use tidegate_limiter::journal::dead::Dead;
use tidegate_model::{Incarnation, NodeId};
use tidegate_quota::protocol::Note;

use super::args::Settings;
use super::quotas::Quotas;

const FOLDER: &str = "journal";
/// Whether the process that handed over to this one has ended.
const LOOK_AT_LIVING: Duration = Duration::from_secs(1);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// While a node of an older release lives, or nobody leads.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// This process's journal, and those of the processes before it in this folder: of one that handed over, once it has ended.
pub(super) struct Journals {
    own: Arc<Journal>,
    folder: PathBuf,
    dead: Vec<Dead>,
    alive: usize,
}

impl Journals {
    pub(super) fn open(settings: &Settings, cluster: &Cluster, incarnation: Incarnation) -> anyhow::Result<Self> {
        let folder = settings.data.join(FOLDER);
        let (dead, alive) = Dead::read_all(&folder, Some(incarnation))
            .with_context(|| format!("reading the journals in {}", folder.display()))?;
        let own = Arc::new(Journal::new(&folder, cluster.node(), incarnation));
        Ok(Self { own, folder, dead, alive })
    }

    pub(super) fn own(&self) -> Arc<Journal> {
        Arc::clone(&self.own)
    }

    /// Tells the log. Former processes first: what they held is wanted now.
    pub(super) async fn tell(self, cluster: Cluster, quotas: Arc<Quotas>) {
        let Self { own, folder, dead, alive } = self;
        let node = cluster.node();
        let begun = async {
            own.begun().await;
            insist(&quotas, &Note::Begin { node, incarnation: own.incarnation() }).await;
        };
        let closed = async {
            settle(dead, node, &quotas).await;
            let mut alive = alive;
            while alive > 0 {
                tokio::time::sleep(LOOK_AT_LIVING).await;
                match Dead::read_all(&folder, Some(own.incarnation())) {
                    Ok((dead, still)) => {
                        alive = still;
                        settle(dead, node, &quotas).await;
                    }
                    Err(error) => tracing::warn!(%error, folder = %folder.display(), "the journals cannot be read"),
                }
            }
        };
        tokio::join!(begun, closed);
    }
}

async fn settle(dead: Vec<Dead>, node: NodeId, quotas: &Quotas) {
    for dead in dead {
        for damage in &dead.damage {
            let path = dead.path.display();
            tracing::error!(%path, %damage, "the journal of a former process is damaged: what it does not say counts as spent");
        }
        for closing in dead.closings(node) {
            insist(quotas, &Note::Close(closing)).await;
        }
        let (leases, exact) = (dead.leases(), dead.is_exact);
        tracing::info!(process = %dead.incarnation, leases, exact, "what a former process held of budgets is settled");
        if let Err(error) = dead.bury() {
            tracing::warn!(%error, path = %dead.path.display(), "a journal that was settled stays; it can be deleted");
        }
    }
}

/// Returns when the log has it. Twice does no harm.
async fn insist(quotas: &Quotas, note: &Note) {
    let mut failed = 0_u32;
    while let Err(why) = quotas.log_note(note.clone()).await {
        failed += 1;
        if failed == 10 {
            tracing::warn!(%why, "the quota log does not know what this node's processes hold of budgets yet");
        }
        tokio::time::sleep(if failed < 20 { PAUSE } else { LONG_PAUSE }).await;
    }
}
