//! Places at the admin port: so many for everybody, and of these so many for one address, so that one stranger who takes all that he
//! can get keeps nobody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::failures::neighbour;

/// Connections, or handshakes, at once.
const ALL: usize = 512;
/// Of these for one address. Whoever stands behind a proxy or a balancer shares one.
const EACH: usize = 128;

#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Who has none is not in it, so there are never more than [`ALL`].
    each: HashMap<IpAddr, usize>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    whose: IpAddr,
}

impl Places {
    /// `None`: all are taken, or all that this address may have.
    #[must_use]
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let whose = neighbour(address);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has = taken.each.get(&whose).copied().unwrap_or(0);
        if ALL <= taken.all || EACH <= has {
            return None;
        }
        taken.all += 1;
        taken.each.insert(whose, has + 1);
        Some(Place { places: self.clone(), whose })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        let left = taken.each.get(&self.whose).map_or(0, |has| has.saturating_sub(1));
        if left == 0 {
            taken.each.remove(&self.whose);
        } else {
            taken.each.insert(self.whose, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn one_address_leaves_places_for_others_and_what_is_given_back_is_there_again() {
        let places = Places::default();
        let mut of_one: Vec<_> = std::iter::from_fn(|| places.take(address(1))).collect();
        assert_eq!(of_one.len(), EACH);
        assert!(places.take(address(2)).is_some());
        of_one.pop();
        assert!(places.take(address(1)).is_some());
        drop(of_one);
        assert!(places.0.lock().unwrap().each.is_empty(), "nothing is kept of who has none");
    }

    #[test]
    fn all_together_have_no_more_than_there_are() {
        let places = Places::default();
        let held: Vec<_> = (0..2_000).filter_map(|n| places.take(address(n))).collect();
        assert_eq!(held.len(), ALL);
        assert_eq!(places.0.lock().unwrap().each.len(), ALL);
    }
}
