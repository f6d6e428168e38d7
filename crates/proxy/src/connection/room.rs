//! Where a request's future lives: a place of a few kilobytes, kept by the worker from request to request.
//!
//! hyper would keep it within the connection and move it there with every request, even when the answer is known at once; a
//! block of its own per request costs the allocator more than that, and one per connection is too much for those that are
//! idle or only stream. `request` asks for it when a request has to wait for something, and gives it back by dropping it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

type Place<F> = Pin<Box<Option<F>>>;

/// Of one listener's worker: who finds no place free, or somebody else looking, makes his own.
pub(crate) struct Room<F>(Arc<Mutex<Vec<Place<F>>>>);

/// Places that are kept free.
const FREE: usize = 64;

/// A future in its place.
pub(crate) struct Guest<F> {
    /// `None` only while it leaves.
    place: Option<Place<F>>,
    room: Room<F>,
}

impl<F> Room<F> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// `make` is called where the future is going to live, or near: it is large, and at first all but empty.
    #[inline]
    pub(crate) fn take_in(&self, make: impl FnOnce() -> F) -> Guest<F> {
        let free = self.0.try_lock().ok().and_then(|mut free| free.pop());
        let place = match free {
            Some(mut place) => {
                place.as_mut().set(Some(make()));
                place
            }
            None => Box::pin(Some(make())),
        };
        Guest { place: Some(place), room: self.clone() }
    }
}

impl<F> Clone for Room<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Future> Future for Guest<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.place.as_mut().and_then(|place| place.as_mut().as_pin_mut());
        future.expect("it is in its place until it is dropped").poll(cx)
    }
}

impl<F> Drop for Guest<F> {
    fn drop(&mut self) {
        if let Some(mut place) = self.place.take() {
            place.as_mut().set(None);
            if let Ok(mut free) = self.room.0.try_lock()
                && free.len() < FREE
            {
                free.push(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_used_again_and_what_was_in_it_is_gone() {
        let (room, witness) = (Room::new(), Arc::new(()));
        let guest = |number: u8| {
            let witness = Arc::clone(&witness);
            async move {
                tokio::task::yield_now().await;
                drop(witness);
                number
            }
        };
        let address = |guest: &Guest<_>| guest.place.as_ref().map(|place| std::ptr::from_ref(&**place).addr());
        let mut first = room.take_in(|| guest(1));
        let place = address(&first);
        assert_eq!((&mut first).await, 1);
        drop(first);
        let cancelled = room.take_in(|| guest(2));
        assert_eq!(address(&cancelled), place);
        let beside = room.take_in(|| guest(3));
        assert_ne!(address(&beside), place);
        drop(cancelled);
        assert_eq!(beside.await, 3);
        assert_eq!(Arc::strong_count(&witness), 1);
    }
}
