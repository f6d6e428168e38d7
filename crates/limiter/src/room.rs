//! Who waits for room for one more key. The tick makes it (`tick/room.rs`); knows no key and no limit.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Room {
    wishes: AtomicUsize,
    /// A slot came free: rings for one who waits.
    pub(crate) freed: Notify,
    /// Slots are wanted, or soon will be.
    pub(crate) rung: Notify,
}

impl Room {
    pub(crate) fn ring(&self) {
        self.rung.notify_one();
    }

    /// So many slots are wanted, until this is dropped.
    pub(crate) fn wish(&self, slots: usize) -> Wish<'_> {
        self.wishes.fetch_add(slots, Ordering::Relaxed);
        self.ring();
        Wish { room: self, slots }
    }

    pub(crate) fn wishes(&self) -> usize {
        self.wishes.load(Ordering::Relaxed)
    }
}

pub(crate) struct Wish<'r> {
    room: &'r Room,
    slots: usize,
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.room.wishes.fetch_sub(self.slots, Ordering::Relaxed);
    }
}
