//! A connection that waits for a request: before its first byte, and after a while without a request. It holds its socket and
//! what is known of its client, and nothing else: the machine that reads requests keeps a buffer for as long
//! as it lives, so it is built when bytes have come. Whoever waits here is counted, told and timed like everybody else.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Client, IDLE_ENOUGH, Late, PREFACE, Version};
use crate::drain::{Draining, Phase, Told};

/// What is read at once while there is no machine: most heads.
const ROOM: usize = 4 << 10;

/// Reads until it is clear which protocol is spoken (RFC 9113 § 3.4). `None`: the client left, or the node drains.
pub(super) async fn first_words<S>(socket: &mut S, draining: &mut Draining) -> Option<(Version, Bytes)>
where
    S: AsyncRead + Unpin,
{
    let mut first = BytesMut::new();
    loop {
        let read = tokio::select! {
            biased;
            read = std::future::poll_fn(|cx| poll_read(socket, cx, &mut first)) => read.ok()?,
            () = draining.until(Phase::Draining) => return None,
        };
        if read == 0 {
            return None;
        }
        let known = first.len().min(PREFACE.len());
        if first[..known] != PREFACE[..known] {
            return Some((Version::Http1, first.freeze()));
        }
        if known == PREFACE.len() {
            return Some((Version::Http2, first.freeze()));
        }
    }
}

/// The bytes are gathered on the stack, for nothing is kept while none come.
fn poll_read<S: AsyncRead + Unpin>(
    socket: &mut S,
    cx: &mut Context<'_>,
    into: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut room = [const { MaybeUninit::uninit() }; ROOM];
    let mut read = ReadBuf::uninit(&mut room);
    ready!(Pin::new(socket).poll_read(cx, &mut read))?;
    into.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// How a rest ended.
enum Woken {
    Asked(Bytes),
    /// The client left, or is asked to.
    Leaves,
    /// Nothing more is said to it.
    Dropped(Option<Late>),
}

/// Waits for an HTTP/1.1 client that has had its answer: the bytes it sends next. `None`: the connection has ended.
pub(super) async fn rest<S>(socket: &mut S, client: &Client, draining: &Draining) -> Option<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let woken = {
        let _counted = client.gate.resting.enter(usize::MAX);
        wait(socket, client, draining).await
    };
    let late = match woken {
        Woken::Asked(first) => return Some(first),
        Woken::Leaves => {
            // TLS says goodbye. Never waited for long: who rests has read all that we said.
            drop(timeout(Duration::from_secs(1), socket.shutdown()).await);
            None
        }
        Woken::Dropped(late) => late,
    };
    client.ended(late);
    None
}

async fn wait<S: AsyncRead + Unpin>(socket: &mut S, client: &Client, draining: &Draining) -> Woken {
    let mut phases = pin!(draining.changes());
    let mut timer = pin!(sleep_until(client.deadline().map_or_else(Instant::now, |(end, _)| end)));
    let mut first = BytesMut::new();
    std::future::poll_fn(|cx| {
        if let Poll::Ready(read) = poll_read(socket, cx, &mut first) {
            let asked = read.is_ok_and(|read| read > 0);
            return Poll::Ready(if asked { Woken::Asked(std::mem::take(&mut first).freeze()) } else { Woken::Leaves });
        }
        while let Poll::Ready(told) = phases.as_mut().poll_next(cx) {
            match told {
                Told::Phase(Phase::Cut) => return Poll::Ready(Woken::Dropped(None)),
                Told::Phase(Phase::Draining) => return Poll::Ready(Woken::Leaves),
                Told::MakeRoom if client.has_been_idle(IDLE_ENOUGH) => {
                    client.is_at_fault("descriptors");
                    return Poll::Ready(Woken::Leaves);
                }
                Told::Phase(Phase::Serving | Phase::Passing) | Told::MakeRoom => {}
            }
        }
        timer.as_mut().poll(cx).map(|()| Woken::Dropped(Some(Late::Idle)))
    })
    .await
}
