//! Which shelf of a pool a thread uses: one per runtime, because a connection is driven by the runtime that opened
//! it. With one runtime per core, no request then wakes another core.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::runtime::{Handle, Id};

/// Shelves per endpoint. More runtimes than this share shelves: correct, only less local.
pub(crate) const SHARDS: usize = 32;

/// The runtime a call runs on, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) runtime: Id,
    pub(crate) place: usize,
}

/// Must be called within a runtime.
pub(crate) fn current() -> Shard {
    thread_local!(static LAST: Cell<Option<Shard>> = const { Cell::new(None) });
    let runtime = Handle::current().id();
    match LAST.get() {
        Some(shard) if shard.runtime == runtime => shard,
        _ => {
            let shard = Shard { runtime, place: place(runtime) };
            LAST.set(Some(shard));
            shard
        }
    }
}

/// Counts that every request moves have one of these per core, so that cores do not fight over them. Cores beyond share.
#[derive(Debug, Default)]
pub(crate) struct Laned<T>([Lane<T>; LANES as usize]);

const LANES: u32 = 8;

/// Alone on its cache lines (two: the prefetcher reads pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane<T>(T);

impl<T> Laned<T> {
    pub(crate) fn at(&self, lane: u32) -> &T {
        &self.0[(lane % LANES) as usize].0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|lane| &lane.0)
    }
}

/// This thread's lane.
pub(crate) fn lane() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    thread_local!(static LANE: u32 = NEXT.fetch_add(1, Relaxed) % LANES);
    LANE.with(|lane| *lane)
}

fn place(runtime: Id) -> usize {
    static PLACES: Mutex<Option<HashMap<Id, usize>>> = Mutex::new(None);
    let mut places = crate::lock(&PLACES);
    let places = places.get_or_insert_default();
    let next = places.len() % SHARDS;
    *places.entry(runtime).or_insert(next)
}
