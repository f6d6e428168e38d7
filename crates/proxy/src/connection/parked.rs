//! Answers of one h2 connection that wait for its socket. A socket that takes nothing stops them all, and h2 would go on
//! gathering what each has to say: a client that reads nothing could make a node hold a quarter of a megabyte for each stream.
//! So nothing more is asked of upstreams until the socket takes bytes again. Bounded by the streams of a connection.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct Parked(Mutex<Vec<Waker>>);

impl Parked {
    pub(super) fn park(&self, waker: &Waker) {
        let mut parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !parked.iter().any(|known| known.will_wake(waker)) {
            parked.push(waker.clone());
        }
    }

    pub(super) fn wake(&self) {
        let parked = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        parked.into_iter().for_each(Waker::wake);
    }
}
