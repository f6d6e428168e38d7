//! An exchange in the hands of one request; or, while the rest of that request is sent by a task, in the hands of both.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::task::AbortHandle;

use tidegate_http1::Unsent;

use super::{Exchange, Lost, Switched};
use crate::endpoint::InFlight;
use crate::{BoxError, Whom, lock};

/// An HTTP/1.1 connection.
pub(crate) struct One {
    hold: Hold,
    /// For whom it was made; `None`: for anybody.
    pub(crate) whom: Option<Arc<Whom>>,
}

enum Hold {
    /// Boxed: a connection in use lies in the future of a request, and is moved about with every one.
    Own(Box<Exchange>),
    Shared(Arc<Mutex<Shared>>, AbortHandle),
}

#[derive(Default)]
struct Shared {
    /// `None`: it was given up, or taken back.
    exchange: Option<Box<Exchange>>,
    /// Who waits for the answer.
    reader: Option<Waker>,
}

impl One {
    pub(crate) fn new(exchange: Exchange, whom: Option<Arc<Whom>>) -> Self {
        Self { hold: Hold::Own(Box::new(exchange)), whom }
    }

    /// As nearly always: in nobody else's hands.
    pub(crate) fn own(&mut self) -> Option<&mut Exchange> {
        match &mut self.hold {
            Hold::Own(exchange) => Some(exchange),
            Hold::Shared(..) => None,
        }
    }

    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Lost>> {
        match self.own() {
            Some(exchange) => exchange.poll_head(cx),
            None => Poll::Ready(Err(Lost::Broke(gone()))), // Heads are waited for before it is shared.
        }
    }

    /// What is left of the request goes out whether anybody reads the answer or not.
    pub(crate) fn send_the_rest(&mut self) {
        let Hold::Own(exchange) = &mut self.hold else { return };
        if exchange.is_sent() {
            return;
        }
        let shared = Arc::new(Mutex::new(Shared::default()));
        let sender = Arc::clone(&shared);
        // Another thread may begin with the task at once: it waits until the exchange is there.
        let mut there = lock(&shared);
        let task = tokio::spawn(std::future::poll_fn(move |cx| {
            let mut shared = lock(&sender);
            let Some(exchange) = &mut shared.exchange else { return Poll::Ready(()) };
            if let Err(Unsent::Body(_)) = ready!(exchange.poll_send(cx)) {
                // The upstream must not take the half for the whole.
                shared.exchange = None;
                if let Some(reader) = shared.reader.take() {
                    reader.wake();
                }
            }
            Poll::Ready(())
        }));
        let own = std::mem::replace(&mut self.hold, Hold::Shared(Arc::clone(&shared), task.abort_handle()));
        if let Hold::Own(exchange) = own {
            there.exchange = Some(exchange);
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.hold {
            Hold::Own(exchange) => exchange.poll_frame(cx),
            Hold::Shared(shared, _) => {
                let mut shared = lock(shared);
                let Shared { exchange, reader } = &mut *shared;
                let Some(exchange) = exchange else { return Poll::Ready(Some(Err(gone()))) };
                let polled = exchange.poll_frame(cx);
                if polled.is_pending() && !reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                    *reader = Some(cx.waker().clone());
                }
                polled
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.hold {
            Hold::Own(exchange) => exchange.is_end_stream(),
            Hold::Shared(shared, _) => lock(shared).exchange.as_ref().is_some_and(|exchange| exchange.is_end_stream()),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.hold {
            Hold::Own(exchange) => exchange.size_hint(),
            Hold::Shared(shared, _) => {
                lock(shared).exchange.as_ref().map_or_else(SizeHint::default, |exchange| exchange.size_hint())
            }
        }
    }

    /// The exchange is over. `false`: the connection is no good for another.
    pub(crate) fn rest(&mut self) -> bool {
        if let Hold::Shared(shared, task) = &self.hold {
            task.abort();
            let Some(exchange) = lock(shared).exchange.take() else { return false };
            self.hold = Hold::Own(exchange);
        }
        let Hold::Own(exchange) = &mut self.hold else { return false };
        if !exchange.is_over() {
            return false;
        }
        exchange.rest();
        true
    }

    /// Of one that is idle.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.own().is_none_or(Exchange::is_closed)
    }

    /// Another protocol is spoken from now on. `None`: the request has not ended.
    pub(crate) fn switch(&mut self, tunnel: InFlight) -> Option<Switched> {
        let exchange = self.own().filter(|exchange| exchange.is_sent())?;
        let first = std::mem::take(&mut exchange.reader.bytes);
        Some(Switched::new(exchange.wire.take()?, first, tunnel))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        if let Hold::Shared(shared, task) = &self.hold {
            task.abort();
            let exchange = lock(shared).exchange.take();
            drop(exchange); // Not beneath the lock.
        }
    }
}

fn gone() -> BoxError {
    "the rest of the request could not be sent".into()
}
