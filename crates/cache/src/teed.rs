//! A body with a tee, on its way to the client who fetched it.
//!
//! As long as he is alone, the origin is read as fast as he takes it. From when others read along it is read in the
//! background, and he is one of them: a client who stalls holds up nobody else. Knows nothing of what is stored ([`Tee`]).

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;

use crate::flight::{self, Flowing};
use crate::tee::Tee;

/// Dropped before its end, it is read to it in the background if that is worth it.
#[derive(Debug)]
pub struct TeeBody<B>(Way<B>)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static;

#[derive(Debug)]
enum Way<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    /// Nobody reads along, ever.
    Alone(Flow<B>),
    /// Others may come. The place where we are in it is ours.
    Shared(Arc<Mutex<Seat<B>>>, Flowing),
}

/// Why a body with a tee broke.
#[derive(Debug)]
pub enum Broke<E> {
    Origin(E),
    /// It was read in the background, which had the error.
    Shared(flight::Broken),
}

/// Who reads the origin: the client while the flow is here, else the background.
#[derive(Debug)]
struct Seat<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    flow: Option<Flow<B>>,
    client: Option<Waker>,
}

/// The origin's body and who looks on.
#[derive(Debug)]
struct Flow<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    body: Option<B>,
    tee: Option<Box<Tee>>,
}

impl<B> TeeBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    #[must_use]
    pub fn new(body: B, tee: Box<Tee>) -> Self {
        let mut flow = Flow { body: Some(body), tee: Some(tee) };
        flow.finish_if_ended();
        let Some(shared) = flow.tee.as_ref().and_then(|tee| tee.shared()) else { return Self(Way::Alone(flow)) };
        let seat = Arc::new(Mutex::new(Seat { flow: Some(flow), client: None }));
        // Not a strong one: the flow holds what is shared.
        let weak: Weak<Mutex<Seat<B>>> = Arc::downgrade(&seat);
        shared.when_joined(Box::new(move || {
            if let Some(seat) = weak.upgrade() {
                take_over(&seat);
            }
        }));
        Self(Way::Shared(seat, Flowing::leading(shared)))
    }
}

/// From now on the background reads, and the client reads along.
fn take_over<B>(seat: &Mutex<Seat<B>>)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let Ok(runtime) = Handle::try_current() else { return };
    let (flow, client) = {
        let mut seat = locked(seat);
        (seat.flow.take(), seat.client.take())
    };
    if let Some(flow) = flow {
        flow.go_on(&runtime);
    }
    if let Some(client) = client {
        client.wake();
    }
}

fn locked<B>(seat: &Mutex<Seat<B>>) -> MutexGuard<'_, Seat<B>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    seat.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Flow<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    /// A body may say that it is at its end and never be asked again.
    fn finish_if_ended(&mut self) {
        if self.is_at_end()
            && let Some(mut tee) = self.tee.take()
        {
            tee.end();
        }
    }

    fn is_at_end(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let next = std::task::ready!(Pin::new(body).poll_frame(cx));
        match (&next, &mut self.tee) {
            (Some(Ok(frame)), Some(tee)) => {
                match frame.data_ref() {
                    Some(data) => tee.data(data),
                    None => tee.give_up(), // Trailers are not stored, and the response is not whole without.
                }
                self.finish_if_ended();
            }
            (Some(Err(_)), tee) => drop(tee.take()),
            (None, tee) => {
                if let Some(mut tee) = tee.take() {
                    tee.end();
                }
            }
            (Some(Ok(_)), None) => {}
        }
        Poll::Ready(next)
    }

    fn is_wanted(&self) -> bool {
        self.body.is_some() && self.tee.as_ref().is_some_and(|tee| tee.is_wanted())
    }

    /// In the background, as long as it is worth it. Where the runtime ends before, that is the end.
    fn go_on(mut self, runtime: &Handle) {
        runtime.spawn(async move {
            while self.is_wanted() {
                if !matches!(std::future::poll_fn(|cx| self.poll(cx)).await, Some(Ok(_))) {
                    break;
                }
            }
        });
    }
}

impl<B> Body for TeeBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = Broke<B::Error>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let (seat, along) = match &mut self.0 {
            Way::Alone(flow) => return flow.poll(cx).map_err(Broke::Origin),
            Way::Shared(seat, along) => (seat, along),
        };
        let mut seat = locked(seat);
        let Some(flow) = &mut seat.flow else {
            drop(seat);
            return along.poll(cx).map_ok(Frame::data).map_err(Broke::Shared);
        };
        let next = flow.poll(cx);
        match &next {
            Poll::Ready(Some(Ok(frame))) => along.had(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(_) => {}
            Poll::Pending => {
                if !seat.client.as_ref().is_some_and(|client| client.will_wake(cx.waker())) {
                    seat.client = Some(cx.waker().clone());
                }
            }
        }
        next.map_err(Broke::Origin)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Way::Alone(flow) => flow.is_at_end(),
            Way::Shared(seat, along) => locked(seat).flow.as_ref().map_or_else(|| along.left() == 0, Flow::is_at_end),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Way::Alone(flow) => flow.size_hint(),
            Way::Shared(seat, along) => {
                locked(seat).flow.as_ref().map_or_else(|| SizeHint::with_exact(along.left()), Flow::size_hint)
            }
        }
    }
}

impl<B> Drop for TeeBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        let flow = match &mut self.0 {
            Way::Alone(flow) => Some(Flow { body: flow.body.take(), tee: flow.tee.take() }),
            Way::Shared(seat, _) => locked(seat).flow.take(),
        };
        if let Some(flow) = flow.filter(Flow::is_wanted)
            && let Ok(runtime) = Handle::try_current()
        {
            flow.go_on(&runtime);
        }
    }
}

impl<E: std::fmt::Display> std::fmt::Display for Broke<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Origin(why) => why.fmt(f),
            Self::Shared(why) => why.fmt(f),
        }
    }
}

impl<E: std::fmt::Debug + std::fmt::Display> std::error::Error for Broke<E> {}
