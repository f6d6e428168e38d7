//! What the cluster holds of endpoints: verdicts count once, and only where nothing changed since they were made.

#![allow(clippy::unwrap_used)]

use tidegate_model::{Millis, NodeId};
use tidegate_state::endpoints::{Breaker, Place, Ruling, Set, Verdict, What};
use tidegate_state::{Change, Command, Outcome, Proposal, RequestId, State};

fn place(endpoint: &str) -> Place {
    Place { upstream: "users".into(), endpoint: endpoint.into() }
}

fn apply(state: &mut State, command: Command) -> (Outcome, Vec<Change>) {
    let request = RequestId(u128::from(state.endpoints.epoch()) << 64 | u128::from(state.now().0 + 1));
    let at = Millis(state.now().0 + 1);
    state.apply(0, &Proposal { request, at, command, by: None })
}

fn judge(state: &mut State, replaces: u64, what: What) -> bool {
    let verdict = Verdict { place: place("a:80"), replaces, what };
    apply(state, Command::JudgeEndpoints(vec![verdict])).1 == [Change::Endpoints]
}

fn ruling(state: &State) -> Option<Ruling> {
    state.endpoints.ruling(&place("a:80")).copied()
}

#[test]
fn a_verdict_on_an_older_ruling_is_void() {
    let mut state = State::default();
    assert!(judge(&mut state, 0, What::Breaker(Breaker::Open { round: 0 })));
    let opened = ruling(&state).unwrap();
    assert!(!judge(&mut state, 0, What::Breaker(Breaker::Open { round: 5 })), "two judges: the first one counts");
    assert!(judge(&mut state, opened.epoch, What::Breaker(Breaker::HalfOpen { round: 0, node: NodeId(2) })));
    let permitted = ruling(&state).unwrap();
    assert!(permitted.epoch > opened.epoch);
    assert!(!judge(&mut state, opened.epoch, What::Breaker(Breaker::Closed)), "the answer to an older permit");
    assert_eq!(ruling(&state), Some(permitted));
}

#[test]
fn what_is_as_the_document_says_is_not_kept() {
    let mut state = State::default();
    assert!(judge(&mut state, 0, What::Breaker(Breaker::Open { round: 0 })));
    assert!(judge(&mut state, 1, What::Unhealthy(true)));
    assert!(judge(&mut state, 2, What::Breaker(Breaker::Closed)));
    assert!(ruling(&state).unwrap().unhealthy);
    assert!(judge(&mut state, 3, What::Unhealthy(false)));
    assert_eq!((ruling(&state), state.endpoints.epoch()), (None, 4));
}

#[test]
fn weights_and_drains_outlive_verdicts() {
    let mut state = State::default();
    let set = |state: &mut State, set| apply(state, Command::SetEndpoint { place: place("a:80"), set });
    assert_eq!(set(&mut state, Set::Weight(Some(70_000))).0, Outcome::TooLarge { limit: 65_535 });
    assert_eq!(set(&mut state, Set::Weight(Some(7))).1, [Change::Endpoints]);
    assert_eq!(set(&mut state, Set::Weight(Some(7))).1, [], "twice is once");
    set(&mut state, Set::Drained(true));
    let epoch = ruling(&state).unwrap().epoch;
    judge(&mut state, epoch, What::Breaker(Breaker::Open { round: 0 }));
    let found = ruling(&state).unwrap();
    assert_eq!((found.weight, found.drained, found.breaker), (Some(7), true, Breaker::Open { round: 0 }));
    judge(&mut state, found.epoch, What::Breaker(Breaker::Closed));
    set(&mut state, Set::Weight(None));
    set(&mut state, Set::Drained(false));
    assert_eq!(ruling(&state), None);
}

#[test]
fn endless_names_and_endless_lists_are_refused() {
    let mut state = State::default();
    let long = Place { upstream: "u".repeat(257), endpoint: "a:80".into() };
    let command = Command::SetEndpoint { place: long, set: Set::Drained(true) };
    assert!(matches!(apply(&mut state, command).0, Outcome::TooLarge { .. }));
    let what = What::Breaker(Breaker::Open { round: 0 });
    let verdict = |i: u32| Verdict { place: place(&format!("{i}:80")), replaces: 0, what };
    apply(&mut state, Command::JudgeEndpoints((0..25_000).map(verdict).collect()));
    assert_eq!(state.endpoints.rulings().count(), 20_000);
    let command = Command::SetEndpoint { place: place("new:80"), set: Set::Drained(true) };
    assert_eq!(apply(&mut state, command).0, Outcome::Full);
}
