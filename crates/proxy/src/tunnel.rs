//! After a 101: bytes both ways until one side ends, both are silent for too long, or the node cuts.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tidegate_telemetry::Cut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::drain::{Draining, Phase};
use crate::relay::Observer;

/// Bytes read before they are written on: what back-pressure leaves in our hands.
const BUFFER: usize = 16 << 10;

pub(crate) async fn run(
    client: OnUpgrade,
    upstream: OnUpgrade,
    mut observer: Box<Observer>,
    silence: Duration,
    mut draining: Draining,
) {
    let (inward, outward) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut charge = observer.charge.take();
    let lapsed = std::future::poll_fn(|cx| match &mut charge {
        Some(charge) => charge.poll_lapsed(cx),
        None => Poll::Pending,
    });
    let cut = tokio::select! {
        cut = join(client, upstream, &inward, &outward) => cut,
        () = quiet(&inward, &outward, silence) => Some(Cut::Timeout),
        () = draining.until(Phase::Cut) => Some(Cut::Shutdown),
        () = lapsed => Some(Cut::Timeout),
    };
    observer.charge = charge;
    observer.record.bytes_in = inward.load(Relaxed);
    observer.record.bytes_out = outward.load(Relaxed);
    observer.record.cut = cut;
    observer.whole = true;
}

async fn join(client: OnUpgrade, upstream: OnUpgrade, inward: &AtomicU64, outward: &AtomicU64) -> Option<Cut> {
    let Ok(client) = client.await else { return Some(Cut::Client) };
    let Ok(upstream) = upstream.await else { return Some(Cut::Upstream) };
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_upstream, mut to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let up = pump(&mut from_client, &mut to_upstream, inward);
    let down = pump(&mut from_upstream, &mut to_client, outward);
    match tokio::try_join!(up, down) {
        Ok(_) => None,
        Err(_) => Some(Cut::Client),
    }
}

/// One way, to its end: then the other side is told that no more comes.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        moved.fetch_add(read as u64, Relaxed);
    }
}

async fn quiet(inward: &AtomicU64, outward: &AtomicU64, silence: Duration) {
    let mut before = None;
    loop {
        let now = (inward.load(Relaxed), outward.load(Relaxed));
        if before == Some(now) {
            return;
        }
        before = Some(now);
        tokio::time::sleep(silence).await;
    }
}
