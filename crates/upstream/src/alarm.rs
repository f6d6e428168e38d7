//! A timer that is armed rarely. A tokio `Sleep` costs a lock and a place in a wheel each time it is set and dropped;
//! most waits end long before their deadline. So an alarm stays with its connection, and being set *later* is free:
//!
//! ```text
//! request 1   |---- wants 10.0 ----x            armed for 10.0
//! request 2        |---- wants 10.2 ----x       still armed for 10.0
//! request 3                    |---- wants 10.9 … fires at 10.0, finds nobody due, is armed for 10.9
//! ```

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Id;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::shard::Shard;

#[derive(Debug, Default)]
pub(crate) struct Alarm {
    armed: Option<(Id, Pin<Box<Sleep>>)>,
}

impl Alarm {
    /// A timer of a runtime that is gone must not be polled: forget it when the connection changes runtimes.
    pub(crate) fn moved_to(&mut self, shard: Shard) {
        if self.armed.as_ref().is_some_and(|(runtime, _)| *runtime != shard.runtime) {
            self.armed = None;
        }
    }

    /// Ready when `at` has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let (_, sleep) =
            self.armed.get_or_insert_with(|| (tokio::runtime::Handle::current().id(), Box::pin(sleep_until(at))));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}
