//! The quota group, as little Raft as shows its dangers: terms, a log per voter, unapplied tails, lost entries, leaders
//! that do not know they were deposed, restarts from a snapshot. The entries, what stamps and what applies them are the
//! shipped ones.

use std::collections::BTreeSet;
use std::rc::Rc;

use tidegate_model::Nanos;
use tidegate_quota::protocol::{Batch, Command, Entry, Outcome, oldest_decided};
use tidegate_quota::{Ledger, Stamps, guard};

use super::clock::{Clock, LEADER_SLOWEST, leader_fastest};
use super::random::Random;
use super::scenario::{MICRO, MILLI, SECOND, Scenario};
use super::world::{Applied, Event, World, node_of};

pub(super) struct Voter {
    pub(super) up: bool,
    pub(super) life: u32,
    pub(super) cut: bool,
    pub(super) frozen_until: u64,
    /// Until then it writes entries and applies none.
    pub(super) lags_until: u64,
    pub(super) raw: Clock,
    pub(super) leads: bool,
    /// On disk: term and log.
    pub(super) term: u64,
    log: Vec<Logged>,
    /// On disk: the ledger after the first so many entries.
    snapshot: (Vec<u8>, usize),
    commit: usize,
    /// A new member in the place of one that lost its disk: until it has so many entries committed, it neither votes nor counts.
    learns_up_to: usize,
    /// How often this place lost its disk.
    disk: u32,
    applied: usize,
    pub(super) ledger: Ledger,
    /// How far its wall clock is from the truth, in milliseconds.
    pub(super) wall_is_off: i64,
    /// When the last entry that is not blank was applied, on this voter's raw clock; `None`: there is none.
    applied_at: Option<Nanos>,
    stamps: Stamps<u64>,
    /// Where the blank entry of its leadership lies. Until it is applied, this voter leads nobody.
    blank: usize,
    /// With the time on its raw clock when each came.
    inbox: Vec<(Nanos, Rc<Batch>)>,
    matched: Vec<usize>,
    /// Entries this voter proposed and has to answer.
    unanswered: BTreeSet<usize>,
    proposing: bool,
    proposed_at: u64,
}

#[derive(Clone)]
pub(super) struct Logged {
    pub(super) term: u64,
    /// `None`: the first of a leadership, which says nothing and carries no time.
    pub(super) entry: Option<Rc<Entry>>,
    /// True time when it was.
    pub(super) stamped: u64,
}

impl Logged {
    fn is(&self, other: &Self) -> bool {
        match (&self.entry, &other.entry) {
            (Some(mine), Some(theirs)) => Rc::ptr_eq(mine, theirs),
            (None, None) => self.term == other.term,
            _ => false,
        }
    }
}

impl Voter {
    pub(super) fn new(scenario: &Scenario, random: &mut Random) -> Self {
        let rate = random.between(LEADER_SLOWEST, leader_fastest());
        Self {
            up: true,
            life: 0,
            cut: false,
            frozen_until: 0,
            lags_until: 0,
            raw: Clock::new(if scenario.worst_clocks { leader_fastest() } else { rate }, random.below(1_000 * SECOND)),
            leads: false,
            term: 0,
            log: Vec::new(),
            snapshot: (encode(&Ledger::default()), 0),
            commit: 0,
            learns_up_to: 0,
            disk: 0,
            applied: 0,
            ledger: Ledger::default(),
            wall_is_off: 0,
            applied_at: None,
            stamps: Stamps::default(),
            blank: 0,
            inbox: Vec::new(),
            matched: Vec::new(),
            unanswered: BTreeSet::new(),
            proposing: false,
            proposed_at: 0,
        }
    }

    fn newest(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |logged| logged.term), self.log.len())
    }

    /// The leadership that may decide: all that was decided before it is applied here.
    fn leadership(&self) -> Option<u64> {
        (self.leads && (self.blank < self.applied || !guard!("blank-entry-applied-first"))).then_some(self.term)
    }

    fn learns(&self) -> bool {
        self.commit < self.learns_up_to
    }

    fn step_down(&mut self, term: u64) {
        self.term = term;
        self.leads = false;
        self.inbox.clear();
    }

    pub(super) fn die(&mut self) {
        self.up = false;
        self.life += 1;
        self.leads = false;
        self.stamps = Stamps::default();
        self.inbox.clear();
        self.unanswered.clear();
        self.proposing = false;
    }
}

impl World {
    pub(super) fn leader(&self) -> Option<usize> {
        (0..self.voters.len())
            .filter(|v| self.voters[*v].leads && self.voters[*v].up)
            .max_by_key(|v| self.voters[*v].term)
    }

    /// Does a voter still remember a key?
    pub(super) fn is_charged(&self) -> bool {
        self.voters.iter().any(|voter| voter.ledger.is_charged())
    }

    /// Does it believe to lead?
    pub(super) fn leads(&self, voter: usize) -> bool {
        let state = &self.voters[voter];
        state.up && state.frozen_until <= self.now && state.leadership().is_some()
    }

    pub(super) fn is_reachable(&self, voter: usize) -> bool {
        let voter = &self.voters[voter];
        voter.up && !voter.cut && voter.frozen_until <= self.now
    }

    pub(super) fn batch(&mut self, voter: usize, batch: Rc<Batch>) {
        let state = &mut self.voters[voter];
        if !state.up || state.cut {
            return;
        }
        if state.leadership().is_none() {
            let (node, seq) = (node_of(batch.node), batch.seq);
            let life = self.nodes[node].life; // "Not me."
            self.transmit(|| Event::Deadline { node, life, seq });
            return;
        }
        let presses = batch.presses();
        state.inbox.push((state.raw.read(self.now), batch));
        if presses || !state.proposing {
            state.proposing = true;
            let life = state.life;
            let wait = self.random.below(if presses { 500 * MICRO } else { 20 * MILLI });
            self.after(wait, Event::Propose { voter, life });
        }
    }

    /// All nodes' batches of a commit round are one entry.
    pub(super) fn propose_batches(&mut self, voter: usize) {
        let state = &mut self.voters[voter];
        state.proposing = false;
        let oldest = oldest_decided(state.raw.read(self.now), Nanos(self.scenario.lease));
        let fresh = state.inbox.drain(..).filter(|(since, _)| *since >= oldest);
        let batches: Vec<Batch> = fresh.map(|(_, batch)| (*batch).clone()).collect();
        if !batches.is_empty() {
            self.propose(voter, Command::Batches(batches));
        }
    }

    pub(super) fn propose(&mut self, voter: usize, command: Command) {
        let now = self.now;
        let state = &mut self.voters[voter];
        let Some(leadership) = state.leadership() else { return };
        let dt = state.stamps.next(leadership, state.applied_at, state.raw.read(now));
        state.log.push(Logged { term: state.term, entry: Some(Rc::new(Entry { dt, command })), stamped: now });
        state.unanswered.insert(state.log.len() - 1);
        state.proposed_at = now;
        if !guard!("answered-after-the-commit") {
            self.answer_early(voter);
        }
        self.replicate(voter);
    }

    /// What the leader believes `apply` will say: the mutation gate's, no other.
    fn answer_early(&mut self, voter: usize) {
        let state = &self.voters[voter];
        let (mut guess, mut last) = (state.ledger.clone(), Outcome::default());
        for entry in state.log[state.applied..].iter().filter_map(|logged| logged.entry.as_ref()) {
            last = guess.apply(entry);
        }
        self.answer(voter, last);
    }

    fn replicate(&mut self, voter: usize) {
        if !self.voters[voter].up {
            return; // Killed as its answer left.
        }
        for to in 0..self.voters.len() {
            if to == voter || self.voters[voter].cut || self.voters[to].cut {
                continue;
            }
            let state = &self.voters[voter];
            let from = state.matched.get(to).copied().unwrap_or(0).min(state.log.len());
            let before = (from, if from == 0 { 0 } else { state.log[from - 1].term });
            let (entries, term, commit) = (state.log[from..].to_vec(), state.term, state.commit);
            self.transmit(|| Event::Append { voter: to, from: voter, term, before, entries: entries.clone(), commit });
        }
    }

    pub(super) fn append(
        &mut self,
        voter: usize,
        from: usize,
        term: u64,
        before: (usize, u64),
        entries: Vec<Logged>,
        commit: usize,
    ) {
        let state = &mut self.voters[voter];
        if !state.up || state.cut {
            return;
        }
        let (length, before_term) = before;
        let mut matched = None;
        if term >= state.term {
            if term > state.term {
                state.step_down(term);
            }
            let known = length == 0 || state.log.get(length - 1).is_some_and(|logged| logged.term == before_term);
            if known {
                let end = length + entries.len();
                for (at, logged) in (length..).zip(entries) {
                    if state.log.get(at).is_none_or(|mine| mine.term != logged.term) {
                        state.unanswered.retain(|index| *index < at);
                        state.log.truncate(at);
                        state.log.push(logged);
                    }
                }
                matched = Some(end);
                state.commit = state.commit.max(commit.min(end));
                if !state.learns() {
                    state.learns_up_to = 0; // A voter for good: after a restart its log has it all, whatever its snapshot.
                }
            } else {
                matched = Some(state.commit.min(length.saturating_sub(1)));
            }
        }
        let (term, disk) = (state.term, state.disk);
        self.transmit(|| Event::Ack { voter: from, from: (voter, disk), term, matched });
        self.apply(voter);
    }

    /// `from`: which voter, and on which of its disks.
    pub(super) fn acknowledged(&mut self, voter: usize, from: (usize, u32), term: u64, matched: Option<usize>) {
        let (from, disk) = from;
        if self.voters[from].disk != disk {
            return; // What that member had is gone with it.
        }
        let learns: Vec<bool> = self.voters.iter().map(Voter::learns).collect();
        let state = &mut self.voters[voter];
        if !state.up || state.cut {
            return;
        }
        if term > state.term {
            state.step_down(term);
        }
        let (true, Some(matched)) = (state.leads && term == state.term, matched) else { return };
        state.matched[from] = state.matched[from].max(matched);
        state.matched[voter] = state.log.len();
        let members = state.matched.iter().zip(learns);
        let mut matched: Vec<usize> = members.map(|(has, learns)| if learns { 0 } else { *has }).collect();
        matched.sort_unstable();
        let common = matched[(matched.len() - 1) / 2];
        if common > state.commit && state.log[common - 1].term == state.term {
            state.commit = common;
        }
        self.apply(voter);
    }

    pub(super) fn apply(&mut self, voter: usize) {
        if self.voters[voter].lags_until > self.now {
            return;
        }
        while self.voters[voter].up && self.voters[voter].applied < self.voters[voter].commit {
            let state = &mut self.voters[voter];
            let index = state.applied;
            let logged = state.log[index].clone();
            let mut outcome = Outcome::default();
            if let Some(entry) = &logged.entry {
                state.applied_at = Some(state.raw.read(self.now));
                outcome = state.ledger.apply(entry);
            }
            state.applied += 1;
            let mut print = print(&encode(&outcome));
            if self.history.len() == index {
                outcome.alerts.iter().for_each(|alert| self.oracle.told(alert));
            }
            let state = &mut self.voters[voter];
            if index.is_multiple_of(32) {
                let bytes = encode(&state.ledger);
                print ^= self::print(&bytes);
                if self.random.chance(0.3) {
                    state.snapshot = (saved(&state.ledger, bytes), state.applied);
                }
            }
            let answers = state.unanswered.remove(&index) && (state.leads || self.random.chance(0.5));
            self.compare(voter, index, logged, print);
            if answers {
                self.answer(voter, outcome);
            }
        }
    }

    /// Every voter applies the same entry with the same outcome to the same state.
    fn compare(&mut self, voter: usize, index: usize, logged: Logged, print: u64) {
        match self.history.get(index) {
            Some(first) if first.logged.is(&logged) && first.print == print => {}
            Some(_) => self.oracle.broken(format!("voter {voter} applied entry {index} otherwise than the first")),
            None => {
                if let Some(entry) = &logged.entry {
                    self.applied_first(entry, logged.stamped);
                }
                self.history.push(Applied { logged, print });
            }
        }
    }

    fn answer(&mut self, voter: usize, outcome: Outcome) {
        if self.voters[voter].cut {
            return;
        }
        let replied = !outcome.replies.is_empty();
        for reply in outcome.replies {
            let node = node_of(reply.node);
            let reply = Rc::new(reply);
            self.transmit(|| Event::Reply { node, reply: Rc::clone(&reply) });
        }
        for recall in outcome.recalls {
            let node = node_of(recall.node);
            self.transmit(|| Event::Recall { node, recall });
        }
        if replied && self.answers_leave_leader_dead {
            self.answers_leave_leader_dead = false;
            self.kill_voter(voter);
        }
    }

    pub(super) fn beat(&mut self, voter: usize, term: u64) {
        let state = &self.voters[voter];
        if !state.leads || state.term != term {
            return;
        }
        let (life, idle) = (state.life, self.now >= state.proposed_at + 200 * MILLI && state.ledger.is_charged());
        match idle {
            true if state.leadership().is_some() && guard!("idle-leader-ticks") => self.propose(voter, Command::Tick),
            _ => self.replicate(voter),
        }
        self.after(50 * MILLI, Event::Beat { voter, life, term });
    }

    /// Voters that hear nothing of a leader elect one.
    pub(super) fn watch(&mut self) {
        let wait = self.random.between(100, 700) * MILLI;
        self.after(wait, Event::Watch);
        if self.leader().is_none_or(|leader| !self.is_reachable(leader)) {
            self.elect();
        }
    }

    /// Whoever is as far as a majority of those who hear him, leads.
    pub(super) fn elect(&mut self) {
        let electable = self.electable();
        if !electable.is_empty() {
            let candidate = electable[self.random.index(electable.len())];
            self.enthrone(candidate);
        }
    }

    pub(super) fn elect_one(&mut self, voter: usize) {
        if self.electable().contains(&voter) {
            self.enthrone(voter);
        }
    }

    fn electable(&self) -> Vec<usize> {
        let present = self.present();
        let majority = self.voters.len() / 2 + 1;
        present.iter().copied().filter(|candidate| self.votes(*candidate).len() >= majority).collect()
    }

    fn present(&self) -> Vec<usize> {
        (0..self.voters.len()).filter(|voter| self.is_reachable(*voter) && !self.voters[*voter].learns()).collect()
    }

    /// Who would vote for it.
    fn votes(&self, candidate: usize) -> Vec<usize> {
        let newest = self.voters[candidate].newest();
        self.present().into_iter().filter(|voter| self.voters[*voter].newest() <= newest).collect()
    }

    fn enthrone(&mut self, candidate: usize) {
        let votes = self.votes(candidate);
        let term = self.voters.iter().map(|voter| voter.term).max().unwrap_or(0) + 1;
        for voter in votes {
            self.voters[voter].step_down(term);
        }
        let count = self.voters.len();
        let state = &mut self.voters[candidate];
        state.leads = true;
        self.leads_since = self.now;
        state.matched = vec![0; count];
        let life = state.life;
        state.blank = state.log.len();
        state.log.push(Logged { term, entry: None, stamped: self.now });
        state.proposed_at = self.now;
        self.after(50 * MILLI, Event::Beat { voter: candidate, life, term });
        self.replicate(candidate);
    }

    /// A voter's disk is gone. A new member takes its place, with nothing.
    pub(super) fn wipe_voter(&mut self, voter: usize) {
        if self.voters.iter().any(|other| !other.up || other.learns()) {
            return; // One at a time: what a majority has must not be lost.
        }
        let committed = self.voters.iter().map(|other| other.commit).max().unwrap_or(0);
        self.kill_voter(voter);
        self.voters.iter_mut().filter(|other| other.leads).for_each(|leader| leader.matched[voter] = 0);
        let state = &mut self.voters[voter];
        state.log.clear();
        (state.snapshot, state.ledger) = ((encode(&Ledger::default()), 0), Ledger::default());
        (state.commit, state.applied, state.applied_at) = (0, 0, None);
        (state.learns_up_to, state.disk) = (committed, state.disk + 1);
    }

    pub(super) fn kill_voter(&mut self, voter: usize) {
        if !self.voters[voter].up {
            return;
        }
        self.voters[voter].die();
        let wait = self.random.between(50, 4_000) * MILLI;
        self.after(wait, Event::RestartVoter { voter });
    }

    /// Back from disk: term, log, the last snapshot; what came after it is applied anew.
    pub(super) fn restart_voter(&mut self, voter: usize) {
        let state = &mut self.voters[voter];
        if state.up {
            return;
        }
        state.up = true;
        let (bytes, applied) = &state.snapshot;
        // What is restored was decided before: time from here on is new.
        state.applied_at = (*applied > 0).then(|| state.raw.read(self.now));
        state.applied = *applied;
        state.commit = *applied;
        let config = bincode::config::standard();
        state.ledger = bincode::serde::decode_from_slice(bytes, config).expect("it wrote this itself").0;
        if encode(&state.ledger) != *bytes {
            self.oracle.broken(format!("voter {voter} restored another ledger than it saved"));
        }
    }
}

fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("plain data")
}

/// A snapshot: the ledger as it is, `bytes`.
#[cfg(not(feature = "mutants"))]
fn saved(_: &Ledger, bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// A snapshot, without what the gate has turned off.
#[cfg(feature = "mutants")]
fn saved(ledger: &Ledger, _: Vec<u8>) -> Vec<u8> {
    encode(&ledger.maimed())
}

fn print(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}
