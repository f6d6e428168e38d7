//! Connections of those who are no members yet: few at a time, fewer from one place, so that nobody who only sits there
//! keeps others from joining.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// Strangers at a time.
const MOST: usize = 256;
/// Of one address, or of one IPv6 network: a whole rack may join from behind one translator.
const MOST_OF_ONE: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Strangers(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// A stranger's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    strangers: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    from: IpAddr,
}

impl Strangers {
    /// `None`: there are too many already.
    pub(crate) fn enter(&self, from: IpAddr) -> Option<Place> {
        let from = network(from);
        let mut inside = self.0.lock().expect("no panic while locked");
        if inside.values().sum::<usize>() >= MOST {
            return None;
        }
        let count = inside.entry(from).or_default();
        if *count >= MOST_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place { strangers: self.0.clone(), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.strangers.lock().expect("no panic while locked");
        if let Some(count) = inside.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.from);
            }
        }
    }
}

/// Whoever has an IPv6 address has the 64 bits below it as well.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places_and_gets_its_own_back() {
        let strangers = Strangers::default();
        let [silent, other]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let mut places: Vec<_> = (0..MOST_OF_ONE).map(|_| strangers.enter(silent).expect("room")).collect();
        assert!(strangers.enter(silent).is_none());
        assert!(strangers.enter(other).is_some());
        places.pop();
        assert!(strangers.enter(silent).is_some());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_all_together_are_bounded() {
        let strangers = Strangers::default();
        let at = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let places: Vec<_> = (0..100).filter_map(|host| strangers.enter(at(1, host))).collect();
        assert_eq!(places.len(), MOST_OF_ONE);
        let others: Vec<_> = (2..1000).filter_map(|network| strangers.enter(at(network, 1))).collect();
        assert_eq!(places.len() + others.len(), MOST);
    }
}
