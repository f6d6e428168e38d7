//! A data folder of a new cluster of one, written from a state and a ledger: two snapshots, two logs that begin after them,
//! an identity.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use openraft::BasicNode;
use openraft::storage::RaftLogStorage;
use tidegate_quota::Ledger;
use tidegate_state::State;

use super::install;
use crate::codec;
use crate::error::Error;
use crate::folder::{Folder, NodeFile, Stage};
use crate::keys::Ring;
use crate::raft::{LeaderId, LogId, Membership, SnapshotMeta, Vote};
use crate::store::Counters;
use crate::store::log::Log;
use crate::store::snapshots::Snapshots;
use crate::transport::identity::Identity;

/// The last entry of a log: the new one goes on behind it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct After {
    pub(super) index: u64,
    pub(super) term: u64,
}

pub(super) struct Founding<'a> {
    pub(super) identity: &'a Identity,
    pub(super) ring: &'a Ring,
    pub(super) name: &'a str,
    /// Its own peer address, if it is known.
    pub(super) address: &'a str,
    pub(super) state: &'a State,
    pub(super) control: After,
    pub(super) ledger: &'a Ledger,
    pub(super) quota: After,
    pub(super) admin_token: Option<String>,
}

/// Writes it next to what the folder holds, and puts it in its place. The folder's lock is held.
pub(super) async fn write(data: &Path, founding: &Founding<'_>, aside: &str) -> Result<(), Error> {
    let written = prepare(data, founding).await;
    if written.is_err() {
        _ = install::abandon(data); // What failed is what is told.
    }
    written?;
    install::commit(data, aside)
}

async fn prepare(data: &Path, founding: &Founding<'_>) -> Result<(), Error> {
    let new = install::begin(data)?;
    let folder = Folder::within(&new)?;
    folder.write_identity(founding.identity, founding.ring)?;
    let state = codec::encode(founding.state);
    group(&folder.path("control"), founding, founding.control, &state).await?;
    drop(state);
    group(&folder.path("quota"), founding, founding.quota, &codec::encode(founding.ledger)).await?;
    if let Some(token) = &founding.admin_token {
        folder.write("admin.token", format!("{token}\n").as_bytes())?;
    }
    let mut peers = BTreeMap::new();
    if !founding.address.is_empty() {
        peers.insert(founding.identity.node.0, founding.address.to_owned());
    }
    folder.write_node(&NodeFile::new(founding.identity, founding.name, Stage::Member, peers))
}

async fn group(folder: &Path, founding: &Founding<'_>, after: After, state: &[u8]) -> Result<(), Error> {
    let me = founding.identity.node.0;
    let (term, index) = (after.term.saturating_add(1), after.index.saturating_add(1));
    let id = LogId::new(LeaderId { term, node_id: me }, index);
    let nodes = BTreeMap::from([(me, BasicNode::new(founding.address))]);
    let members = openraft::Membership::new(vec![BTreeSet::from([me])], nodes);
    let members = members.map_err(|error| Error::Internal(error.to_string()))?;
    let meta = SnapshotMeta { last_log_id: Some(id), last_membership: Membership::new(Some(id), members) };
    let counters = Arc::new(Counters::default());
    counters.close(); // Where there is no room it says so, and does not wait for some as a node does.
    let failed = || Error::io(format!("folder {}", folder.display()));
    Snapshots::new(folder, counters.clone()).write(&meta, state).map_err(failed())?;
    let mut log = Log::open(folder, true, counters)?;
    let written = async {
        log.save_vote(&Vote::new(term, me)).await?;
        log.purge(id).await
    };
    let written = written.await;
    log.close().await;
    written.map_err(failed())
}
