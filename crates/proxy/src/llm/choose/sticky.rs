//! What belongs together goes to one deployment: rendezvous hashing of names, so that every node finds the same one without
//! a word, and a deployment that comes or goes moves no more than its share. Bounded: who carries more than so much of its
//! fair share is passed over (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads").

use siphasher::sip::SipHasher24;
use tidegate_llm::prefix;
use tidegate_policy::{Sticky, StickyBy};

use super::{Candidate, Chooser};
use crate::identify::Caller;

/// All nodes hash alike, now and after an upgrade.
const KEY: &[u8; 16] = b"tidegate sticky1";

/// By what the call sticks; `None`: it has none of it.
pub(super) fn key(chooser: &Chooser<'_, '_>, rules: &Sticky) -> Option<u64> {
    let body = &chooser.heard.body;
    let owner = chooser.caller.map_or("", |caller| caller.consumer.map_or("", |consumer| &consumer.name));
    rules.by.iter().find_map(|by| {
        let value: Vec<u8> = match by {
            StickyBy::Header(name) => chooser.headers.get(name)?.as_bytes().to_vec(),
            StickyBy::Claim(path) => {
                let values = chooser.caller.and_then(Caller::token)?.claims.counted(path).ok()??;
                values.join(",").into_bytes()
            }
            StickyBy::User => chooser.heard.peek.end_user.clone()?.into_bytes(),
            StickyBy::CacheKey => prefix::cache_key(body)?.into_bytes(),
            StickyBy::Consumer => owner.as_bytes().to_vec(),
            StickyBy::Key => chooser.caller?.key()?.0.to_be_bytes().to_vec(),
            StickyBy::Prompt => prefix::prefix(body),
        };
        (!value.is_empty()).then(|| SipHasher24::new_with_key(KEY).hash(&value))
    })
}

/// The one that the key falls to first, then the ones that it would fall to without it; who is too busy behind the others.
pub(super) fn ordered(equals: Vec<Candidate<'_>>, key: u64, load: u32) -> Vec<Candidate<'_>> {
    let weight = |candidate: &Candidate<'_>| f64::from(candidate.deployment.weight);
    let total: f64 = equals.iter().map(weight).sum();
    let calls = equals.iter().map(|candidate| candidate.known.in_flight()).sum::<u64>() + 1;
    let most = |candidate: &Candidate<'_>| {
        (calls as f64 * f64::from(load) / 100.0 * weight(candidate) / total.max(1.0)).ceil()
    };
    let mut ranked: Vec<(bool, f64, Candidate<'_>)> = equals
        .into_iter()
        .map(|candidate| {
            let busy = candidate.known.in_flight() as f64 + 1.0 > most(&candidate);
            (busy, rank(&candidate.known.id, weight(&candidate), key), candidate)
        })
        .collect();
    ranked.sort_by(|(busy, rank, _), (other_busy, other, _)| busy.cmp(other_busy).then(other.total_cmp(rank)));
    ranked.into_iter().map(|(_, _, candidate)| candidate).collect()
}

/// Weighted rendezvous hashing: the highest wins, as often as its weight is of all.
fn rank(id: &str, weight: f64, key: u64) -> f64 {
    let mut seed = id.as_bytes().to_vec();
    seed.extend_from_slice(&key.to_be_bytes());
    let hash = SipHasher24::new_with_key(KEY).hash(&seed);
    // 53 bits: a number between 0 and 1, neither included.
    let drawn = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    if weight > 0.0 { -weight / drawn.ln() } else { -1.0 / drawn }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn winner(ids: &[(&str, f64)], key: u64) -> usize {
        let best = ids.iter().enumerate().map(|(at, (id, weight))| (rank(id, *weight, key), at));
        best.max_by(|a, b| a.0.total_cmp(&b.0)).expect("some").1
    }

    #[test]
    fn keys_spread_by_weight_and_stay_when_another_deployment_goes() {
        let three = [("a/m", 1.0), ("b/m", 1.0), ("c/m", 2.0)];
        let mut counts = [0_u32; 3];
        let mut moved = 0;
        for key in 0..4_000_u64 {
            let before = winner(&three, key);
            counts[before] += 1;
            let after = winner(&three[..2], key);
            moved += u32::from(before < 2 && after != before);
        }
        assert!((900..1_100).contains(&counts[0]) && (1_850..2_150).contains(&counts[2]), "{counts:?}");
        assert_eq!(moved, 0, "only those of the one that went find another place");
    }

    #[test]
    fn who_has_no_weight_is_never_first() {
        assert!((0..1_000).all(|key| winner(&[("a/m", 0.0), ("b/m", 1.0)], key) == 1));
    }
}
