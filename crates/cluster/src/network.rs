//! openraft's way to the other members: each RPC is one call on the lane it belongs to.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use serde::de::DeserializeOwned;
use tidegate_model::NodeId;

use crate::raft::{Snapshot, Types, Vote};
use crate::transport::peers::Peers;
use crate::wire::{GroupId, Lane, Request};

/// Below the shortest election timeout: a vote that comes later is of no use.
pub(crate) const PULSE_TIMEOUT: Duration = Duration::from_millis(350);
/// A follower's fsync of a batch, on a busy disk.
pub(crate) const APPEND_TIMEOUT: Duration = Duration::from_secs(2);
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes clients for the members of one group.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
    pub(crate) group: GroupId,
}

/// The way to one member.
pub(crate) struct Client {
    peers: Arc<Peers>,
    group: GroupId,
    target: NodeId,
    lane: Lane,
}

impl Network {
    fn client(&self, target: u64, node: &BasicNode, lane: Lane) -> Client {
        let target = NodeId(target);
        self.peers.addresses.suggest(target, &node.addr);
        Client { peers: self.peers.clone(), group: self.group, target, lane }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Client {
        self.client(target, node, Lane::Calls)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Client {
        self.client(target, node, Lane::Pulse)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> Client {
        self.client(target, node, Lane::Bulk)
    }
}

impl Client {
    async fn call<T: DeserializeOwned>(
        &self,
        lane: Lane,
        request: &Request,
        timeout: Duration,
    ) -> Result<T, Unreachable<Types>> {
        let reply: Result<Result<T, String>, _> = self.peers.call(self.target, lane, request, timeout).await;
        match reply {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(reason)) => Err(unreachable(reason)),
            Err(error) => Err(unreachable(error.to_string())),
        }
    }
}

fn unreachable(reason: String) -> Unreachable<Types> {
    Unreachable::new(&AnyError::error(reason))
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let timeout = if self.lane == Lane::Pulse { PULSE_TIMEOUT } else { APPEND_TIMEOUT };
        let request = Request::Append { group: self.group, rpc };
        Ok(self.call(self.lane, &request, timeout).await?)
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, _: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = Request::Vote { group: self.group, rpc };
        Ok(self.call(Lane::Pulse, &request, PULSE_TIMEOUT).await?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = Request::PreVote { group: self.group, rpc };
        Ok(self.call(Lane::Pulse, &request, PULSE_TIMEOUT).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let request = Request::Snapshot { group: self.group, vote, meta: snapshot.meta, data: snapshot.snapshot };
        tokio::select! {
            closed = cancel => Err(closed.into()),
            reply = self.call(Lane::Bulk, &request, SNAPSHOT_TIMEOUT) => Ok(reply?),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = Request::Transfer { group: self.group, rpc };
        Ok(self.call(Lane::Pulse, &request, PULSE_TIMEOUT).await?)
    }
}
