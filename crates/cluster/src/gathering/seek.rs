//! Asking the others until one of a cluster is found, or the word of a majority.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::secret::Secret;
use super::word::Candidate;
use super::{Ask, Fresh, Me, Meeting, Said, Way, ask};
use crate::error::Error;
use crate::transport::joining::Asking;

const PAUSE: Duration = Duration::from_millis(250);
/// How often it is told what is waited for.
const TELL: Duration = Duration::from_secs(10);

pub(super) struct Seeker<'a> {
    pub(super) me: &'a Me<'a>,
    /// This node's peer address.
    pub(super) own: &'a str,
    pub(super) peers: &'a [String],
    pub(super) secret: &'a Secret,
    pub(super) way: &'a Way,
}

/// What is known of one of the initial peers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum View {
    Fresh(Fresh),
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
        let mut told: Option<Instant> = None;
        loop {
            let views = join_all(self.peers.iter().map(|peer| self.look(peer))).await;
            let reason = match next(&views, self.peers, &self.me.fresh(), self.way.failed.as_deref()) {
                Next::Join(at) => return Ok(Meeting::Join(self.peers[at].clone())),
                Next::Ask(others) => match self.has_the_word_of(&others).await {
                    Ok(()) => return Ok(Meeting::Form),
                    Err(reason) => reason,
                },
                Next::Wait(reason) => {
                    self.give_back(&views).await;
                    reason
                }
            };
            self.way.progress.is(reason.clone());
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
        if peer == self.own {
            return View::Fresh(self.me.fresh()); // Not every network leads back to oneself.
        }
        match ask(peer, self.secret, Ask::WhoAreYou).await {
            Ok(Said::Fresh(fresh)) => View::Fresh(fresh),
            Ok(Said::Member) => View::Member,
            Ok(Said::Busy) => View::Busy,
            Ok(other) => View::Silent(format!("{other:?}")),
            Err(Asking::WrongCa) => View::Silent("has another cluster secret, or none".into()),
            Err(Asking::Failed(reason)) => View::Silent(reason),
        }
    }

    async fn has_the_word_of(&self, others: &[usize]) -> Result<(), String> {
        let (id, address) = (self.me.word.me(), self.own.to_owned());
        let candidate = Candidate { id: id.clone(), address, attempt: u64::from_le_bytes(crate::token::random()) };
        let asked = others.iter().map(|at| async {
            let peer = &self.peers[*at];
            match ask(peer, self.secret, Ask::YourWord(candidate.clone())).await {
                Ok(Said::Promised { by }) => Ok(by),
                Ok(Said::Taken(other)) => Err(format!("{peer} gave its word to {}", other.address)),
                _ => Err(format!("{peer} did not answer")),
            }
        });
        // By who gave it: two names may have become one machine's meanwhile.
        let (mut given, mut reasons) = (BTreeSet::from([id]), Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(by) => _ = given.insert(by),
                Err(reason) => reasons.push(reason),
            }
        }
        if given.len() < majority(self.peers.len()) {
            return Err(format!("{}. {LOST}", reasons.join("; ")));
        }
        // Its own last: nobody else gets it from now on.
        self.me.word.give(&candidate).map_err(|other| format!("this node gave its word to {}. {LOST}", other.address))
    }

    /// What was promised to this node is not wanted now.
    async fn give_back(&self, views: &[View]) {
        let me = self.me.word.me();
        self.me.word.take_back(&me, None);
        let ours = self.peers.iter().zip(views).filter_map(|(peer, view)| match view {
            View::Fresh(Fresh { promised: Some(promised), .. }) if promised.id == me => Some((peer, promised.attempt)),
            _ => None,
        });
        let back = ours.map(|(peer, attempt)| ask(peer, self.secret, Ask::TakeBack { id: me.clone(), attempt }));
        join_all(back).await;
    }
}

const LOST: &str = "It forms the cluster when it is there again; if that machine is lost for good, stop all nodes that \
                    wait and remove gathering.json from their data folders";

fn majority(of: usize) -> usize {
    of / 2 + 1
}

fn next(views: &[View], peers: &[String], me: &Fresh, failed: Option<&str>) -> Next {
    let members = || (0..views.len()).filter(|at| views[*at] == View::Member);
    if let Some(at) = members().find(|at| failed != Some(peers[*at].as_str())).or_else(|| members().next()) {
        return Next::Join(at);
    }
    if let Some(at) = views.iter().position(|view| *view == View::Busy) {
        return Next::Wait(format!("{} is becoming a node", peers[at]));
    }
    // Two names may be one node's.
    let mut fresh: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, view) in views.iter().enumerate() {
        let View::Fresh(found) = view else { continue };
        let peer = &peers[at];
        if found.id == me.id && found.process != me.process {
            return Next::Wait(format!(
                "{peer} has a copy of this node's data folder: stop it there, and empty the folder"
            ));
        }
        if found.list != me.list {
            return Next::Wait(format!("{peer} was told other initial peers: all have to be told the same"));
        }
        fresh.entry(&found.id).or_insert(at);
    }
    let silent: Vec<String> = peers
        .iter()
        .zip(views)
        .filter_map(|(peer, view)| match view {
            View::Silent(reason) => Some(format!("{peer} ({reason})")),
            _ => None,
        })
        .collect();
    let Some(mine) = fresh.get(me.id.as_str()) else {
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

    fn one(id: &str) -> Fresh {
        Fresh { id: id.into(), process: 1, list: [0; 32], promised: None }
    }

    fn fresh(id: &str) -> View {
        View::Fresh(one(id))
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
        assert_eq!(next(&views, &peers(3), &one("b"), None), Next::Ask(vec![2]));
        assert!(waits(&next(&views, &peers(3), &one("c"), None), "10.0.0.2:7081 is to form it"));
    }

    #[test]
    fn less_than_a_majority_waits_and_names_who_is_silent() {
        let views = [fresh("a"), silent(), silent()];
        let next = next(&views, &peers(3), &one("a"), None);
        assert!(waits(&next, "1 of 3") && waits(&next, "10.0.0.3:7081 (no answer)"), "{next:?}");
    }

    #[test]
    fn a_cluster_that_is_there_is_joined_whoever_else_is_fresh() {
        let views = [fresh("a"), fresh("b"), View::Member];
        assert_eq!(next(&views, &peers(3), &one("a"), None), Next::Join(2));
        assert!(waits(&next(&[fresh("a"), fresh("b"), View::Busy], &peers(3), &one("a"), None), "becoming"));
    }

    #[test]
    fn two_names_of_one_node_are_no_majority() {
        let views = [fresh("a"), fresh("a"), silent()];
        assert!(waits(&next(&views, &peers(3), &one("a"), None), "1 of 3"));
    }

    #[test]
    fn who_is_not_in_the_list_only_waits() {
        let views = [fresh("a"), fresh("b"), fresh("c")];
        assert!(waits(&next(&views, &peers(3), &one("d"), None), "none of the initial peers is this node"));
    }

    #[test]
    fn a_member_whose_cluster_does_not_answer_is_not_asked_first_again() {
        let views = [View::Member, fresh("b"), View::Member];
        assert_eq!(next(&views, &peers(3), &one("b"), Some("10.0.0.1:7081")), Next::Join(2));
        assert_eq!(next(&views[..2], &peers(2), &one("b"), Some("10.0.0.1:7081")), Next::Join(0));
    }

    #[test]
    fn copies_of_a_disk_and_other_lists_are_named() {
        let copy = View::Fresh(Fresh { process: 2, ..one("a") });
        let views = [fresh("a"), copy, fresh("c")];
        assert!(waits(&next(&views, &peers(3), &one("a"), None), "10.0.0.2:7081 has a copy"));
        let other = View::Fresh(Fresh { list: [1; 32], ..one("c") });
        let views = [fresh("a"), fresh("b"), other];
        assert!(waits(&next(&views, &peers(3), &one("a"), None), "10.0.0.3:7081 was told other"));
    }
}
