//! Who knows all: what each index holds, who led when, what was acknowledged, and what every replica made of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::time::Instant;

use super::Verdict;
use crate::codec;
use crate::raft::LogId;
use crate::replica::Machine;

type Hash = [u8; 32];

#[derive(Clone)]
pub(super) struct Judge(Arc<Mutex<Case>>);

struct Case {
    /// Is the story told, on standard error?
    tells: bool,
    began: Instant,
    /// By index: the command, and now and then the state after it.
    applied: BTreeMap<u64, (Hash, Option<Hash>)>,
    leaders: BTreeMap<u64, String>,
    acknowledged: BTreeMap<u64, Hash>,
    admitted: Vec<(Instant, u64)>,
    broken: Vec<String>,
    faults: u64,
    reads: u64,
    trace: blake3::Hasher,
}

/// At every such index states are compared: what differs once differs from then on.
const LOOK: u64 = 16;
/// Names differences and not their consequences.
const MOST_TOLD: usize = 20;

impl Judge {
    pub(super) fn new(tells: bool) -> Self {
        Self(Arc::new(Mutex::new(Case {
            tells,
            began: Instant::now(),
            applied: BTreeMap::new(),
            leaders: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            admitted: vec![],
            broken: vec![],
            faults: 0,
            reads: 0,
            trace: blake3::Hasher::new(),
        })))
    }

    /// What happened, for who replays one seed.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        let case = self.case();
        if case.tells {
            eprintln!("{:>9.3} s  {}", case.began.elapsed().as_secs_f64(), what());
        }
    }

    fn case(&self) -> MutexGuard<'_, Case> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn broken(&self, what: String) {
        self.tell(|| format!("BROKEN: {what}"));
        let mut case = self.case();
        if case.broken.len() < MOST_TOLD {
            case.broken.push(what);
        }
    }

    pub(super) fn fault(&self, what: impl FnOnce() -> String) {
        self.case().faults += 1;
        self.tell(what);
    }

    fn applied(&self, node: u64, index: u64, command: Hash, state: Option<Hash>) {
        self.tell(|| format!("node {node} applied {index}: {}", short(&command)));
        let mut case = self.case();
        match case.applied.get(&index) {
            None => {
                case.trace.update(&index.to_le_bytes()).update(&command).update(&state.unwrap_or_default());
                case.applied.insert(index, (command, state));
            }
            Some((known, _)) if *known != command => {
                drop(case);
                self.broken(format!("node {node} applied another command than others at index {index}"));
            }
            Some((_, known)) if *known != state => {
                drop(case);
                self.broken(format!("node {node} has another state than others after index {index}"));
            }
            Some(_) => {}
        }
    }

    /// From a snapshot.
    fn restored(&self, node: u64, index: u64, state: Hash) {
        self.tell(|| format!("node {node} took over a snapshot of {index}"));
        let known = self.case().applied.get(&index).and_then(|(_, state)| *state);
        if known.is_some_and(|known| known != state) {
            self.broken(format!("node {node} took over another state than others had at index {index}"));
        }
    }

    /// What a node says it applied last.
    pub(super) fn led(&self, node: u64, id: LogId) {
        let leader = id.leader_id.to_string();
        let mut case = self.case();
        let before = case.leaders.entry(id.index).or_insert_with(|| leader.clone()).clone();
        drop(case);
        if before != leader {
            self.broken(format!("index {} is of leader {before} and, on node {node}, of {leader}", id.index));
        }
    }

    pub(super) fn acknowledged(&self, index: u64, command: &[u8]) {
        let hash = *blake3::hash(command).as_bytes();
        self.tell(|| format!("acknowledged {index}: {}", short(&hash)));
        let mut case = self.case();
        case.acknowledged.insert(index, hash);
        let there = case.applied.get(&index).map(|(command, _)| *command);
        drop(case);
        if there != Some(hash) {
            self.broken(format!("a write was acknowledged at index {index}, which holds something else"));
        }
    }

    /// The newest index that was acknowledged.
    pub(super) fn newest(&self) -> u64 {
        self.case().acknowledged.keys().next_back().copied().unwrap_or(0)
    }

    /// A read that began when `newest` was acknowledged sees all up to `sees`.
    pub(super) fn read(&self, newest: u64, sees: u64) {
        self.case().reads += 1;
        if sees < newest {
            self.broken(format!("a read sees up to index {sees}, and {newest} had been acknowledged"));
        }
    }

    pub(super) fn admitted(&self, count: u64) {
        self.case().admitted.push((Instant::now(), count));
    }

    /// No window of the limit holds more than it may.
    pub(super) fn check_windows(&self, window: std::time::Duration, max: u64) {
        let admitted = self.case().admitted.clone();
        let (mut first, mut sum) = (0, 0);
        for (at, count) in &admitted {
            sum += count;
            while *at - admitted[first].0 >= window {
                sum -= admitted[first].1;
                first += 1;
            }
            if sum > max {
                return self.broken(format!("{sum} of {max} were admitted in one window"));
            }
        }
    }

    pub(super) fn verdict(&self, seed: u64) -> Verdict {
        let case = self.case();
        Verdict {
            seed,
            broken: case.broken.clone(),
            faults: case.faults,
            entries: case.applied.len() as u64,
            acknowledged: case.acknowledged.len() as u64,
            reads: case.reads,
            admitted: case.admitted.iter().map(|(_, count)| count).sum(),
            trace: *case.trace.finalize().as_bytes(),
        }
    }
}

fn short(hash: &Hash) -> String {
    crate::token::hex(&hash[..4])
}

/// A machine that tells the judge all that it does.
pub(super) struct Watched<M> {
    pub(super) inner: M,
    node: u64,
    judge: Judge,
}

impl<M> Watched<M> {
    pub(super) fn new(node: u64, inner: M, judge: Judge) -> Self {
        Self { inner, node, judge }
    }
}

impl<M: Machine<Command: Serialize>> Machine for Watched<M> {
    type Command = M::Command;
    type Outcome = M::Outcome;

    fn apply(&mut self, index: u64, command: M::Command) -> M::Outcome {
        let hash = *blake3::hash(&codec::encode(&command)).as_bytes();
        let outcome = self.inner.apply(index, command);
        let state = index.is_multiple_of(LOOK).then(|| self.inner.hash());
        self.judge.applied(self.node, index, hash, state);
        outcome
    }

    fn save(&self) -> Vec<u8> {
        self.inner.save()
    }

    fn hash(&self) -> Hash {
        self.inner.hash()
    }

    #[cfg(debug_assertions)]
    fn spoil(&mut self) {
        self.inner.spoil();
    }

    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), codec::Error> {
        self.inner.restore(index, bytes)?;
        self.judge.restored(self.node, index, self.inner.hash());
        Ok(())
    }
}
