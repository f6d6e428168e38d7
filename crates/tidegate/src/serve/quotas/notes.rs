//! Notes for the quota log, from every node to the quota leader.

use std::time::Duration;

use tidegate_cluster::{Topic, codec};
use tidegate_model::{Feature, NodeId};
use tidegate_quota::protocol::{Closing, Note};

use super::words::{Message, Reply};
use super::{ATTEMPT, Quotas, SETTLING};

/// For the control leader, who knows which releases the nodes run.
const ASK: Duration = Duration::from_secs(1);

impl Quotas {
    /// One attempt to put a note into the quota log.
    pub(in crate::serve) async fn log_note(&self, note: Note) -> Result<(), String> {
        let Some(leader) = self.cluster.quota_leader().await else {
            return Err("no leader of the quota group is known".into());
        };
        let ask = codec::encode(&Message::Note(note));
        let why = match self.cluster.tell(leader, Topic::Quota, ask, ATTEMPT + SETTLING).await {
            Ok(reply) => match codec::decode::<Reply>(&reply) {
                Ok(Reply::Settled(Ok(()))) => return Ok(()),
                Ok(Reply::Settled(Err(why))) => why,
                _ => format!("node {leader} does not know of notes"),
            },
            Err(why) => why,
        };
        self.cluster.doubt_quota_leader();
        Err(why)
    }

    /// On the quota leader. A node speaks for its own processes only.
    pub(super) async fn note_here(&self, from: NodeId, note: Note) -> Result<(), String> {
        match &note {
            Note::Begin { node, .. } | Note::Close(Closing { node, .. }) if *node != from => {
                return Err(format!("node {from} speaks for node {node}"));
            }
            _ => {}
        }
        if let Some(behind) = self.cluster.behind(&[Feature::Journals], ASK).await? {
            return Err(behind.to_string());
        }
        self.cluster.note(note, SETTLING).await
    }
}
