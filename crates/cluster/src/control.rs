//! The control group's machine: the state, and the news of what changed.

use tidegate_model::Feature;
use tidegate_state::{Change, Outcome, Proposal, State};
use tokio::sync::broadcast;

use crate::codec;
use crate::replica::Machine;

/// Changes that a slow watcher may be behind; then it is told that it missed some.
const NEWS: usize = 4096;

/// What changed, and with which entry of the control log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    pub index: u64,
    pub change: Change,
}

pub(crate) struct Control {
    pub(crate) state: State,
    news: broadcast::Sender<News>,
}

impl Control {
    pub(crate) fn new() -> (Self, broadcast::Sender<News>) {
        let news = broadcast::Sender::new(NEWS);
        (Self { state: State::default(), news: news.clone() }, news)
    }

    fn tell(&self, index: u64, change: Change) {
        _ = self.news.send(News { index, change }); // Nobody may be listening.
    }
}

impl Machine for Control {
    type Command = Proposal;
    type Outcome = Outcome;

    fn apply(&mut self, index: u64, proposal: Proposal) -> Outcome {
        let (outcome, changes) = self.state.apply(index, &proposal);
        changes.into_iter().for_each(|change| self.tell(index, change));
        outcome
    }

    fn save(&self) -> Vec<u8> {
        codec::encode(&self.state)
    }

    fn is_packed(&self) -> bool {
        Feature::Packed.level() <= self.state.members.feature_level()
    }

    fn hash(&self) -> [u8; 32] {
        self.state.hash()
    }

    #[cfg(debug_assertions)]
    fn spoil(&mut self) {
        let command = tidegate_state::Command::CreateJoinToken { hash: [7; 32], expires_at: None, uses: 1 };
        let (request, at) = (tidegate_state::RequestId(7), tidegate_model::Millis(0));
        self.state.apply(0, &Proposal { request, at, command, by: None });
    }

    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), codec::Error> {
        self.state = codec::decode_snapshot(bytes)?;
        self.tell(index, Change::Everything);
        Ok(())
    }
}
