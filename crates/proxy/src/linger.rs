//! A socket closed with bytes unread is reset, and the reset may overtake our answer (RFC 9112 § 9.6): so what still comes
//! is read and thrown away for a while.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// As nginx's `lingering_timeout`.
pub(crate) const LINGER: Duration = Duration::from_secs(5);
const BYTES: usize = 64 << 20;

pub(crate) struct Linger {
    end: Pin<Box<Sleep>>,
    left: usize,
}

impl Linger {
    pub(crate) fn new(within: Duration) -> Self {
        Self { end: Box::pin(tokio::time::sleep(within)), left: BYTES }
    }

    /// Ready: the other side has ended, or was given time enough.
    #[cold]
    pub(crate) fn poll<S: AsyncRead + Unpin>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        let mut thrown = [0; 4 << 10];
        loop {
            if self.end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut into = ReadBuf::new(&mut thrown);
            let read = ready!(Pin::new(&mut *socket).poll_read(cx, &mut into));
            self.left = self.left.saturating_sub(into.filled().len());
            if read.is_err() || into.filled().is_empty() || self.left == 0 {
                return Poll::Ready(());
            }
        }
    }
}
