//! After a 101: bytes both ways until one side ends, both are silent for too long, or the node cuts.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tidegate_telemetry::Cut;
use tidegate_upstream::Switched;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::charge::{Charge, Measure};
use crate::drain::{Draining, Phase};
use crate::http1::Crossing;
use crate::relay::Observer;

/// Bytes read before they are written on: what back-pressure leaves in our hands.
const BUFFER: usize = 16 << 10;

pub(crate) async fn run(
    client: Crossing,
    upstream: Switched,
    mut observer: Box<Observer>,
    silence: Duration,
    mut draining: Draining,
) {
    let mut charge = observer.charge.take();
    let (inward, outward) =
        (Lane::of(charge.as_deref(), Measure::BytesIn), Lane::of(charge.as_deref(), Measure::BytesOut));
    let cut = tokio::select! {
        cut = join(client, upstream, &inward, &outward) => cut,
        () = quiet(&inward, &outward, silence) => Some(Cut::Timeout),
        () = draining.until(Phase::Cut) => Some(Cut::Shutdown),
        cut = std::future::poll_fn(|cx| watch(charge.as_deref_mut(), [&inward, &outward], cx)) => Some(cut),
    };
    observer.charge = charge;
    observer.record.bytes_in = inward.moved.load(Relaxed);
    observer.record.bytes_out = outward.moved.load(Relaxed);
    observer.record.cut = cut;
    observer.whole = true;
}

/// One way, and what a limit that counts its bytes has room for.
struct Lane {
    measure: Measure,
    moved: AtomicU64,
    /// Up to here nobody need be asked.
    until: AtomicU64,
    /// Read, and not written on yet: waits for room.
    wants: AtomicU64,
    watcher: AtomicWaker,
    pump: AtomicWaker,
}

impl Lane {
    fn of(charge: Option<&Charge>, measure: Measure) -> Self {
        let until = if charge.is_some_and(|charge| charge.counts(measure)) { 0 } else { u64::MAX };
        let (watcher, pump) = (AtomicWaker::new(), AtomicWaker::new());
        Self {
            measure,
            moved: AtomicU64::new(0),
            until: AtomicU64::new(until),
            wants: AtomicU64::new(0),
            watcher,
            pump,
        }
    }

    /// Waits until so many bytes more may go on.
    async fn room(&self, bytes: u64) {
        let up_to = self.moved.load(Relaxed) + bytes;
        if up_to <= self.until.load(Acquire) {
            return;
        }
        self.wants.store(up_to, Release);
        self.watcher.wake();
        std::future::poll_fn(|cx| {
            self.pump.register(cx.waker());
            if up_to <= self.until.load(Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Has room made for what wants to go on. Ready: there is none.
    fn poll(&self, charge: &mut Charge, cx: &mut Context<'_>) -> Poll<()> {
        self.watcher.register(cx.waker());
        let wants = self.wants.load(Acquire);
        if wants <= self.until.load(Relaxed) {
            return Poll::Pending;
        }
        let room = ready!(charge.poll_room(self.measure, wants, cx));
        if room < wants {
            return Poll::Ready(());
        }
        charge.uses(self.measure, wants, cx);
        self.until.store(charge.until(self.measure).max(wants), Release);
        self.pump.wake();
        Poll::Pending
    }
}

/// What the tunnel's limits say, for as long as it lasts.
fn watch(charge: Option<&mut Charge>, lanes: [&Lane; 2], cx: &mut Context<'_>) -> Poll<Cut> {
    let Some(charge) = charge else { return Poll::Pending };
    charge.goes_on(cx);
    if charge.poll_lapsed(cx).is_ready() {
        return Poll::Ready(Cut::Timeout);
    }
    let is_used_up = lanes.iter().any(|lane| lane.poll(charge, cx).is_ready());
    if is_used_up { Poll::Ready(Cut::Limit) } else { Poll::Pending }
}

async fn join(client: Crossing, upstream: Switched, inward: &Lane, outward: &Lane) -> Option<Cut> {
    let Some(client) = client.crossed().await else { return Some(Cut::Client) };
    let Some(upstream) = upstream.take() else { return Some(Cut::Upstream) };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let up = pump(&mut from_client, &mut to_upstream, inward);
    let down = pump(&mut from_upstream, &mut to_client, outward);
    match tokio::try_join!(up, down) {
        Ok(_) => None,
        Err(_) => Some(Cut::Client),
    }
}

/// One way, to its end: then the other side is told that no more comes.
async fn pump(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), lane: &Lane) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        lane.room(read as u64).await;
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        lane.moved.fetch_add(read as u64, Relaxed);
    }
}

async fn quiet(inward: &Lane, outward: &Lane, silence: Duration) {
    let mut before = None;
    loop {
        let now = (inward.moved.load(Relaxed), outward.moved.load(Relaxed));
        if before == Some(now) {
            return;
        }
        before = Some(now);
        tokio::time::sleep(silence).await;
    }
}
