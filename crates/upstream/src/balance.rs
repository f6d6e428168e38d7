//! Which endpoint is asked. Pure but for the turn counter and the dice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tidegate_policy::Balance;

use crate::endpoint::Endpoint;
use crate::random;

/// Longest turn list; weights that would need a longer one are scaled down (to 1/8192 of the sum).
const LONGEST: u64 = 8_192;

/// An endpoint and its share.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) weight: u32,
    /// What the document says of its weight.
    pub(crate) documented: u32,
}

/// The members of an upstream, with the round robin's turns written out.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) all: Vec<Member>,
    turns: Vec<u32>,
    turn: AtomicUsize,
}

impl Members {
    pub(crate) fn new(all: Vec<Member>, balance: Balance) -> Self {
        let turns = match balance {
            Balance::RoundRobin if all.len() > 1 => turns(&all.iter().map(|m| m.weight).collect::<Vec<_>>()),
            _ => Vec::new(),
        };
        Self { all, turns, turn: AtomicUsize::new(0) }
    }

    /// An endpoint that was not tried and is not set aside; else one that is not set aside; else any, because asking
    /// a sick one is better than asking none. `now`: milliseconds of the endpoints' clock.
    pub(crate) fn pick(&self, balance: Balance, tried: &[Arc<Endpoint>], now: u64) -> Option<Arc<Endpoint>> {
        if let [only] = self.all.as_slice() {
            return (only.weight > 0).then(|| Arc::clone(&only.endpoint));
        }
        let fresh = |m: &Member| !tried.iter().any(|t| Arc::ptr_eq(t, &m.endpoint));
        let well = |m: &Member| !m.endpoint.is_ejected(now);
        let picked = self
            .draw(balance, &|m| well(m) && fresh(m))
            .or_else(|| self.draw(balance, &well))
            .or_else(|| self.draw(balance, &fresh))
            .or_else(|| self.draw(balance, &|_| true));
        picked.map(|member| Arc::clone(&member.endpoint))
    }

    fn draw(&self, balance: Balance, may: &dyn Fn(&Member) -> bool) -> Option<&Member> {
        match balance {
            Balance::RoundRobin => self.next_turn(may),
            Balance::Random => self.weighted(may),
            Balance::LeastRequest => self.less_loaded(may),
        }
    }

    fn next_turn(&self, may: &dyn Fn(&Member) -> bool) -> Option<&Member> {
        let length = self.turns.len();
        if length == 0 {
            return None;
        }
        // Who may not be asked loses its turn: else the one after it would have them all.
        let turns = || self.turn.fetch_add(1, Relaxed) % length;
        (0..length).map(|_| &self.all[self.turns[turns()] as usize]).find(|m| may(m))
    }

    fn weighted(&self, may: &dyn Fn(&Member) -> bool) -> Option<&Member> {
        let sum: u64 = self.all.iter().filter(|m| may(m)).map(|m| u64::from(m.weight)).sum();
        let mut left = random::below(sum);
        self.all.iter().filter(|m| may(m) && m.weight > 0).find(|m| {
            let weight = u64::from(m.weight);
            let found = left < weight;
            left = left.saturating_sub(weight);
            found
        })
    }

    /// Power of two choices; the first draw wins a tie, so that idle endpoints are used by weight.
    fn less_loaded(&self, may: &dyn Fn(&Member) -> bool) -> Option<&Member> {
        let one = self.weighted(may)?;
        let Some(two) = self.weighted(&|m| may(m) && !Arc::ptr_eq(&m.endpoint, &one.endpoint)) else {
            return Some(one);
        };
        let load = |m: &Member, other: &Member| m.endpoint.in_flight() as u64 * u64::from(other.weight);
        Some(if load(two, one) < load(one, two) { two } else { one })
    }
}

/// One cycle of smooth weighted round robin (as nginx does it): each gets its weight's share, spread out.
fn turns(weights: &[u32]) -> Vec<u32> {
    let mut weights: Vec<u64> = weights.iter().map(|w| u64::from(*w)).collect();
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    weights.iter_mut().for_each(|w| *w /= divisor);
    let sum: u64 = weights.iter().sum();
    if sum > LONGEST {
        weights.iter_mut().filter(|w| **w > 0).for_each(|w| *w = (*w * LONGEST / sum).max(1));
    }
    let sum: i64 = weights.iter().map(|w| w.cast_signed()).sum();
    let mut current = vec![0_i64; weights.len()];
    let mut order = Vec::new();
    for _ in 0..sum {
        for (c, w) in current.iter_mut().zip(&weights) {
            *c += w.cast_signed();
        }
        // The first of the greatest.
        let best = (0..current.len()).rev().max_by_key(|i| current[*i]).expect("a positive sum has a member");
        current[best] -= sum;
        order.push(u32::try_from(best).expect("fewer endpoints than 2^32"));
    }
    order
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u32], balance: Balance) -> Members {
        let all = weights.iter().enumerate().map(|(i, w)| Member {
            endpoint: Endpoint::for_test(&i.to_string()),
            weight: *w,
            documented: *w,
        });
        Members::new(all.collect(), balance)
    }

    fn counts(members: &Members, balance: Balance, draws: usize) -> Vec<usize> {
        let mut counts = vec![0; members.all.len()];
        for _ in 0..draws {
            let picked = members.pick(balance, &[], 0).unwrap();
            counts[picked.name().parse::<usize>().unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_is_smooth_and_exact() {
        assert_eq!(turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[2, 2]), [0, 1]);
        assert_eq!(turns(&[0, 3]), [1]);
        assert_eq!(counts(&members(&[5, 3, 2], Balance::RoundRobin), Balance::RoundRobin, 1000), [500, 300, 200]);
        assert!(turns(&[1_000_000, 999_999, 1]).len() <= 8_193);
    }

    #[test]
    fn the_share_of_those_set_aside_goes_to_all_others() {
        let members = members(&[1, 1, 2, 1, 1], Balance::RoundRobin);
        for out in [0, 1] {
            (0..3).for_each(|_| members.all[out].endpoint.connect_failed(0));
        }
        assert_eq!(counts(&members, Balance::RoundRobin, 400), [0, 0, 200, 100, 100]);
    }

    #[test]
    fn random_follows_the_weights() {
        let seen = counts(&members(&[3, 1, 0], Balance::Random), Balance::Random, 40_000);
        assert!((29_000..31_000).contains(&seen[0]), "{seen:?}");
        assert_eq!(seen[2], 0);
    }

    #[test]
    fn least_request_prefers_the_idle_one() {
        let members = members(&[1, 1], Balance::LeastRequest);
        let _busy = members.all[0].endpoint.begin();
        assert_eq!(counts(&members, Balance::LeastRequest, 100), [0, 100]);
    }

    #[test]
    fn least_request_weighs_the_load() {
        let members = members(&[10, 1], Balance::LeastRequest);
        let _nine: Vec<_> = (0..9).map(|_| members.all[0].endpoint.begin()).collect();
        let _one = members.all[1].endpoint.begin();
        assert_eq!(counts(&members, Balance::LeastRequest, 100), [100, 0], "9 / 10 is less than 1 / 1");
    }

    #[test]
    fn a_retry_goes_elsewhere_and_a_sick_one_is_asked_last() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::Random] {
            let members = members(&[1, 1, 1], balance);
            let [a, b, c] = [0, 1, 2].map(|i| Arc::clone(&members.all[i].endpoint));
            for _ in 0..3 {
                b.connect_failed(0);
            }
            for _ in 0..20 {
                let picked = members.pick(balance, &[Arc::clone(&a)], 0).unwrap();
                assert!(Arc::ptr_eq(&picked, &c), "{balance:?}");
            }
            let all = [a, b, c];
            assert!(members.pick(balance, &all, 0).is_some());
        }
    }

    #[test]
    fn no_weight_no_endpoint() {
        assert!(members(&[0, 0], Balance::RoundRobin).pick(Balance::RoundRobin, &[], 0).is_none());
        assert!(members(&[0, 0], Balance::Random).pick(Balance::Random, &[], 0).is_none());
        assert!(members(&[], Balance::LeastRequest).pick(Balance::LeastRequest, &[], 0).is_none());
    }
}
