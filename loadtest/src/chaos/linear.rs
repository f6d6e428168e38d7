//! Is there an order in which these operations could have happened one after another, each between its call and its return? After
//! Wing and Gong (1993), with Lowe's memory of what was tried. Knows no HTTP and no clock: times are numbers.

use std::collections::HashSet;

/// What one value went through: `None` says that from this state the operation cannot have answered as it did.
pub(super) trait Model {
    type Operation;
    type State: Clone + Eq + std::hash::Hash;

    fn begin() -> Self::State;

    fn step(state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

#[derive(Debug, Clone)]
pub(super) struct Event<T> {
    pub(super) called: u64,
    /// `None`: nobody knows whether it happened, and it may happen at any time from now on.
    pub(super) returned: Option<u64>,
    pub(super) operation: T,
}

/// What was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    Linear,
    Illegal,
    /// Too much to try.
    Undecided,
}

/// States that are looked at before giving up.
const MOST: usize = 4_000_000;

/// What may be taken next: not yet taken, and called before everything that is not taken has returned. What is unknown need
/// never be taken.
pub(super) fn judge<M: Model>(history: &[Event<M::Operation>]) -> Judged {
    let mut order: Vec<usize> = (0..history.len()).collect();
    order.sort_by_key(|at| history[*at].called);
    let history: Vec<&Event<M::Operation>> = order.into_iter().map(|at| &history[at]).collect();
    let known = history.iter().filter(|event| event.returned.is_some()).count();
    let mut taken = Taken::none(history.len());
    let mut tried: HashSet<(Taken, M::State)> = HashSet::new();
    // Where we are, and what was taken to get there: what was tried at each place goes on after it.
    let mut path: Vec<(usize, M::State)> = Vec::new();
    let (mut state, mut from, mut done) = (M::begin(), 0, 0);
    loop {
        if done == known {
            return Judged::Linear;
        }
        match next::<M>(&history, &taken, &state, from) {
            Some((at, after)) => {
                taken.set(at, true);
                if tried.insert((taken.clone(), after.clone())) {
                    if tried.len() > MOST {
                        return Judged::Undecided;
                    }
                    done += usize::from(history[at].returned.is_some());
                    path.push((at, std::mem::replace(&mut state, after)));
                    from = 0;
                } else {
                    taken.set(at, false);
                    from = rank(&history, at) + 1;
                }
            }
            None => {
                let Some((at, before)) = path.pop() else { return Judged::Illegal };
                taken.set(at, false);
                done -= usize::from(history[at].returned.is_some());
                state = before;
                from = rank(&history, at) + 1;
            }
        }
    }
}

/// What is known is tried first: what is unknown may wait for ever.
fn rank<T>(history: &[&Event<T>], at: usize) -> usize {
    if history[at].returned.is_some() { at } else { history.len() + at }
}

fn next<M: Model>(
    history: &[&Event<M::Operation>],
    taken: &Taken,
    state: &M::State,
    from: usize,
) -> Option<(usize, M::State)> {
    let open = || (taken.first..history.len()).filter(|at| !taken.has(*at));
    // Nothing may be taken before what had returned when it was called.
    let mut ends = u64::MAX;
    for at in open() {
        if ends < history[at].called {
            break;
        }
        ends = ends.min(history[at].returned.unwrap_or(u64::MAX));
    }
    let may = || open().take_while(|at| history[*at].called <= ends).filter(|at| from <= rank(history, *at));
    let (known, unknown) = (may().filter(|at| history[*at].returned.is_some()), may());
    let unknown = unknown.filter(|at| history[*at].returned.is_none());
    known.chain(unknown).find_map(|at| Some((at, M::step(state, &history[at].operation)?)))
}

/// A set of positions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Taken {
    bits: Vec<u64>,
    /// All before it are in the set.
    first: usize,
}

impl Taken {
    fn none(count: usize) -> Self {
        Self { bits: vec![0; count.div_ceil(64)], first: 0 }
    }

    fn has(&self, at: usize) -> bool {
        self.bits[at / 64] >> (at % 64) & 1 == 1
    }

    fn set(&mut self, at: usize, is: bool) {
        if is {
            self.bits[at / 64] |= 1 << (at % 64);
            while self.first / 64 < self.bits.len() && self.has(self.first) {
                self.first += 1;
            }
        } else {
            self.bits[at / 64] &= !(1 << (at % 64));
            self.first = self.first.min(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::models::{Cas, Document, Read, Register};
    use super::*;

    fn check(expected: Judged, history: &[(u64, u64, Register)]) {
        let history: Vec<_> = history
            .iter()
            .map(|(called, returned, operation)| Event {
                called: *called,
                returned: (*returned > 0).then_some(*returned),
                operation: *operation,
            })
            .collect();
        assert_eq!(judge::<Register>(&history), expected);
    }

    /// A return of 0: unknown.
    use Register::{Get, Set};

    #[test]
    fn one_after_another_each_read_sees_the_last_write() {
        check(Judged::Linear, &[(1, 2, Set(7)), (3, 4, Get(7)), (5, 6, Set(8)), (7, 8, Get(8))]);
        check(Judged::Illegal, &[(1, 2, Set(7)), (3, 4, Set(8)), (5, 6, Get(7))]);
        check(Judged::Illegal, &[(1, 2, Set(7)), (3, 4, Get(0))]);
    }

    #[test]
    fn what_runs_at_the_same_time_may_have_either_order_but_one_for_everybody() {
        check(Judged::Linear, &[(1, 9, Set(7)), (2, 3, Get(0)), (4, 5, Get(7))]);
        check(Judged::Illegal, &[(1, 9, Set(7)), (2, 3, Get(7)), (4, 5, Get(0))]);
        check(Judged::Linear, &[(1, 9, Set(7)), (1, 9, Set(8)), (2, 8, Get(7)), (10, 11, Get(8))]);
        check(Judged::Illegal, &[(1, 4, Set(7)), (1, 4, Set(8)), (5, 6, Get(7)), (7, 8, Get(8))]);
    }

    #[test]
    fn what_is_unknown_happened_late_or_never_but_not_before_it_was_asked_for() {
        check(Judged::Linear, &[(1, 0, Set(7)), (2, 3, Get(0)), (4, 5, Get(0))]);
        check(Judged::Linear, &[(1, 0, Set(7)), (2, 3, Get(0)), (90, 91, Get(7))]);
        check(Judged::Illegal, &[(1, 2, Get(7)), (3, 0, Set(7))]);
        check(Judged::Illegal, &[(1, 0, Set(7)), (2, 3, Get(7)), (4, 5, Get(0))]);
        check(Judged::Illegal, &[(1, 0, Set(7)), (2, 3, Get(7)), (4, 5, Set(8)), (6, 7, Get(7))]);
    }

    #[test]
    fn many_unknown_writes_are_no_burden_and_a_stale_read_is_found_among_them() {
        let mut history: Vec<_> = (0..40).map(|nth| (nth + 1, 0, Set(nth + 100))).collect();
        history.extend([(50, 51, Set(7)), (52, 53, Get(7)), (54, 55, Get(120)), (56, 57, Get(139))]);
        check(Judged::Linear, &history);
        let short: Vec<_> = history.iter().copied().filter(|(_, end, _)| *end > 0).chain([(1, 0, Set(120))]).collect();
        check(Judged::Illegal, &short);
    }

    fn documents(expected: Judged, history: &[(u64, u64, Document)]) {
        let history: Vec<_> = history
            .iter()
            .map(|(called, returned, operation)| Event {
                called: *called,
                returned: (*returned > 0).then_some(*returned),
                operation: operation.clone(),
            })
            .collect();
        assert_eq!(judge::<Document>(&history), expected);
    }

    fn cas(expects: u64, text: u64, was: Cas) -> Document {
        Document::Cas { expects, text, was }
    }

    fn get(revision: u64, text: u64) -> Document {
        Document::Get(Read { revision, text })
    }

    #[test]
    fn of_two_that_replace_the_same_revision_one_wins() {
        documents(
            Judged::Linear,
            &[(1, 2, get(0, 0)), (3, 6, cas(0, 11, Cas::Done)), (3, 6, cas(0, 12, Cas::Refused)), (7, 8, get(1, 11))],
        );
        documents(Judged::Illegal, &[(3, 6, cas(0, 11, Cas::Done)), (3, 6, cas(0, 12, Cas::Done))]);
        documents(Judged::Illegal, &[(1, 2, cas(0, 11, Cas::Refused)), (3, 4, get(0, 0))]);
        documents(Judged::Illegal, &[(1, 2, cas(0, 11, Cas::Done)), (3, 4, get(1, 12))]);
    }

    #[test]
    fn a_publication_that_nobody_heard_of_explains_the_revision_after_it() {
        documents(
            Judged::Linear,
            &[(1, 0, cas(0, 11, Cas::Unknown)), (2, 3, cas(1, 12, Cas::Done)), (4, 5, get(2, 12))],
        );
        documents(Judged::Illegal, &[(2, 3, cas(1, 12, Cas::Done)), (4, 5, get(2, 12))]);
        documents(
            Judged::Illegal,
            &[(1, 0, cas(0, 11, Cas::Unknown)), (2, 3, get(0, 0)), (4, 5, get(1, 11)), (6, 7, get(0, 0))],
        );
    }
}
