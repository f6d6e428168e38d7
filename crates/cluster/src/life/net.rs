//! The network between simulated nodes: messages take their time, cut ways take none. Frames are the shipped ones.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use serde::de::DeserializeOwned;
use tidegate_model::NodeId;

use super::dice::Dice;
use super::world::World;
use crate::network::{APPEND_TIMEOUT, PULSE_TIMEOUT};
use crate::raft::{Snapshot, Types, Vote};
use crate::replica::Machine;
use crate::wire::Request;
use crate::{codec, plausible, server};

/// A connection that hears nothing for so long is given up.
const IDLE: Duration = Duration::from_secs(3);

pub(super) struct Net(Mutex<Ways>);

struct Ways {
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(u64, u64)>,
    /// Of 1000 messages so many are sent again by the transport.
    lossy: u64,
    dice: Dice,
}

impl Net {
    pub(super) fn new(dice: Dice) -> Self {
        Self(Mutex::new(Ways { cut: BTreeSet::new(), lossy: 0, dice }))
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cut(&self, from: u64, to: u64) {
        self.ways().cut.insert((from, to));
    }

    pub(super) fn is_cut(&self, one: u64, other: u64) -> bool {
        let ways = self.ways();
        ways.cut.contains(&(one, other)) || ways.cut.contains(&(other, one))
    }

    pub(super) fn lose(&self, of_1000: u64) {
        self.ways().lossy = of_1000;
    }

    pub(super) fn heal(&self) {
        let mut ways = self.ways();
        ways.cut.clear();
        ways.lossy = 0;
    }

    /// Takes as long as a message does; for ever where there is no way.
    pub(super) async fn travel(&self, from: u64, to: u64) {
        let takes = {
            let mut ways = self.ways();
            let lossy = ways.lossy;
            let mut takes = Duration::from_micros(200 + ways.dice.below(1_500));
            while ways.dice.happens(lossy) {
                takes += ways.dice.millis(30, 300);
            }
            takes
        };
        tokio::time::sleep(takes).await;
        if self.ways().cut.contains(&(from, to)) {
            std::future::pending::<()>().await;
        }
    }
}

/// Makes ways to the other members, for one process.
pub(super) struct Network<M: Machine> {
    pub(super) world: World<M>,
    pub(super) from: u64,
    pub(super) life: u64,
}

/// The way to one member.
pub(super) struct Way<M: Machine> {
    world: World<M>,
    from: u64,
    life: u64,
    to: u64,
    pulse: bool,
}

impl<M: Machine> Network<M> {
    fn way(&self, to: u64, pulse: bool) -> Way<M> {
        Way { world: self.world.clone(), from: self.from, life: self.life, to, pulse }
    }
}

impl<M: Machine> RaftNetworkFactory<Types> for Network<M> {
    type Network = Way<M>;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Way<M> {
        self.way(target, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &BasicNode) -> Way<M> {
        self.way(target, true)
    }
}

impl<M: Machine> Way<M> {
    async fn call<T: DeserializeOwned>(&self, request: Request, within: Duration) -> Result<T, Unreachable<Types>> {
        let reply = tokio::time::timeout(within.min(IDLE), self.carry(request)).await;
        let reply = reply.unwrap_or_else(|_| Err("no answer".into()));
        let reply = reply
            .and_then(|bytes| codec::decode_bulk::<Result<T, String>>(&bytes).map_err(|why| why.to_string()).flatten());
        reply.map_err(|why| Unreachable::new(&AnyError::error(why)))
    }

    async fn carry(&self, request: Request) -> Result<Vec<u8>, String> {
        let frame = codec::encode(&request);
        self.world.net().travel(self.from, self.to).await;
        self.while_alive(self.from, self.life).await;
        let (raft, life) = self.world.raft(self.to).ok_or("nobody listens")?;
        let request = codec::decode_bulk::<Request>(&frame).map_err(|why| why.to_string())?;
        plausible::check(NodeId(self.from), &request)?;
        // Handled to the end, whether its caller waits for it or not.
        let handled = tokio::spawn(async move { server::raft(&raft, request).await });
        let reply = handled.await.map_err(|why| why.to_string())?;
        self.while_alive(self.to, life).await;
        self.world.net().travel(self.to, self.from).await;
        Ok(reply)
    }

    /// The dead say nothing.
    async fn while_alive(&self, node: u64, life: u64) {
        if self.world.life(node) != Some(life) {
            std::future::pending::<()>().await;
        }
    }
}

impl<M: Machine> RaftNetworkV2<Types> for Way<M> {
    type SnapshotData = bytes::Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let within = if self.pulse { PULSE_TIMEOUT } else { APPEND_TIMEOUT };
        Ok(self.call(Request::Append { group: self.world.group(), rpc }, within).await?)
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, _: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.call(Request::Vote { group: self.world.group(), rpc }, PULSE_TIMEOUT).await?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.call(Request::PreVote { group: self.world.group(), rpc }, PULSE_TIMEOUT).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let (group, meta, data) = (self.world.group(), snapshot.meta, snapshot.snapshot);
        Ok(self.call(Request::Snapshot { group, vote, meta, data }, IDLE).await?)
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        Ok(self.call(Request::Transfer { group: self.world.group(), rpc }, PULSE_TIMEOUT).await?)
    }
}
