//! One shard: slots by key, the queues that decide who goes, and an index by URL.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;
use tidegate_model::Millis;

use super::Found;
use crate::rules::key::{KeyDigest, UrlDigest};
use crate::stored::Stored;

/// What a slot, its place in a queue, in the index and among the ghosts takes, with the slack of their tables.
pub(super) const SLOT: usize = 512;
/// Newcomers may hold a tenth of the bytes.
const SMALL: usize = 10;
const MOST: u8 = 3;

#[derive(Debug, Default)]
pub(super) struct Shard {
    slots: HashMap<KeyDigest, Slot, foldhash::fast::RandomState>,
    by_url: HashMap<UrlDigest, SmallVec<[KeyDigest; 1]>, foldhash::fast::RandomState>,
    small: Queue,
    main: Queue,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64, foldhash::fast::RandomState>,
    births: u64,
}

#[derive(Debug)]
struct Slot {
    /// Oldest first. Never empty.
    variants: SmallVec<[Arc<Stored>; 1]>,
    url: UrlDigest,
    weight: usize,
    asked_for: AtomicU8,
    in_main: bool,
    /// Tells this slot from an earlier one of its key in the queues.
    born: u64,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<(KeyDigest, u64)>,
    bytes: usize,
}

/// What went, to be dropped when no lock is held.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) weight: usize,
    pub(super) stored: SmallVec<[Arc<Stored>; 1]>,
}

impl Shard {
    pub(super) fn find(&self, key: &KeyDigest, request: &HeaderMap, now: Millis) -> Found {
        let Some(slot) = self.slots.get(key) else { return Found::Nothing };
        let useful = |stored: &&Arc<Stored>| stored.terms.age(now) < stored.terms.keep;
        match slot.variants.iter().rev().filter(useful).find(|stored| stored.selector.matches(request)) {
            Some(stored) => {
                let count = slot.asked_for.load(Ordering::Relaxed);
                if count < MOST {
                    slot.asked_for.store(count + 1, Ordering::Relaxed);
                }
                Found::This(Arc::clone(stored))
            }
            None if slot.variants.iter().any(|stored| useful(&stored)) => Found::Others,
            None => Found::Nothing,
        }
    }

    pub(super) fn varies_by(&self, key: &KeyDigest) -> Option<Vec<HeaderName>> {
        let newest = self.slots.get(key)?.variants.last()?;
        Some(newest.selector.fields().iter().map(|(name, _)| name.clone()).collect())
    }

    /// `false`: what is there was fetched later.
    pub(super) fn insert(&mut self, stored: Arc<Stored>, variants: usize) -> (bool, Gone) {
        let key = stored.key.key;
        let weight = stored.weight() + SLOT;
        let mut gone = Gone::default();
        let Some(slot) = self.slots.get_mut(&key) else {
            self.admit(stored, weight);
            return (true, gone);
        };
        if let Some(at) = slot.variants.iter().position(|known| known.selector == stored.selector) {
            if slot.variants[at].asked > stored.asked {
                return (false, gone);
            }
            gone.take(slot.variants.remove(at));
        }
        while slot.variants.len() >= variants {
            gone.take(slot.variants.remove(0));
        }
        slot.variants.push(stored);
        slot.weight = slot.weight + weight - gone.weight;
        let queue = if slot.in_main { &mut self.main } else { &mut self.small };
        queue.bytes = queue.bytes + weight - gone.weight;
        (true, gone)
    }

    fn admit(&mut self, stored: Arc<Stored>, weight: usize) {
        let (key, url) = (stored.key.key, stored.key.url);
        self.births += 1;
        let born = self.births;
        let in_main = self.ghost_set.remove(&ghost(&key));
        let queue = if in_main { &mut self.main } else { &mut self.small };
        queue.order.push_back((key, born));
        queue.bytes += weight;
        let asked_for = AtomicU8::new(0);
        self.slots.insert(key, Slot { variants: smallvec::smallvec![stored], url, weight, asked_for, in_main, born });
        self.by_url.entry(url).or_default().push(key);
        self.tidy();
    }

    /// One slot goes, the one least worth keeping. Nothing goes from an empty shard.
    pub(super) fn evict(&mut self) -> Gone {
        loop {
            let from_small = self.small.bytes * SMALL > self.small.bytes + self.main.bytes || self.main.bytes == 0;
            let queue = if from_small { &mut self.small } else { &mut self.main };
            let Some((key, born)) = queue.order.pop_front() else {
                if self.slots.is_empty() {
                    return Gone::default();
                }
                continue; // The other queue holds them.
            };
            let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.born == born) else { continue };
            let asked_for = slot.asked_for.get_mut();
            match (from_small, *asked_for) {
                (true, 0 | 1) => {
                    self.haunt(&key);
                    return self.remove(&key);
                }
                (false, 0) => return self.remove(&key),
                (true, _) => {
                    *asked_for = 0;
                    slot.in_main = true;
                    self.small.bytes -= slot.weight;
                    self.main.bytes += slot.weight;
                    self.main.order.push_back((key, born));
                }
                (false, _) => {
                    *asked_for -= 1;
                    self.main.order.push_back((key, born));
                }
            }
        }
    }

    pub(super) fn remove(&mut self, key: &KeyDigest) -> Gone {
        let mut gone = Gone::default();
        let Some(slot) = self.slots.remove(key) else { return gone };
        let queue = if slot.in_main { &mut self.main } else { &mut self.small };
        queue.bytes -= slot.weight;
        if let Some(keys) = self.by_url.get_mut(&slot.url) {
            keys.retain(|known| known != key);
            if keys.is_empty() {
                self.by_url.remove(&slot.url);
            }
        }
        gone.weight = slot.weight;
        gone.stored = slot.variants;
        gone
    }

    pub(super) fn remove_url(&mut self, url: UrlDigest) -> (Vec<KeyDigest>, Gone) {
        let keys: Vec<KeyDigest> = self.by_url.get(&url).into_iter().flatten().copied().collect();
        let mut all = Gone::default();
        for key in &keys {
            let gone = self.remove(key);
            all.weight += gone.weight;
            all.stored.extend(gone.stored);
        }
        self.tidy();
        (keys, all)
    }

    pub(super) fn remove_stored(&mut self, stored: &Arc<Stored>) -> Gone {
        let key = stored.key.key;
        let mut gone = Gone::default();
        let Some(slot) = self.slots.get_mut(&key) else { return gone };
        let Some(at) = slot.variants.iter().position(|known| Arc::ptr_eq(known, stored)) else { return gone };
        if slot.variants.len() == 1 {
            return self.remove(&key);
        }
        gone.take(slot.variants.remove(at));
        slot.weight -= gone.weight;
        let queue = if slot.in_main { &mut self.main } else { &mut self.small };
        queue.bytes -= gone.weight;
        gone
    }

    pub(super) fn clear(&mut self) -> Gone {
        let mut gone = Gone { weight: self.bytes(), ..Gone::default() };
        let before = std::mem::take(self);
        gone.stored.extend(before.slots.into_values().flat_map(|slot| slot.variants));
        gone
    }

    pub(super) fn of_key(&self, key: &KeyDigest) -> Vec<Arc<Stored>> {
        self.slots.get(key).into_iter().flat_map(|slot| slot.variants.iter().cloned()).collect()
    }

    pub(super) fn of_url(&self, url: UrlDigest) -> Vec<Arc<Stored>> {
        let keys = self.by_url.get(&url).into_iter().flatten();
        keys.filter_map(|key| self.slots.get(key)).flat_map(|slot| slot.variants.iter().cloned()).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.small.bytes + self.main.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.slots.values().map(|slot| slot.variants.len()).sum()
    }

    /// Remembers who was thrown out young. As many ghosts as slots.
    fn haunt(&mut self, key: &KeyDigest) {
        let ghost = ghost(key);
        if self.ghost_set.insert(ghost) {
            self.ghosts.push_back(ghost);
        }
        while self.ghosts.len() > self.slots.len() {
            if let Some(old) = self.ghosts.pop_front() {
                self.ghost_set.remove(&old);
            }
        }
    }

    /// Places of slots that were removed otherwise stay in the queues; they must not pile up.
    fn tidy(&mut self) {
        if self.small.order.len() + self.main.order.len() > 2 * self.slots.len() + 16 {
            let slots = &self.slots;
            let lives = |(key, born): &(KeyDigest, u64)| slots.get(key).is_some_and(|slot| slot.born == *born);
            self.small.order.retain(lives);
            self.main.order.retain(lives);
        }
    }
}

impl Gone {
    fn take(&mut self, stored: Arc<Stored>) {
        self.weight += stored.weight() + SLOT;
        self.stored.push(stored);
    }
}

fn ghost(key: &KeyDigest) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&key.0[..8]);
    u64::from_le_bytes(eight)
}
