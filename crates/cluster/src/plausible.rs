//! Could this member have sent this Raft call? openraft takes what it gets for true: a term or an index at the end of its
//! range, entries out of order or a membership without nodes would stop this replica or spoil its vote for good. The
//! certificate says who calls, and nobody speaks for another.

use tidegate_model::NodeId;

use crate::raft::{LogId, SnapshotMeta, Vote};
use crate::wire::Request;

/// No cluster lives to see such a term or index; everything counts on from here without running over.
const MOST: u64 = 1 << 62;

pub(crate) fn check(from: NodeId, request: &Request) -> Result<(), String> {
    match request {
        Request::Append { rpc, .. } => {
            leads(from, &rpc.vote)?;
            known(rpc.leader_commit)?;
            in_order(rpc.prev_log_id, rpc.entries.iter().map(|entry| entry.log_id))?;
            rpc.entries.iter().try_for_each(|entry| match &entry.payload {
                openraft::EntryPayload::Membership(membership) => has_nodes(membership),
                _ => Ok(()),
            })
        }
        Request::Vote { rpc, .. } | Request::PreVote { rpc, .. } => {
            speaks_for_itself(from, &rpc.vote)?;
            known(rpc.last_log_id)
        }
        Request::Transfer { rpc, .. } => {
            leads(from, rpc.from_leader())?;
            known(rpc.last_log_id().copied())
        }
        Request::Snapshot { vote, meta, .. } => {
            leads(from, vote)?;
            snapshot(meta)
        }
        _ => Ok(()),
    }
}

fn speaks_for_itself(from: NodeId, vote: &Vote) -> Result<(), String> {
    if vote.leader_id.node_id != from.0 {
        return Err(format!("node {from} sent a vote of node {}", vote.leader_id.node_id));
    }
    if vote.leader_id.term > MOST { Err("no term is that high".into()) } else { Ok(()) }
}

fn leads(from: NodeId, vote: &Vote) -> Result<(), String> {
    speaks_for_itself(from, vote)?;
    if vote.committed { Ok(()) } else { Err(format!("node {from} was not elected")) }
}

fn known(id: Option<LogId>) -> Result<(), String> {
    match id {
        Some(id) if id.index > MOST || id.leader_id.term > MOST => Err("no log is that long".into()),
        _ => Ok(()),
    }
}

/// Entries follow one another without a gap.
fn in_order(mut before: Option<LogId>, ids: impl Iterator<Item = LogId>) -> Result<(), String> {
    known(before)?;
    for id in ids {
        known(Some(id))?;
        let next = before.map_or(0, |before| before.index + 1);
        if id.index != next || before > Some(id) {
            return Err(format!("entry {} where {next} belongs", id.index));
        }
        before = Some(id);
    }
    Ok(())
}

fn snapshot(meta: &SnapshotMeta) -> Result<(), String> {
    known(meta.last_log_id)?;
    let since = *meta.last_membership.log_id();
    if since > meta.last_log_id {
        return Err("the membership is newer than the snapshot".into());
    }
    // Before the first entry there are no members.
    if since.is_none() { Ok(()) } else { has_nodes(meta.last_membership.membership()) }
}

fn has_nodes(membership: &openraft::Membership<u64, openraft::BasicNode>) -> Result<(), String> {
    let configs = membership.get_joint_config();
    let known = |id: &u64| membership.get_node(id).is_some();
    if configs.is_empty() || configs.iter().any(|voters| voters.is_empty() || !voters.iter().all(known)) {
        return Err("a membership without voters".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use openraft::raft::{AppendEntriesRequest, VoteRequest};

    use super::*;
    use crate::raft::{Entry, LeaderId};
    use crate::wire::GroupId;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(LeaderId { term, node_id: 1 }, index)
    }

    fn append(vote: Vote, prev_log_id: Option<LogId>, ids: &[LogId]) -> Request {
        let entries = ids.iter().map(|id| Entry { log_id: *id, payload: EntryPayload::Blank }).collect();
        let rpc = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit: None };
        Request::Append { group: GroupId::Control, rpc }
    }

    #[test]
    fn nobody_speaks_for_another() {
        let elected = Vote::new_committed(3, 1);
        assert_eq!(check(NodeId(1), &append(elected, None, &[])), Ok(()));
        assert!(check(NodeId(2), &append(elected, None, &[])).is_err());
        assert!(check(NodeId(1), &append(Vote::new(3, 1), None, &[])).is_err());
        let ballot = |term| Request::Vote { group: GroupId::Control, rpc: VoteRequest::new(Vote::new(term, 2), None) };
        assert_eq!(check(NodeId(2), &ballot(4)), Ok(()));
        assert!(check(NodeId(1), &ballot(4)).is_err());
        assert!(check(NodeId(2), &ballot(u64::MAX)).is_err());
    }

    #[test]
    fn entries_follow_one_another() {
        let from = |prev, ids: &[LogId]| check(NodeId(1), &append(Vote::new_committed(3, 1), prev, ids));
        assert_eq!(from(None, &[id(1, 0), id(1, 1)]), Ok(()));
        assert_eq!(from(Some(id(1, 7)), &[id(2, 8)]), Ok(()));
        assert!(from(Some(id(1, 7)), &[id(2, 9)]).is_err());
        assert!(from(Some(id(2, 7)), &[id(1, 8)]).is_err());
        assert!(from(None, &[id(1, 1)]).is_err());
        assert!(from(Some(id(1, u64::MAX)), &[id(1, 0)]).is_err());
    }
}
