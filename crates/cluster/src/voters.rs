//! Who should vote. Pure: the control leader's reconciler asks with what it sees.
//!
//! Nodes say which zone they are in, or nothing; those that say nothing are taken for one zone. Voters are spread over zones
//! as evenly as members allow, so that with three zones or more none holds a majority.

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
/// whole steps, when enough members are alive and caught up; it shrinks when members leave. A voter moves to another zone
/// when that spreads them better, one at a time, and only while all of them are well.
pub(crate) fn desired(
    leader: u64,
    current: &BTreeSet<u64>,
    members: &BTreeMap<u64, Seen>,
    zones: &Zones,
) -> BTreeSet<u64> {
    let mut size = zones.size(members.iter().filter(|(_, seen)| !seen.draining).map(|(id, _)| *id));
    let mut candidates: BTreeSet<u64> =
        members.iter().filter(|(id, seen)| seen.can_vote() && !current.contains(id)).map(|(id, _)| *id).collect();

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
        match zones.fittest(&mut candidates, &voters) {
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
        // Of equals the one in the fullest zone goes, and of those the newest: `max_by_key` takes the last.
        let badness = |id: &&u64| (badness(members.get(*id)), zones.load(**id, &voters));
        let worst = voters.iter().filter(|id| **id != leader).max_by_key(badness);
        match worst.copied() {
            Some(id) => voters.remove(&id),
            None => break,
        };
    }
    // A leader that leaves cannot drop itself: somebody must vote beside it, to whom it can hand over.
    if voters.len() == 1 && members.get(&leader).is_some_and(|seen| seen.draining) {
        voters.extend(zones.fittest(&mut candidates, &voters));
    }
    if voters == *current && current.iter().all(|id| members.get(id).is_some_and(|seen| seen.can_vote())) {
        zones.spread(leader, &mut voters, &candidates);
    }
    voters
}

/// Which zone each node says it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Zones(pub(crate) BTreeMap<u64, String>);

impl Zones {
    fn of(&self, id: u64) -> &str {
        self.0.get(&id).map_or("", String::as_str)
    }

    /// How many voters there are in its zone, itself among them if it is one.
    fn load(&self, id: u64, voters: &BTreeSet<u64>) -> usize {
        voters.iter().filter(|voter| self.of(**voter) == self.of(id)).count()
    }

    /// How many of these should vote: fewer where more would give one zone a majority, and fewer would not. While some say no
    /// zone, nobody knows.
    fn size(&self, members: impl Iterator<Item = u64>) -> usize {
        let (mut all, mut in_zone) = (0, BTreeMap::<&str, usize>::new());
        for id in members {
            all += 1;
            *in_zone.entry(self.of(id)).or_default() += 1;
        }
        let size = match all {
            0..=2 => 1,
            3..=4 => 3,
            _ => 5,
        };
        let fits = |size: &usize| size <= &in_zone.values().map(|count| *count.min(&(size / 2))).sum::<usize>();
        let all_say = !in_zone.contains_key("");
        [5, 3].into_iter().filter(|fewer| all_say && *fewer <= size).find(fits).unwrap_or(size)
    }

    /// Takes the candidate whose zone has the fewest voters; of equals the longest-standing.
    fn fittest(&self, candidates: &mut BTreeSet<u64>, voters: &BTreeSet<u64>) -> Option<u64> {
        let fittest = candidates.iter().copied().min_by_key(|id| self.load(*id, voters))?;
        candidates.take(&fittest)
    }

    /// One voter of the fullest zone for a candidate of an emptier one, if the two zones are more even then. Each such step makes
    /// the sum of the squares of all loads smaller: there is an end of it.
    fn spread(&self, leader: u64, voters: &mut BTreeSet<u64>, candidates: &BTreeSet<u64>) {
        let full = voters.iter().copied().filter(|id| *id != leader).max_by_key(|id| self.load(*id, voters));
        let empty = candidates.iter().copied().min_by_key(|id| self.load(*id, voters));
        let (Some(full), Some(empty)) = (full, empty) else { return };
        if self.load(empty, voters) + 1 < self.load(full, voters) {
            voters.remove(&full);
            voters.insert(empty);
        }
    }
}

fn badness(seen: Option<&Seen>) -> u8 {
    seen.map_or(3, |seen| u8::from(!seen.live) * 2 + u8::from(seen.draining))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(desired(1, &current, &members, &Zones::default()), expected);
    }

    /// `zones`: a letter for each node from 1 on; all are up.
    fn check_zones(zones: &str, current: &[u64], expected: &[u64]) {
        let zones = Zones((1..).zip(zones.chars().map(String::from)).collect());
        let members = zones.0.keys().map(|id| (*id, UP)).collect();
        let expected: BTreeSet<u64> = expected.iter().copied().collect();
        assert_eq!(desired(1, &current.iter().copied().collect(), &members, &zones), expected, "{zones:?}");
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

    #[test]
    fn voters_are_spread_over_zones() {
        check_zones("aaabc", &[1], &[1, 4, 5]); // Five of them would give `a` a majority.
        check_zones("aabbc", &[1], &[1, 2, 3, 4, 5]);
        check_zones("aabbcc", &[1], &[1, 2, 3, 4, 5]);
        check_zones("aaabbc", &[1, 2, 3, 4, 5], &[1, 2, 4, 5, 6]);
        check_zones("aabc", &[1, 2, 3], &[1, 3, 4]);
        check_zones("aaab", &[1, 2, 3], &[1, 2, 4]); // Two zones: one of them holds a majority, whatever is done.
        check_zones("aaaab", &[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]);
        check_zones("aaabbb", &[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]);
    }

    #[test]
    fn nobody_moves_while_a_voter_is_not_well_and_who_takes_its_place_is_of_an_empty_zone() {
        let zones = Zones((1..).zip("abbca".chars().map(String::from)).collect());
        let wanted = |third: Seen| {
            let members = [(1, UP), (2, UP), (3, third), (4, UP)].into();
            desired(1, &[1, 2, 3].into(), &members, &zones)
        };
        assert_eq!(wanted(LAPSED), [1, 2, 3].into());
        assert_eq!(wanted(GONE), [1, 2, 4].into());
        assert_eq!(wanted(UP), [1, 2, 4].into());
    }

    fn any_cluster() -> impl Strategy<Value = (BTreeMap<u64, Seen>, Zones, BTreeSet<u64>)> {
        let seen =
            prop_oneof![4 => Just(UP), 1 => Just(BEHIND), 1 => Just(GONE), 1 => Just(LAPSED), 1 => Just(DRAINING)];
        let node = (seen, prop_oneof![9 => "[abcd]", 1 => ""], any::<bool>());
        proptest::collection::vec(node, 0..10).prop_map(|nodes| {
            let (mut members, mut current) = ([(1, UP)].into(), [1].into());
            let mut zones = Zones([(1, "a".to_owned())].into());
            for (id, (seen, zone, votes)) in (2..).zip(nodes) {
                BTreeMap::insert(&mut members, id, seen);
                zones.0.insert(id, zone);
                if votes && BTreeSet::len(&current) < 5 {
                    current.insert(id);
                }
            }
            (members, zones, current)
        })
    }

    fn well(members: &BTreeMap<u64, Seen>) -> BTreeMap<u64, Seen> {
        members.keys().map(|id| (*id, UP)).collect()
    }

    proptest! {
        #[test]
        fn it_ends_and_stays((members, zones, current) in any_cluster()) {
            let mut voters = current;
            for _ in 0..16 {
                voters = desired(1, &voters, &members, &zones);
            }
            prop_assert_eq!(desired(1, &voters, &members, &zones), voters);
        }

        #[test]
        fn where_all_are_well_no_zone_of_three_holds_a_majority((members, zones, current) in any_cluster()) {
            let members = well(&members);
            let mut voters = current;
            for _ in 0..16 {
                voters = desired(1, &voters, &members, &zones);
            }
            let names: BTreeSet<&str> = members.keys().map(|id| zones.of(*id)).collect();
            let fullest = voters.iter().map(|id| zones.load(*id, &voters)).max().unwrap_or_default();
            prop_assert!(voters.len() % 2 == 1);
            if 3 <= names.len() && !names.contains("") {
                prop_assert!(3 <= voters.len() && fullest <= voters.len() / 2, "{:?} of {:?}", voters, zones);
            }
        }

        #[test]
        fn at_most_one_voter_moves_while_nothing_is_wrong((members, zones, current) in any_cluster()) {
            let members = well(&members);
            let wanted = desired(1, &current, &members, &zones);
            let (left, came) = (current.difference(&wanted).count(), wanted.difference(&current).count());
            prop_assert!(left == 0 || came == 0 || (left, came) == (1, 1), "{:?} → {:?}", current, wanted);
        }

        #[test]
        fn only_who_can_vote_is_made_a_voter((members, zones, current) in any_cluster()) {
            for id in desired(1, &current, &members, &zones).difference(&current) {
                prop_assert!(members[id].can_vote());
            }
        }
    }
}
