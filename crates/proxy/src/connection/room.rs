//! Where a request's future lives: a place of a few kilobytes, kept by the worker from request to request.
//!
//! Within the connection it would be moved there with every request, even when the answer is known at once; a
//! block of its own per request costs the allocator more than that, and one per connection is too much for those that are
//! idle or only stream. `request` asks for it when a request has to wait for something, and gives it back by dropping it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::stays::{LONGEST, Stays, alone};

struct Place<F> {
    future: Pin<Box<Option<F>>>,
    stays: Stays,
}

/// Of one listener's worker: who finds no place free, or somebody else looking, makes his own.
pub(crate) struct Room<F>(Arc<Mutex<Vec<Place<F>>>>);

/// Places that are kept free.
const FREE: usize = 64;

/// A future in its place.
pub(crate) struct Guest<F: Future + Send + 'static> {
    /// `None` only while it leaves.
    place: Option<Place<F>>,
    room: Room<F>,
}

impl<F> Room<F> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }
}

impl<F: Future + Send + 'static> Room<F> {
    /// `make` is called where the future is going to live, or near: it is large, and at first all but empty.
    #[inline]
    pub(crate) fn take_in(&self, make: impl FnOnce(Stays) -> F) -> Guest<F> {
        let free = self.0.try_lock().ok().and_then(|mut free| free.pop());
        let place = match free {
            Some(mut place) => {
                place.stays.begin();
                place.future.as_mut().set(Some(make(place.stays.clone())));
                place
            }
            None => {
                let stays = Stays::default();
                Place { future: Box::pin(Some(make(stays.clone()))), stays }
            }
        };
        Guest { place: Some(place), room: self.clone() }
    }
}

impl<F> Clone for Room<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Future + Send + 'static> Future for Guest<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.place.as_mut().and_then(|place| place.future.as_mut().as_pin_mut());
        future.expect("it is in its place until it is dropped").poll(cx)
    }
}

impl<F: Future + Send + 'static> Guest<F> {
    /// Its client left, and it goes on.
    #[cold]
    fn goes_on(&self, place: Place<F>) {
        let (Ok(runtime), Some(one)) = (Handle::try_current(), alone()) else { return };
        let rest = Self { place: Some(place), room: self.room.clone() };
        runtime.spawn(async move {
            drop(timeout(LONGEST, rest).await);
            drop(one);
        });
    }
}

impl<F: Future + Send + 'static> Drop for Guest<F> {
    fn drop(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        if place.stays.leave() {
            return self.goes_on(place);
        }
        place.future.as_mut().set(None);
        if let Ok(mut free) = self.room.0.try_lock()
            && free.len() < FREE
        {
            free.push(place);
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
        let address = |guest: &Guest<_>| guest.place.as_ref().map(|place| std::ptr::from_ref(&*place.future).addr());
        let mut first = room.take_in(|_| guest(1));
        let place = address(&first);
        assert_eq!((&mut first).await, 1);
        drop(first);
        let cancelled = room.take_in(|_| guest(2));
        assert_eq!(address(&cancelled), place);
        let beside = room.take_in(|_| guest(3));
        assert_ne!(address(&beside), place);
        drop(cancelled);
        assert_eq!(beside.await, 3);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[tokio::test]
    async fn what_stays_goes_on_without_its_client() {
        let (room, witness) = (Room::new(), Arc::new(tokio::sync::Notify::new()));
        let guest = |stays: Stays| {
            let witness = Arc::clone(&witness);
            async move {
                let staying = stays.stay();
                tokio::task::yield_now().await;
                assert!(stays.has_left());
                drop(staying);
                witness.notify_one();
            }
        };
        let mut left = room.take_in(guest);
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut left).poll(cx).is_pending())).await;
        drop(left);
        witness.notified().await;
    }
}
