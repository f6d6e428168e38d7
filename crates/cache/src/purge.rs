//! Which stored responses are void by order of an operator.
//!
//! Purges are entries of the control log, each with an epoch that grows. A stored response carries the epoch its node
//! knew when the fetch *began*, and lives only while no purge that matches it is younger: a fetch begun before a purge
//! is neither stored nor served, on whatever node or in Redis it comes back. Memory is bounded by a floor: when there
//! are too many purges, the older half is forgotten and everything from before it is void.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::rules::key::UrlDigest;
use crate::stored::Stored;

/// A position in the history of purges. Zero: before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// What is void.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Purge {
    /// Everything of every tenant.
    All,
    Tenant(Box<str>),
    /// One URL of a tenant, in all its variants and partitions.
    Url(UrlDigest),
    /// All URLs of a tenant that begin with this `host/path`.
    Prefix {
        tenant: Box<str>,
        prefix: Box<str>,
    },
    Tag {
        tenant: Box<str>,
        tag: Box<str>,
    },
}

/// An entry of the control log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeEntry {
    pub epoch: Epoch,
    pub what: Purge,
}

/// The purges a node knows.
#[derive(Debug)]
pub struct Purges {
    /// The youngest of all: what outlived it needs no look at the rest.
    latest: AtomicU64,
    known: RwLock<Known>,
    bound: usize,
}

#[derive(Debug, Default)]
struct Known {
    /// Everything begun before this is void.
    floor: Option<Epoch>,
    tenants: HashMap<Box<str>, Epoch>,
    urls: HashMap<UrlDigest, Epoch>,
    prefixes: HashMap<Box<str>, BTreeMap<Box<str>, Epoch>>,
    tags: HashMap<Box<str>, HashMap<Box<str>, Epoch>>,
    count: usize,
}

impl Purges {
    /// `bound`: purges remembered one by one.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { latest: AtomicU64::new(0), known: RwLock::default(), bound: bound.max(2) }
    }

    /// What a fetch that begins now will carry.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.latest.load(Ordering::Acquire))
    }

    /// From here on nothing that matches, and was begun before, is served. Entries may come again, and in any order.
    pub fn apply(&self, entry: &PurgeEntry) {
        self.apply_all(std::slice::from_ref(entry));
    }

    /// All at once, for those of one epoch belong together: what outlived a part of them is not asked about the rest.
    /// Which of them said something new.
    pub fn apply_all<'e>(&self, entries: &'e [PurgeEntry]) -> Vec<&'e PurgeEntry> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let news: Vec<&PurgeEntry> = entries.iter().filter(|entry| known.learn(entry)).collect();
        if known.count > self.bound {
            known.forget_half();
        }
        // Within the lock: whoever sees the epoch finds the purges.
        let newest = entries.iter().map(|entry| entry.epoch.0).max().unwrap_or_default();
        self.latest.fetch_max(newest, Ordering::AcqRel);
        news
    }

    /// A node that missed entries (it starts from a snapshot): everything up to here is void.
    pub fn raise_floor(&self, epoch: Epoch) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.raise(epoch);
        self.latest.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// Is no purge of it younger than its fetch?
    #[must_use]
    pub fn outlived_by(&self, stored: &Stored) -> bool {
        let latest = self.epoch();
        if stored.outlived() >= latest {
            return true;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let outlived = !known.voids(&About::of(stored), stored.epoch);
        if outlived {
            stored.outlives(latest);
        }
        outlived
    }

    /// The same for what is not stored yet, and may have no tags yet.
    #[must_use]
    pub fn outlived_by_fetch(&self, about: &About<'_>, begun: Epoch) -> bool {
        if begun >= self.epoch() {
            return true;
        }
        !self.known.read().unwrap_or_else(PoisonError::into_inner).voids(about, begun)
    }

    /// Purges remembered one by one, and the floor.
    #[must_use]
    pub fn facts(&self) -> (usize, Epoch) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.count, known.floor.unwrap_or_default())
    }
}

/// What purges match against.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub tenant: &'a str,
    pub digest: UrlDigest,
    pub url: &'a str,
    pub tags: &'a [Box<str>],
}

impl<'a> About<'a> {
    fn of(stored: &'a Stored) -> Self {
        Self { tenant: &stored.tenant, digest: stored.key.url, url: &stored.url, tags: &stored.tags }
    }
}

impl Known {
    /// Is it news?
    fn learn(&mut self, entry: &PurgeEntry) -> bool {
        let epoch = entry.epoch;
        if self.floor.is_some_and(|floor| epoch <= floor) {
            return false;
        }
        let before = match &entry.what {
            Purge::All => {
                self.raise(epoch);
                return true;
            }
            Purge::Tenant(tenant) => note(&mut self.tenants, tenant, epoch),
            Purge::Url(digest) => note(&mut self.urls, digest, epoch),
            Purge::Tag { tenant, tag } => note(self.tags.entry(tenant.clone()).or_default(), tag, epoch),
            Purge::Prefix { tenant, prefix } => {
                let known = self.prefixes.entry(tenant.clone()).or_default();
                match known.get_mut(prefix) {
                    Some(old) => Some(std::mem::replace(old, epoch.max(*old))),
                    None => known.insert(prefix.clone(), epoch),
                }
            }
        };
        self.count += usize::from(before.is_none());
        before < Some(epoch)
    }

    fn voids(&self, about: &About<'_>, begun: Epoch) -> bool {
        let younger = |epoch: Option<&Epoch>| epoch.is_some_and(|&epoch| epoch > begun);
        self.floor.is_some_and(|floor| begun < floor)
            || younger(self.urls.get(&about.digest))
            || younger(self.tenants.get(about.tenant))
            || self.tags.get(about.tenant).is_some_and(|tags| about.tags.iter().any(|tag| younger(tags.get(tag))))
            || self.prefixes.get(about.tenant).is_some_and(|known| has_prefix(known, about.url, begun))
    }

    fn raise(&mut self, epoch: Epoch) {
        self.floor = self.floor.max(Some(epoch));
        self.tenants.retain(|_, of| *of > epoch);
        self.urls.retain(|_, of| *of > epoch);
        self.prefixes.retain(|_, known| {
            known.retain(|_, of| *of > epoch);
            !known.is_empty()
        });
        self.tags.retain(|_, known| {
            known.retain(|_, of| *of > epoch);
            !known.is_empty()
        });
        let prefixes: usize = self.prefixes.values().map(BTreeMap::len).sum();
        let tags: usize = self.tags.values().map(HashMap::len).sum();
        self.count = self.tenants.len() + self.urls.len() + prefixes + tags;
    }

    fn forget_half(&mut self) {
        let mut epochs: Vec<Epoch> = self.tenants.values().chain(self.urls.values()).copied().collect();
        epochs.extend(self.prefixes.values().flat_map(BTreeMap::values));
        epochs.extend(self.tags.values().flat_map(HashMap::values));
        epochs.sort_unstable();
        if let Some(&middle) = epochs.get(epochs.len() / 2) {
            self.raise(middle);
        }
    }
}

/// What was known of it before.
fn note<K: Clone + Eq + std::hash::Hash>(known: &mut HashMap<K, Epoch>, name: &K, epoch: Epoch) -> Option<Epoch> {
    match known.get_mut(name) {
        Some(old) => Some(std::mem::replace(old, epoch.max(*old))),
        None => known.insert(name.clone(), epoch),
    }
}

/// Walks down from the URL over its prefixes that are known; each step goes to a shorter one.
fn has_prefix(known: &BTreeMap<Box<str>, Epoch>, url: &str, begun: Epoch) -> bool {
    let mut upto = url;
    loop {
        let Some((candidate, epoch)) = known.range::<str, _>((Bound::Unbounded, Bound::Included(upto))).next_back()
        else {
            return false;
        };
        if url.starts_with(&**candidate) {
            if *epoch > begun {
                return true;
            }
            let Some((last, _)) = candidate.char_indices().next_back() else { return false };
            upto = &url[..last];
        } else {
            let common = url.char_indices().zip(candidate.chars()).find(|((_, a), b)| a != b);
            // Not a prefix and not above the URL: they differ somewhere, or the candidate is longer.
            upto = common.map_or(url, |((at, _), _)| &url[..at]);
            if upto.len() == url.len() {
                return false;
            }
        }
        if upto.is_empty() {
            return known.get("").is_some_and(|epoch| *epoch > begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::key::Url;

    fn about<'a>(tenant: &'a str, url: &'a str, tags: &'a [Box<str>]) -> About<'a> {
        let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
        About { tenant, digest: Url { tenant, host, path, query: None }.digest(), url, tags }
    }

    fn prefix(tenant: &str, prefix: &str) -> Purge {
        Purge::Prefix { tenant: tenant.into(), prefix: prefix.into() }
    }

    #[test]
    fn what_matches_and_was_begun_before_is_void() {
        let tags: [Box<str>; 1] = ["users".into()];
        let it = about("t", "h/a/b", &tags);
        for (what, matches) in [
            (Purge::All, true),
            (Purge::Tenant("t".into()), true),
            (Purge::Tenant("u".into()), false),
            (Purge::Url(it.digest), true),
            (Purge::Url(about("u", "h/a/b", &[]).digest), false),
            (Purge::Tag { tenant: "t".into(), tag: "users".into() }, true),
            (Purge::Tag { tenant: "u".into(), tag: "users".into() }, false),
            (prefix("t", "h/a"), true),
            (prefix("t", ""), true),
            (prefix("t", "h/a/b/c"), false),
            (prefix("u", "h/a"), false),
        ] {
            let purges = Purges::new(10);
            purges.apply(&PurgeEntry { epoch: Epoch(5), what: what.clone() });
            assert_eq!(purges.outlived_by_fetch(&it, Epoch(4)), !matches, "{what:?}");
            assert!(purges.outlived_by_fetch(&it, Epoch(5)), "{what:?}");
            assert_eq!(purges.epoch(), Epoch(5));
        }
    }

    #[test]
    fn prefixes_are_found_among_many() {
        let purges = Purges::new(100);
        for (n, text) in ["h/", "h/a", "h/a/b/c", "h/ab", "h/b", "g/", "h/a/bb", "h/a/b?x"].into_iter().enumerate() {
            purges.apply(&PurgeEntry { epoch: Epoch(n as u64 + 1), what: prefix("t", text) });
        }
        let void = |url: &str, begun| !purges.outlived_by_fetch(&about("t", url, &[]), Epoch(begun));
        assert!(void("h/a/b", 1) && !void("h/a/b", 2));
        assert!(void("h/x", 0) && !void("h/x", 1));
        assert!(void("h/a/b/cd", 2) && !void("h/a/b/cd", 3));
        assert!(void("h/abc", 3) && !void("h/abc", 4));
        assert!(!void("i/", 0) && !void("a", 0));
    }

    #[test]
    fn those_of_one_epoch_hold_together_and_say_once_what_is_new() {
        let purges = Purges::new(10);
        let of = |epoch, tag: &str| PurgeEntry {
            epoch: Epoch(epoch),
            what: Purge::Tag { tenant: "t".into(), tag: tag.into() },
        };
        let entries = [of(1, "a"), of(1, "b")];
        assert_eq!(purges.apply_all(&entries).len(), 2);
        assert!(purges.apply_all(&entries).is_empty(), "known");
        assert_eq!(purges.apply_all(&[of(1, "a"), of(2, "b")]).len(), 1);
        for tag in ["a", "b"] {
            let tags: [Box<str>; 1] = [tag.into()];
            assert!(!purges.outlived_by_fetch(&about("t", "h/", &tags), Epoch(0)));
        }
        assert_eq!(purges.facts().0, 2);
        purges.raise_floor(Epoch(5));
        assert!(purges.apply_all(&[of(4, "c"), of(5, "d")]).is_empty(), "the floor says it already");
    }

    #[test]
    fn too_many_purges_raise_the_floor_and_stay_within_the_bound() {
        let purges = Purges::new(100);
        for n in 1..=1_000 {
            purges.apply(&PurgeEntry {
                epoch: Epoch(n),
                what: Purge::Tag { tenant: "t".into(), tag: n.to_string().into() },
            });
            assert!(purges.facts().0 <= 100);
        }
        let (_, floor) = purges.facts();
        assert!(floor > Epoch(850) && floor < Epoch(1_000));
        let other = about("t", "h/", &[]);
        assert!(!purges.outlived_by_fetch(&other, Epoch(floor.0 - 1)));
        assert!(purges.outlived_by_fetch(&other, floor));
        let tags: [Box<str>; 1] = ["999".into()];
        assert!(!purges.outlived_by_fetch(&about("t", "h/", &tags), Epoch(998)));
    }
}
