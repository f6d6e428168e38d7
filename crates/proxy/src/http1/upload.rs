//! The body of an HTTP/1.1 request: read by its connection when somebody wants it, a piece at a time, taken by whoever has
//! the request, in whatever task.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tidegate_http1::Decoder;

use crate::received::Lost;

/// In the hands of the request. What it knows by itself is asked often, and needs no lock.
pub(crate) struct Upload {
    shared: Arc<Mutex<Shared>>,
    /// So many bytes are still to be taken, where that is known.
    left: Option<u64>,
    /// Its end was told and taken: its lane is gone.
    over: bool,
}

/// In the hands of the connection.
pub(super) struct Lane {
    shared: Arc<Mutex<Shared>>,
    pub(super) decoder: Decoder,
    /// The client waits to be told that it is wanted.
    pub(super) expects: bool,
    /// The end was told.
    told: bool,
}

#[derive(Default)]
struct Shared {
    /// Read, and not taken yet.
    piece: Option<Frame<Bytes>>,
    wanted: bool,
    end: Option<Result<(), Lost>>,
    reader: Option<Waker>,
    connection: Option<Waker>,
    /// Nobody takes it any more.
    given_up: bool,
}

/// What the connection is to do about a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Read,
    Wait,
    /// Nobody wants the rest.
    None,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn body(decoder: Decoder, expects: bool) -> (Lane, Upload) {
    let left = decoder.size_hint().exact();
    let shared = Arc::<Mutex<Shared>>::default();
    (Lane { shared: Arc::clone(&shared), decoder, expects, told: false }, Upload { shared, left, over: false })
}

impl Lane {
    pub(super) fn wish(&self, cx: &mut Context<'_>) -> Wish {
        let mut shared = lock(&self.shared);
        if shared.given_up {
            return Wish::None;
        }
        // Whether it is read or not: it may be given up meanwhile.
        if !shared.connection.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            shared.connection = Some(cx.waker().clone());
        }
        if shared.wanted { Wish::Read } else { Wish::Wait }
    }

    /// `true`: who takes it is polled by this very task.
    pub(super) fn bring(&mut self, piece: Frame<Bytes>, cx: &mut Context<'_>) -> bool {
        let end = self.decoder.is_ended().then_some(Ok(()));
        self.tell(Some(piece), end, cx)
    }

    /// There is no more. The same.
    pub(super) fn end(&mut self, end: Result<(), Lost>, cx: &mut Context<'_>) -> bool {
        self.tell(None, Some(end), cx)
    }

    fn tell(&mut self, piece: Option<Frame<Bytes>>, end: Option<Result<(), Lost>>, cx: &mut Context<'_>) -> bool {
        self.told = end.is_some();
        let mut shared = lock(&self.shared);
        (shared.piece, shared.end, shared.wanted) = (piece, end, false);
        let Some(reader) = shared.reader.take() else { return false };
        drop(shared);
        let own = reader.will_wake(cx.waker());
        if !own {
            reader.wake();
        }
        own
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let mut shared = lock(&self.shared);
        shared.end.get_or_insert(Err(Lost));
        let reader = shared.reader.take();
        drop(shared);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        let Self { shared, left, over } = self.get_mut();
        let mut shared = lock(shared);
        if let Some(piece) = shared.piece.take() {
            *over = matches!(shared.end, Some(Ok(())));
            if let (Some(left), Some(data)) = (left, piece.data_ref()) {
                *left = left.saturating_sub(data.len() as u64);
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Some(end) = &mut shared.end {
            *over = true;
            return Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err));
        }
        shared.wanted = true;
        if !shared.reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            shared.reader = Some(cx.waker().clone());
        }
        // The task that polls us looks again by itself, and another one has to be told.
        let connection = shared.connection.as_ref().filter(|connection| !connection.will_wake(cx.waker())).cloned();
        drop(shared);
        if let Some(connection) = connection {
            connection.wake();
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.left.map_or_else(|| self.is_told(), |left| left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None if self.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}

impl Upload {
    /// There is nothing more to be taken than an end.
    fn is_told(&self) -> bool {
        let shared = lock(&self.shared);
        shared.piece.is_none() && matches!(shared.end, Some(Ok(())))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Its connection waits for nothing of it any more.
        if self.over {
            return;
        }
        let mut shared = lock(&self.shared);
        shared.given_up = true;
        let connection = shared.connection.take();
        drop(shared);
        if let Some(connection) = connection {
            connection.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn another_task_that_wants_takes_or_gives_up_is_heard_and_told() {
        let (own, other) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let (own_waker, other_waker) = (Waker::from(Arc::clone(&own)), Waker::from(Arc::clone(&other)));
        let (mut cx, mut their_cx) = (Context::from_waker(&own_waker), Context::from_waker(&other_waker));
        let rings = |bell: &Bell| bell.0.swap(0, Ordering::SeqCst);
        let (mut lane, mut upload) = body(Decoder::Length(10), false);
        assert_eq!(lane.wish(&mut cx), Wish::Wait);
        assert!(Pin::new(&mut upload).poll_frame(&mut their_cx).is_pending());
        assert_eq!(rings(&own), 1, "it is wanted");
        assert_eq!(lane.wish(&mut cx), Wish::Read);
        assert!(!lane.bring(Frame::data(Bytes::from_static(b"abc")), &mut cx));
        assert_eq!(rings(&other), 1, "it is there");
        let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut upload).poll_frame(&mut their_cx) else { panic!("a piece") };
        assert_eq!((piece.data_ref().map(Bytes::len), upload.size_hint().exact()), (Some(3), Some(7)));
        assert!(Pin::new(&mut upload).poll_frame(&mut their_cx).is_pending());
        assert_eq!((rings(&own), lane.wish(&mut cx)), (1, Wish::Read));
        drop(upload);
        assert_eq!((rings(&own), lane.wish(&mut cx)), (1, Wish::None), "nobody wants the rest, while it is waited for");
    }

    #[test]
    fn who_is_polled_by_the_connection_needs_no_bell() {
        let own = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&own));
        let mut cx = Context::from_waker(&waker);
        let (mut lane, mut upload) = body(Decoder::Length(3), false);
        assert!(Pin::new(&mut upload).poll_frame(&mut cx).is_pending());
        assert_eq!(lane.wish(&mut cx), Wish::Read);
        assert!(lane.end(Err(Lost), &mut cx));
        assert!(matches!(Pin::new(&mut upload).poll_frame(&mut cx), Poll::Ready(Some(Err(Lost)))));
        assert!(matches!(Pin::new(&mut upload).poll_frame(&mut cx), Poll::Ready(None)));
        assert_eq!(own.0.load(Ordering::SeqCst), 0);
    }
}
