//! The cluster's opinion about sick endpoints: on the control leader, out of what nodes tell. No clock, no locks, no I/O.
//!
//! A breaker opens for all when a quorum of *observers* agrees (nodes that asked the endpoint since there is trouble):
//! more of them failing than not, at least two where three nodes or more live, and their failures together as many as
//! the first of them would have needed alone. Before it says so it asks everybody once more, so that healthy evidence
//! that nobody sent yet counts too. One node alone, lying or with a broken link, opens nothing for others.

use std::collections::BTreeMap;

use super::ruling::{Evidence, Place, Ruling, Stand, Verdict, What};

/// Evidence older than this says nothing about now.
const STALE: u64 = 10_000;
/// Between two questions about the same place.
const ASK_AGAIN: u64 = 250;
/// While nobody has requests for an open endpoint, who could probe is asked this often.
const IDLE_AGAIN: u64 = 1_000;
/// Cases kept; more places in trouble than this wait.
const MOST: usize = 4_096;
/// Failures that others than the first must have seen.
const CORROBORATION: u32 = 2;

/// How long things take, from the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After so many failed probes.
    pub open_for: u64,
    /// A probe that takes longer is given up.
    pub probe_for: u64,
    /// A breaker that opens again so soon after it closed continues its rounds.
    pub relapse: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Ask all live nodes about these, then call [`Judge::polled`].
    Poll(Vec<Place>),
    /// For the log.
    Rule(Vec<Verdict>),
}

#[derive(Debug, Default)]
pub struct Judge {
    cases: BTreeMap<Place, Case>,
}

#[derive(Debug, Default)]
struct Case {
    heard: BTreeMap<u64, (u64, Evidence)>,
    ruling: Ruling,
    /// Since when the ruling stands, as this leader knows.
    since: u64,
    /// When it closed, and the round it had then.
    closed: Option<(u64, u32)>,
    /// When everybody was last asked, and whether that was answered.
    asked: Option<u64>,
    answered: bool,
    /// A verdict on its way into the log.
    ruled: Option<(u64, u64)>,
    /// Who was permitted a probe last: the next one goes to another, if there is another.
    last_prober: u64,
}

impl Judge {
    /// What a node told, unasked or asked.
    pub fn hear(&mut self, node: u64, told: Vec<(Place, Evidence)>, now: u64) {
        for (place, evidence) in told {
            if self.cases.len() >= MOST && !self.cases.contains_key(&place) {
                continue;
            }
            self.cases.entry(place).or_default().heard.insert(node, (now, evidence));
        }
    }

    /// Everybody who answers has answered.
    pub fn polled(&mut self, places: &[Place]) {
        for place in places {
            if let Some(case) = self.cases.get_mut(place) {
                case.answered = true;
            }
        }
    }

    /// All that the log says; what it does not name is closed.
    pub fn all_ruled(&mut self, all: &[(Place, Ruling)], now: u64) {
        let unnamed = |place: &&Place| !all.iter().any(|(named, _)| named == *place);
        let closed: Vec<Place> = self.cases.keys().filter(unnamed).cloned().collect();
        for place in closed {
            self.ruled(&place, Ruling::default(), now);
        }
        for (place, ruling) in all {
            self.ruled(place, *ruling, now);
        }
    }

    /// Is a verdict about any of them in the log, or on its way?
    #[must_use]
    pub fn has_ruled(&self, places: &[Place]) -> bool {
        let ruled = |case: &Case| case.ruling.stand != Stand::Closed || case.ruled.is_some();
        places.iter().filter_map(|place| self.cases.get(place)).any(ruled)
    }

    /// What the log says of a place.
    pub fn ruled(&mut self, place: &Place, ruling: Ruling, now: u64) {
        if ruling.stand == Stand::Closed && !ruling.unhealthy && !self.cases.contains_key(place) {
            return;
        }
        let case = self.cases.entry(place.clone()).or_default();
        if case.ruling.epoch == ruling.epoch {
            return;
        }
        if let (Some(round), Stand::Closed) = (round(case.ruling.stand), ruling.stand) {
            case.closed = Some((now, round));
            case.heard.clear(); // What was told before concerns what was before.
        }
        (case.ruling, case.since, case.ruled) = (ruling, now, None);
        (case.asked, case.answered) = (None, false);
    }

    /// What is to be done now. `live`: the nodes that hold their lease. `timing`: `None` for places the document does
    /// not name, or has no breaker for.
    pub fn step(&mut self, live: &[u64], timing: &dyn Fn(&Place, u32) -> Option<Timing>, now: u64) -> Vec<Act> {
        let (mut poll, mut rule) = (Vec::new(), Vec::new());
        self.cases.retain(|_, case| {
            case.heard.retain(|node, (at, _)| live.contains(node) && now < *at + STALE);
            let kept = case.ruling.stand != Stand::Closed || case.ruling.unhealthy || !case.heard.is_empty();
            kept || case.closed.is_some_and(|(at, _)| now < at + 60_000)
        });
        for (place, case) in &mut self.cases {
            if case.ruled.is_some_and(|(epoch, at)| epoch == case.ruling.epoch && now < at + 2_000) {
                continue;
            }
            let next = match case.health(live.len()) {
                Some(what) => Next::Rule(what),
                None => case.next(place, live, timing, now),
            };
            match next {
                Next::Nothing => {}
                Next::Ask => {
                    (case.asked, case.answered) = (Some(now), false);
                    poll.push(place.clone());
                }
                Next::Rule(what) => {
                    case.ruled = Some((case.ruling.epoch, now));
                    if let What::Probe { node, .. } = what {
                        case.last_prober = node;
                    }
                    rule.push(Verdict { place: place.clone(), replaces: case.ruling.epoch, what });
                }
            }
        }
        let mut acts = Vec::new();
        if !poll.is_empty() {
            acts.push(Act::Poll(poll));
        }
        if !rule.is_empty() {
            acts.push(Act::Rule(rule));
        }
        acts
    }

    /// Is there anything to look at again without news?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.cases.is_empty()
    }
}

enum Next {
    Nothing,
    Ask,
    Rule(What),
}

impl Case {
    fn next(&self, place: &Place, live: &[u64], timing: &dyn Fn(&Place, u32) -> Option<Timing>, now: u64) -> Next {
        let round = round(self.ruling.stand).unwrap_or(0);
        let Some(timing) = timing(place, round) else {
            // The document has no breaker for it any more.
            return if self.ruling.stand == Stand::Closed { Next::Nothing } else { Next::Rule(What::Close) };
        };
        match self.ruling.stand {
            Stand::Closed => self.opens(live.len(), timing, now),
            Stand::Open { round } if now >= self.since + timing.open_for => self.probes(round, live, now),
            Stand::Open { .. } => Next::Nothing,
            Stand::HalfOpen { round, node } => self.probed(round, node, live, timing, now),
        }
    }

    /// Closed until now.
    fn opens(&self, live: usize, timing: Timing, now: u64) -> Next {
        if live < 2 {
            return Next::Nothing; // Alone, its own decision is all there is.
        }
        let asked_since = |at: u64| self.asked.is_some_and(|asked| asked >= at);
        let may_ask = self.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
        let first = self.heard.values().map(|(at, _)| *at).min();
        if !self.agreed(live) {
            // Whoever is asked knows that there is trouble, and counts what goes well from then on.
            let trouble = self.heard.values().any(|(_, told)| told.opened || told.streak > 0);
            return if trouble && !first.is_some_and(asked_since) && may_ask { Next::Ask } else { Next::Nothing };
        }
        if self.answered && self.asked.is_some_and(|asked| now < asked + ASK_AGAIN) {
            let relapse = self.closed.filter(|(at, _)| now < at + timing.relapse);
            return Next::Rule(What::Open { round: relapse.map_or(0, |(_, round)| round.saturating_add(1)) });
        }
        if self.asked.is_none_or(|asked| self.answered || now >= asked + ASK_AGAIN) { Next::Ask } else { Next::Nothing }
    }

    /// Does a quorum of observers say that it is sick?
    fn agreed(&self, live: usize) -> bool {
        let sick = |told: &Evidence| told.opened || told.streak > 0;
        let well = |told: &Evidence| !sick(told) && told.ok_since > 0;
        let told = || self.heard.values().map(|(_, told)| told);
        let (bad, good) = (told().filter(|t| sick(t)).count(), told().filter(|t| well(t)).count());
        let least = if live >= 3 { 2 } else { 1 };
        if bad < least || bad <= good {
            return false;
        }
        // The loudest voice counts once; the others must have seen something of their own.
        let streaks = || told().filter(|t| sick(t)).map(|t| t.streak);
        let loudest = streaks().max().unwrap_or(0);
        let all = streaks().fold(0_u32, u32::saturating_add);
        let others = all.saturating_sub(loudest);
        let needed = told().filter(|t| sick(t)).map(|t| t.alone).max().unwrap_or(u32::MAX);
        let one_is_sure = told().any(|t| t.opened) || all >= needed;
        let opened = told().filter(|t| t.opened).count();
        one_is_sure && (live < 3 || opened >= 2 || others >= CORROBORATION)
    }

    /// Open for long enough: who shall probe?
    fn probes(&self, round: u32, live: &[u64], now: u64) -> Next {
        if !self.answered {
            let again = self.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
            return if again { Next::Ask } else { Next::Nothing };
        }
        match self.prober(live) {
            Some(node) => Next::Rule(What::Probe { round, node }),
            None if self.asked.is_none_or(|asked| now >= asked + IDLE_AGAIN) => Next::Ask,
            None => Next::Nothing,
        }
    }

    /// The busiest node that honours the ruling; the last prober only if there is no other.
    fn prober(&self, live: &[u64]) -> Option<u64> {
        let may = |node: &u64, told: &Evidence| live.contains(node) && !told.vetoes && told.busy > 0;
        let candidates = self.heard.iter().filter(|(node, (_, told))| may(node, told));
        candidates.max_by_key(|(node, (_, told))| (**node != self.last_prober, told.busy)).map(|(node, _)| *node)
    }

    /// One node holds the permit.
    fn probed(&self, round: u32, node: u64, live: &[u64], timing: Timing, now: u64) -> Next {
        let told = self.heard.get(&node).map(|(_, told)| told);
        match told.and_then(|told| told.probed) {
            Some((epoch, true)) if epoch == self.ruling.epoch => return Next::Rule(What::Close),
            Some((epoch, false)) if epoch == self.ruling.epoch => {
                return Next::Rule(What::Open { round: round.saturating_add(1) });
            }
            _ => {}
        }
        let held = now.saturating_sub(self.since);
        if held >= timing.probe_for {
            return Next::Rule(What::Open { round: round.saturating_add(1) }); // No answer is an answer.
        }
        if live.contains(&node) && held < IDLE_AGAIN {
            return Next::Nothing;
        }
        // Its holder is gone, or has nothing to send: another may.
        if !self.answered || self.asked.is_none_or(|asked| now >= asked + IDLE_AGAIN) {
            let again = self.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
            return if again { Next::Ask } else { Next::Nothing };
        }
        let probing = live.contains(&node) && told.is_some_and(|told| told.probing);
        match self.prober(live).filter(|other| *other != node && !probing) {
            Some(other) => Next::Rule(What::Probe { round, node: other }),
            None => Next::Nothing,
        }
    }

    /// Most of those who check say the other thing than the ruling.
    fn health(&self, live: usize) -> Option<What> {
        let told = || self.heard.values().filter_map(|(_, told)| told.healthy);
        let (all, sick) = (told().count(), told().filter(|healthy| !healthy).count());
        if all == 0 || (live >= 2 && all < 2) {
            return None;
        }
        match (2 * sick > all, 2 * sick < all, self.ruling.unhealthy) {
            (true, _, false) => Some(What::Unhealthy),
            (_, true, true) => Some(What::Healthy),
            _ => None,
        }
    }
}

fn round(stand: Stand) -> Option<u32> {
    match stand {
        Stand::Closed => None,
        Stand::Open { round } | Stand::HalfOpen { round, .. } => Some(round),
    }
}

#[cfg(test)]
mod tests;
