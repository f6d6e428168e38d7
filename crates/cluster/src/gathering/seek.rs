//! Asking the others until one of a cluster is found, or the word of a majority.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::secret::Secret;
use super::word::{Candidate, Word};
use super::{Ask, Meeting, Said, ask};
use crate::error::Error;
use crate::transport::joining::Asking;

const PAUSE: Duration = Duration::from_millis(250);
/// How often it is told what is waited for.
const TELL: Duration = Duration::from_secs(10);

pub(super) struct Seeker<'a> {
    pub(super) word: &'a Word<'a>,
    /// This node's peer address.
    pub(super) own: &'a str,
    pub(super) peers: &'a [String],
    pub(super) secret: &'a Secret,
}

/// What is known of one of the initial peers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum View {
    Fresh { id: String, promised: Option<Candidate> },
    Member,
    Busy,
    Silent(String),
}

/// What to do in this round.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Join(usize),
    /// Ask these, and this node itself, for their word.
    Ask(Vec<usize>),
    Wait(String),
}

impl Seeker<'_> {
    pub(super) async fn seek(&self) -> Result<Meeting, Error> {
        let me = self.word.me();
        let mut told: Option<Instant> = None;
        loop {
            let views = join_all(self.peers.iter().map(|peer| self.look(peer))).await;
            let reason = match next(&views, self.peers, &me) {
                Next::Join(at) => return Ok(Meeting::Join(self.peers[at].clone())),
                Next::Ask(others) => match self.has_the_word_of(&others, &me).await {
                    Ok(()) => return Ok(Meeting::Form),
                    Err(reason) => reason,
                },
                Next::Wait(reason) => {
                    self.give_back(&views, &me).await;
                    reason
                }
            };
            if told.is_none_or(|told| TELL <= told.elapsed()) {
                tracing::info!("no cluster yet: {reason}");
                told = Some(Instant::now());
            }
            // Not all at the same moment.
            let spread = u64::from(crate::token::random::<1>()[0]);
            tokio::time::sleep(PAUSE + Duration::from_millis(spread)).await;
        }
    }

    async fn look(&self, peer: &str) -> View {
        match ask(peer, self.secret, Ask::WhoAreYou).await {
            Ok(Said::Fresh { id, promised }) => View::Fresh { id, promised },
            Ok(Said::Member) => View::Member,
            Ok(Said::Busy) => View::Busy,
            Ok(other) => View::Silent(format!("{other:?}")),
            Err(Asking::WrongCa) => View::Silent("has another cluster secret, or none".into()),
            Err(Asking::Failed(reason)) => View::Silent(reason),
        }
    }

    async fn has_the_word_of(&self, others: &[usize], me: &str) -> Result<(), String> {
        let candidate = Candidate { id: me.to_owned(), address: self.own.to_owned() };
        let asked = others.iter().map(|at| async {
            let peer = &self.peers[*at];
            match ask(peer, self.secret, Ask::YourWord(candidate.clone())).await {
                Ok(Said::Promised) => Ok(()),
                Ok(Said::Taken(other)) => Err(format!("{peer} gave its word to {}", other.address)),
                _ => Err(format!("{peer} did not answer")),
            }
        });
        let answers = join_all(asked).await;
        let given = answers.iter().filter(|answer| answer.is_ok()).count();
        if given + 1 < majority(self.peers.len()) {
            let reasons: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
            return Err(format!("{}. {LOST}", reasons.join("; ")));
        }
        // Its own last: nobody else gets it from now on.
        self.word.give(&candidate).map_err(|other| format!("this node gave its word to {}. {LOST}", other.address))
    }

    /// What was promised to this node is not wanted now.
    async fn give_back(&self, views: &[View], me: &str) {
        self.word.take_back(me);
        let ours = |view: &View| matches!(view, View::Fresh { promised: Some(promised), .. } if promised.id == me);
        let holders = self.peers.iter().zip(views).filter(|(_, view)| ours(view));
        join_all(holders.map(|(peer, _)| ask(peer, self.secret, Ask::TakeBack { id: me.to_owned() }))).await;
    }
}

const LOST: &str = "It forms the cluster when it is there again; if that machine is lost for good, stop all nodes that \
                    wait and remove gathering.json from their data folders";

fn majority(of: usize) -> usize {
    of / 2 + 1
}

fn next(views: &[View], peers: &[String], me: &str) -> Next {
    if let Some(at) = views.iter().position(|view| *view == View::Member) {
        return Next::Join(at);
    }
    if let Some(at) = views.iter().position(|view| *view == View::Busy) {
        return Next::Wait(format!("{} is becoming a node", peers[at]));
    }
    // Two names may be one node's.
    let mut fresh: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, view) in views.iter().enumerate() {
        if let View::Fresh { id, .. } = view {
            fresh.entry(id).or_insert(at);
        }
    }
    let silent: Vec<String> = peers
        .iter()
        .zip(views)
        .filter_map(|(peer, view)| match view {
            View::Silent(reason) => Some(format!("{peer} ({reason})")),
            _ => None,
        })
        .collect();
    let Some(mine) = fresh.get(me) else {
        let silent = if silent.is_empty() { String::new() } else { format!(" Silent: {}", silent.join(", ")) };
        return Next::Wait(format!("none of the initial peers is this node: it waits for their cluster.{silent}"));
    };
    if fresh.len() < majority(peers.len()) {
        let (is, of, needed) = (fresh.len(), peers.len(), majority(peers.len()));
        return Next::Wait(format!(
            "{is} of {of} initial peers are there, {needed} are needed. Silent: {}",
            silent.join(", ")
        ));
    }
    match fresh.values().min() {
        Some(first) if first == mine => Next::Ask(fresh.values().filter(|at| *at != mine).copied().collect()),
        Some(first) => Next::Wait(format!("{} is to form it", peers[*first])),
        None => Next::Wait(String::new()), // Not reached: this node is among them.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("10.0.0.{n}:7081")).collect()
    }

    fn fresh(id: &str) -> View {
        View::Fresh { id: id.into(), promised: None }
    }

    fn silent() -> View {
        View::Silent("no answer".into())
    }

    fn waits(next: &Next, word: &str) -> bool {
        matches!(next, Next::Wait(reason) if reason.contains(word))
    }

    #[test]
    fn the_first_of_a_majority_asks_and_the_others_wait_for_it() {
        let views = [silent(), fresh("b"), fresh("c")];
        assert_eq!(next(&views, &peers(3), "b"), Next::Ask(vec![2]));
        assert!(waits(&next(&views, &peers(3), "c"), "10.0.0.2:7081 is to form it"));
    }

    #[test]
    fn less_than_a_majority_waits_and_names_who_is_silent() {
        let views = [fresh("a"), silent(), silent()];
        let next = next(&views, &peers(3), "a");
        assert!(waits(&next, "1 of 3") && waits(&next, "10.0.0.3:7081 (no answer)"), "{next:?}");
    }

    #[test]
    fn a_cluster_that_is_there_is_joined_whoever_else_is_fresh() {
        let views = [fresh("a"), fresh("b"), View::Member];
        assert_eq!(next(&views, &peers(3), "a"), Next::Join(2));
        assert!(waits(&next(&[fresh("a"), fresh("b"), View::Busy], &peers(3), "a"), "becoming"));
    }

    #[test]
    fn two_names_of_one_node_are_no_majority() {
        let views = [fresh("a"), fresh("a"), silent()];
        assert!(waits(&next(&views, &peers(3), "a"), "1 of 3"));
    }

    #[test]
    fn who_is_not_in_the_list_only_waits() {
        let views = [fresh("a"), fresh("b"), fresh("c")];
        assert!(waits(&next(&views, &peers(3), "d"), "none of the initial peers is this node"));
    }
}
