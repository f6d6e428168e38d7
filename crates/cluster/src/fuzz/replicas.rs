//! A state and a ledger that do what they are told, twice over: two replicas must come out the same.

use openraft::{BasicNode, EntryPayload};
use tidegate_model::{Incarnation, Millis, Nanos, NodeId, Permits};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Batch, Command, Entry, Item, Key};
use tidegate_state::{Proposal, RequestId, State};

use crate::codec;
use crate::raft::Payload;

#[derive(Default)]
pub(super) struct Replicas {
    states: [State; 2],
    ledgers: [Ledger; 2],
}

impl Replicas {
    /// From the bytes of a snapshot, of either group; then life goes on.
    pub(super) fn restored(bytes: &[u8]) -> Self {
        let mut replicas = Self::default();
        if let Ok(state) = codec::decode_snapshot::<State>(bytes) {
            replicas.states = [state.clone(), state];
            replicas.live_on();
        }
        if let Ok(ledger) = codec::decode_bulk::<Ledger>(bytes) {
            let keys: Vec<Key> = ledger.views().take(8).map(|view| view.key).collect();
            replicas.ledgers = [ledger.clone(), ledger];
            replicas.ask_for(&keys);
        }
        replicas
    }

    /// An entry of a log of either group.
    pub(super) fn payload(&mut self, payload: EntryPayload<Payload, u64, BasicNode>) {
        let EntryPayload::Normal(Payload(bytes)) = payload else { return };
        if let Ok(proposal) = codec::decode_packed::<Proposal>(&bytes) {
            self.propose(&proposal);
        }
        if let Ok(entry) = codec::decode_packed::<Entry>(&bytes) {
            self.enter(&entry);
        }
    }

    pub(super) fn quota(&mut self, commands: &[Command]) {
        for command in commands {
            self.enter(&Entry { dt: Nanos::SECOND, command: command.clone() });
        }
    }

    /// What a new node would be sent is what the old ones have.
    pub(super) fn check(&self) {
        let [state, other] = &self.states;
        assert_eq!(state.hash(), other.hash(), "two states of the same proposals differ");
        let copy: State = codec::decode_snapshot(&codec::encode(state)).expect("a state is read as it was written");
        assert_eq!(&copy, state);
        let [ledger, other] = &self.ledgers;
        assert_eq!(ledger, other, "two ledgers of the same entries differ");
        let copy: Ledger = codec::decode_bulk(&codec::encode(ledger)).expect("a ledger is read as it was written");
        assert_eq!(&copy, ledger);
        ledger.views().for_each(|view| _ = ledger.charged(view.key));
        _ = state.members.removed().take(8).count();
    }

    pub(super) fn propose(&mut self, proposal: &Proposal) {
        let [one, other] = &mut self.states;
        assert_eq!(one.apply(0, proposal), other.apply(0, proposal));
    }

    fn enter(&mut self, entry: &Entry) {
        let [one, other] = &mut self.ledgers;
        let outcome = one.apply(entry);
        assert_eq!(outcome, other.apply(entry));
        let again = codec::decode(&codec::encode(&outcome));
        assert_eq!(again.as_ref(), Ok(&outcome), "an outcome is read as it was written");
    }

    fn live_on(&mut self) {
        let publish = tidegate_state::Publish {
            document: "version: 1".into(),
            format: tidegate_state::Format::Yaml,
            replaces: None,
            author: String::new(),
            note: String::new(),
            policies: tidegate_model::Revision(1),
        };
        let commands = [
            tidegate_state::Command::PublishDocument(publish),
            tidegate_state::Command::CreateJoinToken { hash: [1; 32], expires_at: None, uses: 1 },
            tidegate_state::Command::RemoveNode { id: NodeId(1) },
        ];
        for (number, command) in (0..).zip(commands) {
            self.propose(&Proposal { request: RequestId(number), at: Millis(5), command, by: None });
        }
    }

    fn ask_for(&mut self, keys: &[Key]) {
        let item = |key: &Key| Item {
            key: *key,
            epoch: 9,
            spent: Permits::ZERO,
            have: Permits::ZERO,
            want: Permits(7),
            waiting: Permits(3),
            reserve: true,
            reserved: Permits::ZERO,
        };
        let batch =
            |seq| Batch { node: NodeId(9), incarnation: Incarnation(9), seq, items: keys.iter().map(item).collect() };
        self.quota(&[Command::Batches(vec![batch(1), batch(2)]), Command::Tick, Command::Batches(vec![batch(3)])]);
    }
}
