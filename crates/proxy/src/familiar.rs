//! Targets that one core answered from the cache before, and how: by host and path as they were sent.
//!
//! A table of a fixed size; a newcomer takes the place of whoever lies there. Belongs to one snapshot ([`crate::local`]
//! drops it with the snapshot). Knows what is remembered, not who may be answered with it: that is `request::short`.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, TryLockError};

use http::HeaderMap;
use tidegate_cache::{Spot, Tells};

const PLACES: usize = 1_024;
/// Bytes of host and target: longer ones are not remembered.
const LONGEST: usize = 256;
/// Lines of an answer's head that is kept ready, and bytes of their text.
const LINES: usize = 32;
const HEAD: usize = 2 << 10;

/// What a request is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight<'a> {
    /// As sent.
    pub(crate) host: &'a [u8],
    /// Path and query as sent.
    pub(crate) target: &'a str,
    /// The port it came in by, and in TLS or not: a host that names that port is kept under another key.
    pub(crate) door: (u16, bool),
}

/// One target.
#[derive(Debug)]
pub(crate) struct Known {
    host: Box<[u8]>,
    target: Box<str>,
    door: (u16, bool),
    /// Place of its route.
    pub(crate) route: usize,
    pub(crate) spot: Spot,
    /// The head of the last answer, dressed, and what it said.
    pub(crate) head: Option<(Tells, HeaderMap)>,
}

#[derive(Debug)]
pub(crate) struct Familiar {
    places: Mutex<Box<[Option<Box<Known>>]>>,
    /// Is anything known? Most nodes keep no responses, and need not look.
    any: AtomicBool,
    hasher: foldhash::fast::RandomState,
}

impl Familiar {
    pub(crate) fn new() -> Self {
        let places = (0..PLACES).map(|_| None).collect();
        Self { places: Mutex::new(places), any: AtomicBool::new(false), hasher: foldhash::fast::RandomState::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Relaxed)
    }

    /// Nobody waits: where another thread looks at the table, nothing is familiar.
    pub(crate) fn with<T>(&self, sight: Sight<'_>, then: impl FnOnce(&mut Known) -> Option<T>) -> Option<T> {
        let mut places = match self.places.try_lock() {
            Ok(places) => places,
            Err(TryLockError::Poisoned(places)) => places.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let known = places[self.place(sight)].as_deref_mut().filter(|known| known.sight() == sight)?;
        then(known)
    }

    pub(crate) fn learn(&self, sight: Sight<'_>, route: usize, spot: Spot) {
        if sight.host.len() + sight.target.len() > LONGEST {
            return;
        }
        let (host, target, door) = (sight.host.into(), sight.target.into(), sight.door);
        let known = Box::new(Known { host, target, door, route, spot, head: None });
        if let Ok(mut places) = self.places.try_lock() {
            places[self.place(sight)] = Some(known);
            self.any.store(true, Relaxed);
        }
    }

    fn place(&self, sight: Sight<'_>) -> usize {
        let hash =
            self.hasher.hash_one((sight.host, sight.target, u32::from(sight.door.0) << 1 | u32::from(sight.door.1)));
        usize::try_from(hash % PLACES as u64).expect("below the number of places")
    }
}

impl Known {
    fn sight(&self) -> Sight<'_> {
        Sight { host: &self.host, target: &self.target, door: self.door }
    }

    /// Keeps a head ready, if it is of the usual size: what is kept here no bound of the cache counts.
    pub(crate) fn keep(&mut self, tells: Tells, head: &HeaderMap) {
        let text = || head.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        self.head = (head.len() <= LINES && text() <= HEAD).then(|| (tells, head.clone()));
    }
}
