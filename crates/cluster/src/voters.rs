//! Who should vote. Pure: the control leader's reconciler asks with what it sees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One member, as the control leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its node lease is kept.
    pub(crate) live: bool,
    /// Its node lease lapsed so long ago that somebody else should vote in its place.
    pub(crate) gone: bool,
    /// How long it was not heard of.
    pub(crate) silent: Duration,
    /// Its log is close to the leader's.
    pub(crate) caught_up: bool,
    /// It is about to leave.
    pub(crate) draining: bool,
}

impl Seen {
    fn can_vote(self) -> bool {
        self.live && self.caught_up && !self.draining
    }
}

/// The set of voters to converge to: 1, 3 or 5 of the members, by how many there are.
///
/// A voter that fails is replaced, never just dropped: fewer voters survive fewer failures. The number grows only in
/// whole steps, when enough members are alive and caught up; it shrinks when members leave.
pub(crate) fn desired(leader: u64, current: &BTreeSet<u64>, members: &BTreeMap<u64, Seen>) -> BTreeSet<u64> {
    let staying = members.values().filter(|seen| !seen.draining).count();
    let mut size = match staying {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    };
    let mut candidates: Vec<u64> =
        members.iter().filter(|(id, seen)| seen.can_vote() && !current.contains(id)).map(|(id, _)| *id).collect();
    candidates.reverse(); // The longest-standing member is taken first, by `pop`.

    // Voters that stay without question, then those that stay unless somebody better is there.
    let keep = |id: &&u64| members.get(*id).is_some_and(|seen| !seen.gone && !seen.draining) || **id == leader;
    let mut voters: BTreeSet<u64> =
        current.iter().filter(|id| members.contains_key(*id)).filter(keep).copied().collect();
    let doubtful: Vec<u64> =
        current.iter().filter(|id| members.contains_key(*id) && !voters.contains(*id)).copied().collect();

    let reachable = voters.len() + doubtful.len();
    if reachable < size && voters.len() + candidates.len() < size {
        // Not enough for a whole step up: keep the number there was, made odd.
        size = if reachable.is_multiple_of(2) { reachable.saturating_sub(1).max(1) } else { reachable };
    }
    while voters.len() < size {
        match candidates.pop() {
            Some(id) => voters.insert(id),
            None => break,
        };
    }
    for id in doubtful {
        // A draining voter without a successor may still go when the others are an odd quorum; a dead one stays.
        if voters.len() < size {
            voters.insert(id);
        }
    }
    while size < voters.len() {
        // Of equals the newest goes: `max_by_key` takes the last.
        let worst = voters.iter().filter(|id| **id != leader).max_by_key(|id| badness(members.get(*id)));
        match worst.copied() {
            Some(id) => voters.remove(&id),
            None => break,
        };
    }
    // A leader that leaves cannot drop itself: somebody must vote beside it, to whom it can hand over.
    if voters.len() == 1 && members.get(&leader).is_some_and(|seen| seen.draining) {
        voters.extend(candidates.pop());
    }
    voters
}

fn badness(seen: Option<&Seen>) -> u8 {
    seen.map_or(3, |seen| u8::from(!seen.live) * 2 + u8::from(seen.draining))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Seen = Seen { live: true, gone: false, silent: Duration::ZERO, caught_up: true, draining: false };
    const BEHIND: Seen = Seen { caught_up: false, ..UP };
    const GONE: Seen = Seen { live: false, gone: true, ..UP };
    const LAPSED: Seen = Seen { live: false, ..UP };
    const DRAINING: Seen = Seen { draining: true, ..UP };

    fn check(current: &[u64], members: &[(u64, Seen)], expected: &[u64]) {
        let current = current.iter().copied().collect();
        let members = members.iter().copied().collect();
        let expected: BTreeSet<u64> = expected.iter().copied().collect();
        assert_eq!(desired(1, &current, &members), expected);
    }

    #[test]
    fn voters_grow_in_whole_steps() {
        check(&[1], &[(1, UP)], &[1]);
        check(&[1], &[(1, UP), (2, UP)], &[1]);
        check(&[1], &[(1, UP), (2, UP), (3, BEHIND)], &[1]);
        check(&[1], &[(1, UP), (2, UP), (3, UP)], &[1, 2, 3]);
        check(&[1, 2, 3], &[(1, UP), (2, UP), (3, UP), (4, UP)], &[1, 2, 3]);
        check(&[1, 2, 3], &[(1, UP), (2, UP), (3, UP), (4, UP), (5, BEHIND)], &[1, 2, 3]);
        check(&[1, 2, 3], &[(1, UP), (2, UP), (3, UP), (4, UP), (5, UP)], &[1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_failed_voter_is_replaced_and_never_just_dropped() {
        check(&[1, 2, 3], &[(1, UP), (2, UP), (3, GONE)], &[1, 2, 3]);
        check(&[1, 2, 3], &[(1, UP), (2, UP), (3, LAPSED), (4, UP)], &[1, 2, 3]);
        check(&[1, 2, 3], &[(1, UP), (2, UP), (3, GONE), (4, UP)], &[1, 2, 4]);
        check(&[1, 2, 3], &[(1, UP), (2, UP), (3, GONE), (4, BEHIND)], &[1, 2, 3]);
    }

    #[test]
    fn voters_shrink_when_members_leave() {
        check(&[1, 2, 3], &[(1, UP), (2, UP)], &[1]);
        check(&[1, 2, 3], &[(1, UP), (2, UP), (4, UP)], &[1, 2, 4]);
        check(&[1, 2, 3, 4, 5], &[(1, UP), (2, UP), (3, UP), (4, UP)], &[1, 2, 3]);
        check(&[1, 2, 3, 4, 5], &[(1, UP), (2, UP), (3, GONE), (4, UP)], &[1, 2, 4]);
    }

    #[test]
    fn a_draining_voter_hands_over() {
        check(&[1, 2, 3], &[(1, UP), (2, UP), (3, DRAINING), (4, UP)], &[1, 2, 4]);
        check(&[1, 2, 3], &[(1, UP), (2, UP), (3, DRAINING)], &[1]);
        check(&[1, 2, 3, 4, 5], &[(1, UP), (2, UP), (3, UP), (4, DRAINING), (5, DRAINING)], &[1, 2, 3]);
        check(&[1], &[(1, DRAINING), (2, UP)], &[1, 2]);
        check(&[1], &[(1, DRAINING)], &[1]);
    }
}
